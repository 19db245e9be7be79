package featurestore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
	"dreamfeed/internal/durable"
)

// chain are a full backup and increments on each other, of one store.
func chain(t *testing.T, increments int) (s *featurestore.Store, files []string) {
	t.Helper()
	g := newGenerator(seed(t))
	g.step(change.Backfill)
	s = open(t, t.TempDir(), featurestore.Options{})
	apply(t, s, g.f.batches...)
	files = []string{backUp(t, s, "")}
	for range increments {
		from := len(g.f.batches)
		for range 5 {
			g.step(change.Live)
		}
		apply(t, s, g.f.batches[from:]...)
		files = append(files, backUp(t, s, files[len(files)-1]))
	}
	return s, files
}

// nothingIn requires that a directory holds what it held before.
func nothingIn(t *testing.T, dir string, but ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if diff := cmp.Diff(but, names); diff != "" {
		t.Errorf("the directory differs from what was there before:\n%s", diff)
	}
}

func TestFilesThatAreNoChainAreRefused(t *testing.T) {
	_, files := chain(t, 3)
	_, others := chain(t, 1)
	dir := t.TempDir()
	cut := filepath.Join(dir, "cut")
	data, err := os.ReadFile(files[1])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cut, data[:len(data)-1], 0o600); err != nil {
		t.Fatal(err)
	}
	flipped := filepath.Join(dir, "flipped")
	data[len(data)/2] ^= 1
	if err := os.WriteFile(flipped, data, 0o600); err != nil {
		t.Fatal(err)
	}
	var broken *featurestore.BackupChainError
	var damaged *featurestore.BackupDamagedError
	for name, c := range map[string]struct {
		files []string
		as    any
		says  string
	}{
		"an increment first":        {files[1:], &broken, "cannot stand first"},
		"a missing increment":       {[]string{files[0], files[2]}, &broken, "none left out"},
		"the wrong order":           {[]string{files[0], files[2], files[1]}, &broken, "in the order"},
		"a file twice":              {[]string{files[0], files[0]}, &broken, "continues none"},
		"an increment twice":        {[]string{files[0], files[1], files[1]}, &broken, "given twice"},
		"another store's increment": {[]string{files[0], others[1]}, &broken, "continues backup"},
		"a cut file":                {[]string{files[0], cut}, &damaged, "another copy"},
		"a changed file":            {[]string{files[0], flipped, files[2]}, &damaged, "another copy"},
		"a file that is none":       {[]string{os.Args[0]}, &damaged, "does not begin as a backup"},
	} {
		t.Run(name, func(t *testing.T) {
			data := t.TempDir()
			_, err := featurestore.Restore(t.Context(), filepath.Join(data, "store"), featurestore.RestoreOptions{DiskReserve: 1}, c.files...)
			if err == nil || !errors.As(err, c.as) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("restore: %v, want a %T that says %q", err, c.as, c.says)
			}
			nothingIn(t, data)
			if _, _, err := featurestore.VerifyBackup(t.Context(), c.files...); err == nil || !errors.As(err, c.as) {
				t.Errorf("verify: %v", err)
			}
		})
	}
	if _, counts, err := featurestore.VerifyBackup(t.Context(), files...); err != nil || len(counts) != 4 || counts[0].Rows == 0 {
		t.Errorf("verify a whole chain: %+v, %v", counts, err)
	}
}

func TestRestoreReplacesNoStore(t *testing.T) {
	_, files := chain(t, 0)
	data := t.TempDir()
	dir := filepath.Join(data, "store")
	if err := os.Mkdir(dir, 0o700); err != nil { // an empty one is none
		t.Fatal(err)
	}
	o := featurestore.RestoreOptions{Memory: 48 << 20, DiskReserve: 1}
	if _, err := featurestore.Restore(t.Context(), dir, o, files...); err != nil {
		t.Fatal(err)
	}
	before := everything(t, dir)
	var exists *featurestore.RestoreExistsError
	if _, err := featurestore.Restore(t.Context(), dir, o, files...); !errors.As(err, &exists) || !strings.Contains(err.Error(), "--data-dir") {
		t.Errorf("restore over a store: %v", err)
	}
	sameKeys(t, before, everything(t, dir))
	nothingIn(t, data, "store")

	other := t.TempDir()
	o.DiskReserve = 1 << 60
	if _, err := featurestore.Restore(t.Context(), filepath.Join(other, "store"), o, files...); !errors.Is(err, featurestore.ErrDiskReserve) {
		t.Errorf("restore to a full disk: %v", err)
	}
	nothingIn(t, other)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := featurestore.Restore(ctx, filepath.Join(other, "store"), featurestore.RestoreOptions{DiskReserve: 1}, files...); !errors.Is(err, context.Canceled) {
		t.Errorf("restore that was interrupted: %v", err)
	}
	nothingIn(t, other)
}

// Whichever durable step fails, a restore leaves nothing or the whole store, and
// what a killed one left is no obstacle for the next.
func TestFailedRestoreLeavesNothing(t *testing.T) {
	s, files := chain(t, 1)
	want := dump(t, view(t, s, 0), 1)
	failed := errors.New("injected")
	for k, done := 0, false; !done; k++ {
		data := t.TempDir()
		dir := filepath.Join(data, "store")
		left := dir + ".restoring" // of a killed one
		if err := os.MkdirAll(left, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(left, "MANIFEST"), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		n := 0
		var last durable.Step
		o := featurestore.RestoreOptions{Memory: 48 << 20, DiskReserve: 1, Hook: func(step durable.Step, _ uint64) error {
			if n++; n == k+1 {
				last = step
				return failed
			}
			return nil
		}}
		_, err := featurestore.Restore(t.Context(), dir, o, files...)
		switch {
		case err == nil:
			done = true
		case !errors.Is(err, failed):
			t.Fatalf("step %d, %s: %v", k, last, err)
		case k == 0: // the left-over could not be removed
			nothingIn(t, data, "store.restoring")
			continue
		case n == k+1 && last == durable.SyncDirectory && exists(dir):
			nothingIn(t, data, "store") // whole, and named; a power cut may still take the name
		default:
			nothingIn(t, data)
			continue
		}
		sameRows(t, want, dump(t, view(t, open(t, dir, featurestore.Options{ReadOnly: true}), 0), 1))
		if k < 6 {
			t.Errorf("only %d durable steps", k)
		}
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func TestBackupFileIsPrivateWholeAndNew(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "backup")
	if err := os.WriteFile(path+".partial", []byte("a killed one's half, longer than the whole"), 0o644); err != nil {
		t.Fatal(err)
	}
	var steps []durable.Step
	note := func(s durable.Step, _ uint64) error { steps = append(steps, s); return nil }
	write := func(w io.Writer) error {
		if err := featurestore.WriteBackup(path, nil, func(io.Writer) error { return nil }); err == nil || !strings.Contains(err.Error(), "another backup is being written") {
			t.Errorf("two write the same file: %v", err)
		}
		_, err := io.WriteString(w, "whole")
		return err
	}
	if err := featurestore.WriteBackup(path, note, write); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]durable.Step{durable.WriteFile, durable.SyncFile, durable.RenameFile, durable.SyncDirectory}, steps); diff != "" {
		t.Error(diff)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 || info.Size() != 5 {
		t.Errorf("%v, %v: want five bytes with mode 0600", info, err)
	}
	var there *featurestore.BackupExistsError
	if err := featurestore.WriteBackup(path, nil, write); !errors.As(err, &there) {
		t.Errorf("a file that exists: %v", err)
	}
	failed := errors.New("injected")
	if err := featurestore.WriteBackup(path+"2", nil, func(w io.Writer) error {
		_, _ = io.WriteString(w, "half") // what counts is the error
		return failed
	}); !errors.Is(err, failed) {
		t.Errorf("a backup that fails: %v", err)
	}
	for k := range 4 {
		n := 0
		err := featurestore.WriteBackup(path+"3", func(durable.Step, uint64) error {
			if n++; n == k+1 {
				return failed
			}
			return nil
		}, func(io.Writer) error { return nil })
		if !errors.Is(err, failed) {
			t.Errorf("step %d: %v", k, err)
		}
	}
	nothingIn(t, dir, "backup")
}

// remoteBackup asks a daemon for a backup.
func remoteBackup(t *testing.T, addr, token string, base *featurestore.Backup) ([]byte, *featurestore.Backup, error) {
	t.Helper()
	client := featurestore.Endpoint{Address: addr, Token: token}.Client()
	defer client.Close()
	var b bytes.Buffer
	info, _, err := client.Backup(t.Context(), &b, base)
	return b.Bytes(), info, err
}

func TestBackupOverHTTPIsTheSame(t *testing.T) {
	s, files := chain(t, 1)
	addr := serve(t, featurestore.NewHandler(s, token))
	base, _, err := featurestore.ReadBackup(t.Context(), files[0])
	if err != nil {
		t.Fatal(err)
	}
	data, info, err := remoteBackup(t, addr, token, base)
	if err != nil {
		t.Fatal(err)
	}
	if !info.Increment() || info.Base != base.ID {
		t.Errorf("%+v is no increment on %s", info, base.ID)
	}
	file := filepath.Join(t.TempDir(), "increment")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	sameKeys(t, everything(t, restored(t, files...)), everything(t, restored(t, files[0], file)))

	if _, _, err := remoteBackup(t, addr, "wrong", nil); !errors.Is(err, featurestore.ErrToken) {
		t.Errorf("a wrong token: %v", err)
	}
	base.Watermark.Birth++
	var refused *featurestore.BackupBaseError
	if data, _, err := remoteBackup(t, addr, token, base); !errors.As(err, &refused) || len(data) > 0 {
		t.Errorf("another store's base: %d bytes, %v", len(data), err)
	}
	empty := serve(t, featurestore.NewHandler(open(t, t.TempDir(), featurestore.Options{}), token))
	if _, _, err := remoteBackup(t, empty, token, nil); !errors.Is(err, featurestore.ErrEmpty) {
		t.Errorf("a backup of nothing: %v", err)
	}
}

func TestCutBackupIsSeen(t *testing.T) {
	s, _ := chain(t, 2)
	whole, _, err := remoteBackup(t, serve(t, featurestore.NewHandler(s, token)), token, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 5, 100, len(whole) / 2, len(whole) - 1} {
		addr := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(whole[:n])
			panic(http.ErrAbortHandler) // cuts the connection
		}))
		if _, _, err := remoteBackup(t, addr, token, nil); !errors.Is(err, featurestore.ErrBackupCut) {
			t.Errorf("cut after %d bytes of %d: %v", n, len(whole), err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := remoteBackup(t, serve(t, featurestore.NewHandler(s, token)), token, nil); !errors.Is(err, featurestore.ErrBackupCut) {
		t.Errorf("a store that is closed: %v", err)
	}
}

// Who asks for a backup and does not take it away holds up nothing for ever: the
// database's transaction ends with the patience of the handler.
func TestStalledReaderEndsTheBackup(t *testing.T) {
	f, rel := newFeed(), relations()["users"]
	r := seed(t)
	var rows []change.Row
	for i := range 400 { // 8 MiB that cannot be compressed
		var big strings.Builder
		for range 2500 {
			fmt.Fprintf(&big, "%08x", r.Uint32())
		}
		rows = append(rows, insert(rel, uint32(i), map[string]string{"id": fmt.Sprint(i), "big": big.String()}))
	}
	f.transaction(change.Backfill, 1000, rows, 1, false)
	s := open(t, t.TempDir(), featurestore.Options{})
	apply(t, s, f.batches...)
	ended := make(chan struct{})
	serving := featurestore.BackupHandler(s, 100*time.Millisecond)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		serving.ServeHTTP(w, r)
	}))
	server.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if err := c.(*net.TCPConn).SetWriteBuffer(4096); err != nil {
			t.Error(err)
		}
		return ctx
	}
	server.Start()
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.(*net.TCPConn).SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "POST /v1/backup HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(60 * time.Second):
		t.Fatal("the backup is still held after 60 s, with a patience of 100 ms")
	}
}
