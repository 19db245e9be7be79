package featurestore

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/s2"

	"dreamfeed/internal/alloctest"
	"dreamfeed/internal/change"
	"dreamfeed/internal/history"
)

// sampleBackup is the header of a backup in which nothing is random.
func sampleBackup() *Backup {
	return &Backup{
		ID: BackupID{1, 2, 3}, Created: time.Date(2026, 11, 22, 3, 4, 5, 0, time.UTC), StoreFormat: 1, Definition: "h1",
		Watermark: Watermark{Incarnation: 9, Sequence: 7, Epoch: 1, Origin: change.Origin{System: 77, Timeline: 1}, Last: 300, Version: 300, EndLSN: 30, Birth: 100},
		Catalog: &catalog{Definition: "h1", Entities: []string{"user"}, Tables: []catalogTable{
			{Table: history.Table{ID: 1, Name: "users", Entity: "user", Key: []string{"id"}, Columns: []string{"id", "name"}}, By: "id"},
		}},
	}
}

// writtenBackup is a backup of the entries given as key, value, key, value.
func writtenBackup(t testing.TB, info *Backup, entries ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := newBackupWriter(&b)
	if err := w.begin(info); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(entries); i += 2 {
		if err := w.add([]byte(entries[i]), []byte(entries[i+1]), byte(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.end(); err != nil {
		t.Fatal(err)
	}
	if w.counts.File != uint64(b.Len()) {
		t.Errorf("the writer counts %d bytes of %d", w.counts.File, b.Len())
	}
	return b.Bytes()
}

// readBackup reads a backup to its end.
func readBackup(data []byte) (entries []string, err error) {
	r, err := newBackupReader("x", bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	for {
		more, err := r.next()
		if err != nil || !more {
			return entries, err
		}
		entries = append(entries, string(r.key), string(r.value))
	}
}

var sampleEntries = []string{
	"\x00catalog", "{}", "\x00state", "{}", "\x10\x01abc", "one", "\x10\x01abcd", "", "\x10\x01b", strings.Repeat("long ", 200_000), "\x50z", "\x00",
}

// TestBackupGolden pins the bytes of a backup. A difference needs a new format
// number, and a reader of the one before.
func TestBackupGolden(t *testing.T) {
	got := hex.Dump(writtenBackup(t, sampleBackup(), append(sampleEntries[:8:8], "\x10\x01b", "short", "\x50z", "\x00")...))
	path := filepath.Join("testdata", "backup.golden")
	if flag.Lookup("update").Value.String() == "true" {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("the format of backups changed (-want +got):\n%s", diff)
	}
}

func TestBackupComesBackAsItWasWritten(t *testing.T) {
	got, err := readBackup(writtenBackup(t, sampleBackup(), sampleEntries...))
	if err != nil {
		t.Fatal(err)
	}
	if !cmp.Equal(sampleEntries, got) {
		t.Error("other entries come back")
	}
	wide := sampleBackup() // its header takes several frames
	for i := range 5000 {
		wide.Catalog.Tables[0].Columns = append(wide.Catalog.Tables[0].Columns, strings.Repeat("x", 100)+string(rune('a'+i%26)))
	}
	r, err := newBackupReader("x", bytes.NewReader(writtenBackup(t, wide)))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(wide.Catalog.Tables[0].Columns, r.info.Catalog.Tables[0].Columns); diff != "" {
		t.Error(diff)
	}
}

// No byte of a backup can be lost or changed without that being seen.
func TestEveryChangedOrMissingByteIsSeen(t *testing.T) {
	whole := writtenBackup(t, sampleBackup(), "\x00state", "{}", "\x10\x01abc", "one", "\x10\x01abcd", "two")
	check := func(what string, at int, data []byte) {
		t.Helper()
		_, err := readBackup(data)
		var damaged *BackupDamagedError
		var format *BackupFormatError
		if !errors.As(err, &damaged) && !errors.As(err, &format) {
			t.Errorf("byte %d %s: %v", at, what, err)
		}
	}
	for i := range whole {
		check("is missing, with all after it", i, whole[:i])
		for bit := range 8 {
			flipped := bytes.Clone(whole)
			flipped[i] ^= 1 << bit
			check("is another", i, flipped)
		}
	}
	check("follows", len(whole), append(bytes.Clone(whole), 0))
	check("is lost with its frame", 0, append(bytes.Clone(whole[:len(backupMagic)+4]), whole[len(whole)-frameHead-36:]...))
}

// Frames that are whole each, but are no backup together.
func TestFramesOutOfPlaceAreSeen(t *testing.T) {
	type frame struct {
		kind byte
		body []byte
	}
	header, err := json.Marshal(sampleBackup())
	if err != nil {
		t.Fatal(err)
	}
	entry := func(shared, rest, value int, tail string) []byte {
		b := binary.AppendUvarint(binary.AppendUvarint(binary.AppendUvarint(nil, uint64(shared)), uint64(rest)), uint64(value))
		return s2.Encode(nil, append(append(b, 0), tail...))
	}
	without := func(change func(*Backup)) []byte {
		b := sampleBackup()
		change(b)
		text, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	good := entry(0, 1, 0, "k")
	for name, frames := range map[string][]frame{
		"no header":                     {{backupData, good}},
		"a header that is not JSON":     {{backupHeader, []byte("{")}},
		"a header without id":           {{backupHeader, without(func(b *Backup) { b.ID = BackupID{} })}},
		"a header without catalog":      {{backupHeader, without(func(b *Backup) { b.Catalog = nil })}},
		"a header after entries":        {{backupHeader, header}, {backupData, good}, {backupHeader, header}},
		"an unknown frame":              {{backupHeader, header}, {'Q', nil}},
		"a frame of no entries":         {{backupHeader, header}, {backupData, s2.Encode(nil, nil)}},
		"entries that are no block":     {{backupHeader, header}, {backupData, []byte{0xff, 0xff, 0xff, 0xff}}},
		"the same key again":            {{backupHeader, header}, {backupData, good}, {backupData, entry(1, 0, 0, "")}},
		"a lower key":                   {{backupHeader, header}, {backupData, good}, {backupData, entry(0, 1, 0, "j")}},
		"a key that is badly shared":    {{backupHeader, header}, {backupData, good}, {backupData, entry(0, 2, 0, "ka")}},
		"more shared than there is":     {{backupHeader, header}, {backupData, entry(1, 1, 0, "k")}},
		"a key above the limit":         {{backupHeader, header}, {backupData, entry(0, maxBackupKey+1, 0, "k")}},
		"a value above the limit":       {{backupHeader, header}, {backupData, entry(0, 1, maxBackupValue+1, "k")}},
		"an end in the middle":          {{backupHeader, header}, {backupData, entry(0, 1, 5, "kv")}},
		"an end in the middle of a key": {{backupHeader, header}, {backupData, entry(0, 9, 5, "kv")}},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			w := newBackupWriter(&b)
			if err := w.write(binary.LittleEndian.AppendUint32([]byte(backupMagic), backupFormat)); err != nil {
				t.Fatal(err)
			}
			for _, f := range frames {
				if err := w.send(append(w.open(f.kind), f.body...)); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.end(); err != nil {
				t.Fatal(err)
			}
			_, err := readBackup(b.Bytes())
			var damaged *BackupDamagedError
			if !errors.As(err, &damaged) {
				t.Errorf("it is read: %v", err)
			}
		})
	}
}

func TestNewerFormatsAreNamed(t *testing.T) {
	file := writtenBackup(t, sampleBackup())
	file[len(backupMagic)] = 2
	newer := sampleBackup()
	newer.StoreFormat = Format + 1
	for name, data := range map[string][]byte{"of the file": file, "of the store": writtenBackup(t, newer)} {
		_, err := readBackup(data)
		var format *BackupFormatError
		if !errors.As(err, &format) || format.Have != 2 || !strings.Contains(err.Error(), "use a newer program") {
			t.Errorf("a newer format %s: %v", name, err)
		}
	}
}

// Whatever a backup claims, what is allocated for it is bounded by what is there.
func TestBackupAllocatesForWhatIsThereNotForWhatIsClaimed(t *testing.T) {
	whole := writtenBackup(t, sampleBackup(), "k", "v")
	huge := binary.LittleEndian.AppendUint32(bytes.Clone(whole[:12]), 1<<32-1)
	claim := s2.Encode(nil, append(binary.AppendUvarint([]byte{0, 1}, maxBackupValue), "\x00kv"...))
	var b bytes.Buffer
	w := newBackupWriter(&b)
	if err := w.begin(sampleBackup()); err != nil {
		t.Fatal(err)
	}
	if err := w.send(append(w.open(backupData), claim...)); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"a frame of 4 GiB": append(huge, whole[16:]...), "a value of 64 MiB": b.Bytes()} {
		const limit = 2 << 20 // a frame, its entries, and the buffer of the file
		if got := alloctest.Bytes(func() {
			if _, err := readBackup(data); err == nil {
				t.Errorf("%s: no error", name)
			}
		}); got > limit {
			t.Errorf("%s: %d bytes are allocated for %d", name, got, len(data))
		}
	}
}

func FuzzBackup(f *testing.F) {
	f.Add(writtenBackup(f, sampleBackup(), sampleEntries[:8]...))
	f.Add(writtenBackup(f, sampleBackup()))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := newBackupReader("x", bytes.NewReader(data))
		if err != nil {
			return
		}
		var last []byte
		for {
			more, err := r.next()
			if err != nil {
				return
			}
			if !more {
				break
			}
			if bytes.Compare(r.key, last) <= 0 {
				t.Fatalf("key %x comes after %x", r.key, last)
			}
			last = append(last[:0], r.key...)
		}
		if r.counts.File != uint64(len(data)) {
			t.Fatalf("%d bytes of %d make a whole backup", r.counts.File, len(data))
		}
	})
}

// FuzzBackupEntries gives the decoder entries in frames that are whole.
func FuzzBackupEntries(f *testing.F) {
	f.Add([]byte{0, 1, 0, 0, 'k', 1, 1, 2, 0, 'l', 'v', 'w'})
	f.Add([]byte{0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) == 0 {
			return
		}
		var b bytes.Buffer
		w := newBackupWriter(&b)
		if err := w.begin(sampleBackup()); err != nil {
			t.Fatal(err)
		}
		if err := w.put(data); err != nil {
			t.Fatal(err)
		}
		if err := w.end(); err != nil {
			t.Fatal(err)
		}
		entries, err := readBackup(b.Bytes())
		if err != nil {
			return // the counts are never right: nothing was added
		}
		t.Fatalf("%d entries that were never counted make a backup", len(entries)/2)
	})
}

// An increment is refused on a base of which the store cannot say that it came
// after it.
func TestIncrementsAreRefusedOnOtherHistories(t *testing.T) {
	stored := func(change func(*Backup)) *Backup {
		b := sampleBackup()
		b.Watermark.Version = 400
		if change != nil {
			change(b)
		}
		return b
	}
	was := history.Gap{From: 320, To: 350}
	other := change.Origin{System: 78, Timeline: 1}
	closed := func(from, to change.Version, epoch change.Epoch, origin change.Origin) gap {
		return gap{Gap: history.Gap{From: from, To: to}, Epoch: epoch, Origin: origin}
	}
	first := change.Origin{System: 77, Timeline: 1}
	anew := func(b *Backup) { b.Watermark.Epoch, b.Watermark.Origin = 2, other }
	for name, c := range map[string]struct {
		store, base func(*Backup)
		floor       change.Version
		want        string // of the error; "" if there is none
	}{
		"the same history":                        {},
		"a floor at the base":                     {floor: 300},
		"history after the base was removed":      {floor: 301, want: "was removed since"},
		"another store's":                         {base: func(b *Backup) { b.Watermark.Birth++ }, want: "of another store"},
		"a base that is newer than the store":     {base: func(b *Backup) { b.Watermark.Version = 401 }, want: "goes up to"},
		"another format":                          {base: func(b *Backup) { b.StoreFormat = 0 }, want: "format"},
		"an epoch that began since":               {store: func(b *Backup) { anew(b); b.Gaps = []gap{closed(was.From, was.To, 1, first)} }},
		"an epoch that began since, still open":   {store: func(b *Backup) { anew(b); b.Gaps = []gap{closed(was.From, 0, 1, first)} }},
		"an epoch that began before the base":     {store: func(b *Backup) { anew(b); b.Gaps = []gap{closed(250, 260, 1, first)} }, want: "begun anew"},
		"another epoch without a gap":             {store: anew, want: "begun anew"},
		"a gap that the store does not have":      {base: func(b *Backup) { b.Gaps = []gap{closed(200, 210, 0, first)} }, want: "begun anew"},
		"a gap that is open in the base":          {store: func(b *Backup) { anew(b); b.Gaps = []gap{closed(290, 350, 1, first)} }, base: func(b *Backup) { anew(b); b.Gaps = []gap{closed(290, 0, 1, first)} }},
		"an open gap that the store closed early": {store: func(b *Backup) { anew(b); b.Gaps = []gap{closed(290, 299, 1, first)} }, base: func(b *Backup) { anew(b); b.Gaps = []gap{closed(290, 0, 1, first)} }, want: "begun anew"},
		"an epoch of another server":              {base: func(b *Backup) { b.Watermark.Origin = other }, want: "begun anew"},
		"a table that the store lacks": {base: func(b *Backup) {
			b.Catalog.Tables = append(b.Catalog.Tables, catalogTable{Table: history.Table{ID: 2, Name: "x"}})
		}, want: "tables or columns"},
		"a column at another place": {base: func(b *Backup) { b.Catalog.Tables[0].Columns = []string{"id", "mail"} }, want: "tables or columns"},
		"a table that came since": {store: func(b *Backup) {
			b.Catalog.Tables = append(b.Catalog.Tables, catalogTable{Table: history.Table{ID: 2, Name: "x"}})
		}},
		"no catalog": {base: func(b *Backup) { b.Catalog = nil }, want: "not complete"},
	} {
		t.Run(name, func(t *testing.T) {
			base := sampleBackup()
			if c.base != nil {
				c.base(base)
			}
			err := stored(c.store).continues(base, c.floor)
			var refused *BackupBaseError
			switch {
			case c.want == "" && err != nil:
				t.Errorf("it is refused: %v", err)
			case c.want != "" && (!errors.As(err, &refused) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "take a full backup")):
				t.Errorf("%v, want a refusal that says %q and what to do", err, c.want)
			}
		})
	}
}

// What a store says when a backup of it cannot be had comes over the wire as it is.
func TestRefusedBaseCrossesTheWire(t *testing.T) {
	refused := &BackupBaseError{Base: BackupID{7}, What: "so"}
	text, err := json.Marshal(encodeWireError(refused))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(error(refused), decodeWireError(text)); diff != "" {
		t.Error(diff)
	}
}

// A merge takes each key once, from the newest backup that has it; what changes in
// place from the newest of all; and what was open when a base was taken from what
// came after it, of which nothing may be left. What is ahead of the newest one's
// watermark comes again, and is left out.
func TestMergeTakesTheNewestOfEachKey(t *testing.T) {
	row := func(id string, v change.Version) string {
		return string(appendSuffix(appendRowPrefix(nil, appendID([]byte{1}, []byte(id)), 1, appendID(nil, []byte(id))), v, 0))
	}
	locator := func(id string, v change.Version) string {
		return string(appendSuffix(appendLocatorPrefix(nil, 1, appendID(nil, []byte(id))), v, 0))
	}
	void := func(v change.Version) string { return string(voidKey(v)) }
	sample := func(v change.Version) string { return string(sampleKey(v)) }
	found := func(v change.Version, id string) string { return string(appendSeenPrefix(nil, v)) + id }
	files := [][]string{ // closed up to 300, 400 and 500
		{
			"\x00a", "old", "\x00gone", "old", row("a", 310), "given up", row("a", 300), "old", row("b", 310), "old", row("b", 200), "old",
			locator("b", 310), "given up", string(truncateKey(1, 310, 1)), "given up", sample(300), "old", sample(200), "old", found(290, "m"), "old",
		},
		{"\x00a", "mid", row("a", 410), "given up", row("b", 310), "mid", row("c", 400), "mid", void(410), "old", sample(300), "mid"},
		{"\x00a", "new", row("b", 500), "new", row("c", 510), "ahead", row("c", 410), "new", void(510), "ahead", found(490, "n"), "new", found(510, "n"), "ahead"},
	}
	var readers []*backupReader
	for i, entries := range files {
		info := sampleBackup()
		info.Watermark.Version += change.Version(100 * i)
		info.Watermark.Last = info.Watermark.Version
		r, err := newBackupReader("x", bytes.NewReader(writtenBackup(t, info, entries...)))
		if err != nil {
			t.Fatal(err)
		}
		readers = append(readers, r)
	}
	m, err := newMerge(readers)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for {
		r, err := m.next()
		if err != nil {
			t.Fatal(err)
		}
		if r == nil {
			break
		}
		got = append(got, string(r.key), string(r.value))
		if _, err := m.pass(r); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{
		"\x00a", "new", row("a", 300), "old", row("b", 500), "new", row("b", 310), "mid", row("b", 200), "old",
		row("c", 410), "new", row("c", 400), "mid", sample(300), "mid", sample(200), "old", found(490, "n"), "new",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, r := range readers {
		if !r.ended {
			t.Error("a backup was not read to its end, where its checksum stands")
		}
	}
}

func TestDrainEndsWithItsContext(t *testing.T) {
	r, err := newBackupReader("x", bytes.NewReader(writtenBackup(t, sampleBackup(), "k", "v")))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.drain(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}
