package featurestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"dreamfeed/internal/durable"
)

// RestoreOptions configure Restore. The zero value of each means its default.
type RestoreOptions struct {
	Logger *slog.Logger
	// Memory is the budget of Options.Memory, for the store that is written.
	Memory int64
	// DiskReserve is the free space in bytes below which a restore gives up, 256
	// MiB by default: a full disk would end the process.
	DiskReserve uint64
	// Hook is told of every durable step; nil for none.
	Hook durable.Hook
}

// restoring is what the name of a store's directory ends in until it is whole.
const restoring = ".restoring"

// Unrestored says whether the directory dir of a store has none, but one beside it
// of a restore that was killed, or is still running.
func Unrestored(dir string) bool {
	if vacant(dir) != nil {
		return false
	}
	_, err := os.Lstat(dir + restoring)
	return err == nil
}

const (
	defaultRestoreReserve = 256 << 20
	// maxBackupFiles bounds the files of a restore, each of which takes up to a MiB
	// of memory and an open file.
	maxBackupFiles = 128
)

// Restore makes a store in dir, which must not exist or be empty, of a full
// backup and its increments, oldest first. The store lies beside it, as
// dir.restoring, until all files are read and found whole, it is synced, and it
// was opened once; then it gets its name. Whatever goes wrong before, and a kill
// or a power cut at any moment, leaves no store in dir. What a killed restore
// left beside it is removed by the next one.
//
// It returns what the newest backup is of. The store holds what the original
// held then, and what was removed there between the full backup and the last
// increment, below the retention floor. Errors for a caller to tell apart:
// *RestoreExistsError, *LockedError (another restore is under way),
// *BackupDamagedError, *BackupFormatError, *BackupChainError.
func Restore(ctx context.Context, dir string, o RestoreOptions, files ...string) (info *Backup, err error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.DiskReserve == 0 {
		o.DiskReserve = defaultRestoreReserve
	}
	if err := vacant(dir); err != nil {
		return nil, err
	}
	readers, closeFiles, err := openBackups(files)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closeFiles()) }()
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o750); err != nil {
		return nil, fmt.Errorf("restore a store: make its directory: %w", err)
	}
	unlock, err := lockRestore(parent)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if err := vacant(dir); err != nil { // again, now that nobody else restores
		return nil, err
	}
	beside := dir + restoring
	if err := discard(beside, o.Hook); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(beside))
		}
	}()
	info = readers[len(readers)-1].info
	if err := writeRestored(ctx, beside, o, readers); err != nil {
		return nil, err
	}
	if err := syncTree(beside, o.Hook); err != nil {
		return nil, fmt.Errorf("sync the restored store: %w", err)
	}
	if err := tryRestored(beside, o, info); err != nil {
		return nil, err
	}
	if err := o.Hook.Before(durable.RenameFile); err != nil {
		return nil, fmt.Errorf("give the restored store its name: %w", err)
	}
	// A directory is removed only when nothing is in it, and replaced never.
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("give the restored store its name: %w", err)
	}
	if err := os.Rename(beside, dir); err != nil {
		return nil, fmt.Errorf("give the restored store its name: %w", err)
	}
	if err := durable.SyncDir(parent, o.Hook); err != nil {
		return nil, fmt.Errorf("give the restored store its name: %w", err)
	}
	return info, nil
}

// vacant refuses a directory that has something in it.
func vacant(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("restore a store: %w", err)
	case len(entries) > 0:
		return &RestoreExistsError{Dir: dir}
	}
	return nil
}

// lockRestore keeps a second restore out of the directory in which a store is
// to lie.
func lockRestore(parent string) (unlock func() error, err error) {
	f, err := os.Open(parent)
	if err != nil {
		return nil, fmt.Errorf("restore a store: %w", err)
	}
	held, err := lockFile(f, false)
	if err == nil && held {
		err = &LockedError{Dir: parent}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("restore a store: %w", err), f.Close())
	}
	return f.Close, nil
}

// discard removes what a killed restore left.
func discard(beside string, hook durable.Hook) error {
	if _, err := os.Lstat(beside); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	err := hook.Before(durable.RemoveFile)
	if err == nil {
		err = os.RemoveAll(beside)
	}
	if err != nil {
		return fmt.Errorf("remove what a restore that was ended left: %w", err)
	}
	return nil
}

// syncTree makes all files of a directory, and their names, durable.
func syncTree(dir string, hook durable.Hook) error {
	if err := hook.Before(durable.SyncFile); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		f, err := os.Open(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return durable.SyncDir(dir, hook)
}

// tryRestored opens the store as a reader does, and compares what it says of
// itself with the newest backup.
func tryRestored(dir string, o RestoreOptions, info *Backup) error {
	s, err := Open(dir, Options{ReadOnly: true, Memory: o.Memory, Logger: o.Logger})
	if err != nil {
		return fmt.Errorf("open the restored store: %w", err)
	}
	mark := s.Watermark()
	if err := s.Close(); err != nil {
		return fmt.Errorf("open the restored store: %w", err)
	}
	if mark != info.Watermark {
		return &BackupDamagedError{Name: info.ID.String(), What: "its header and its entries are of different moments"}
	}
	return nil
}

// openBackups opens files and checks that they are one chain.
func openBackups(files []string) (readers []*backupReader, closeFiles func() error, err error) {
	var opened []io.Closer
	closeAll := func() error {
		var err error
		for _, f := range opened {
			err = errors.Join(err, f.Close())
		}
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, closeAll())
		}
	}()
	switch {
	case len(files) == 0:
		return nil, nil, errors.New("restore a store: no backup is named")
	case len(files) > maxBackupFiles:
		return nil, nil, fmt.Errorf("restore a store: %d backups are named, at most %d can be restored at once: take full backups more often", len(files), maxBackupFiles)
	}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return nil, nil, fmt.Errorf("open backup: %w", err)
		}
		opened = append(opened, f)
		r, err := newBackupReader(name, f)
		if err != nil {
			return nil, nil, err
		}
		chain := &BackupChainError{Name: name, ID: r.info.ID, Base: r.info.Base}
		if len(readers) > 0 {
			chain.Before = readers[len(readers)-1].info.ID
		}
		if chain.Base != chain.Before {
			return nil, nil, chain
		}
		readers = append(readers, r)
	}
	return readers, closeAll, nil
}

// VerifyBackup reads backups that are one chain from beginning to end, and
// returns what each is of and how much it holds. Errors: those of Restore.
func VerifyBackup(ctx context.Context, files ...string) (infos []*Backup, counts []BackupCounts, err error) {
	readers, closeFiles, err := openBackups(files)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, closeFiles()) }()
	for _, r := range readers {
		if err := r.drain(ctx); err != nil {
			return nil, nil, err
		}
		infos, counts = append(infos, r.info), append(counts, r.counts)
	}
	return infos, counts, nil
}

// ReadBackup reads one backup, full or not, from beginning to end.
func ReadBackup(ctx context.Context, name string) (info *Backup, counts BackupCounts, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, BackupCounts{}, fmt.Errorf("open backup: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	r, err := newBackupReader(name, f)
	if err == nil {
		err = r.drain(ctx)
	}
	if err != nil {
		return nil, BackupCounts{}, err
	}
	return r.info, r.counts, nil
}

// drain reads the entries for the sake of their checksums.
func (b *backupReader) drain(ctx context.Context) error {
	for n := 0; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if more, err := b.next(); err != nil || !more {
			return err
		}
	}
}

// Restored says that the store was made of backups and has applied nothing since.
// PostgreSQL may have been told to forget what such a store lacks.
func (s *Store) Restored() bool { return s.published.Load().state.Restored }
