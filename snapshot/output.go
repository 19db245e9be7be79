package snapshot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"dreamfeed/snapshot/parquetfile"
	"dreamfeed/snapshot/spill"
)

// output is a data file.
type output struct {
	name   string // of the split, train or test, or features
	file   string // base name
	handle *os.File
	hash   hash.Hash
	size   int64
	writer *parquetfile.Writer
	rows   int64
	digest [sha256.Size]byte
}

// Write counts and hashes what goes to the file.
func (o *output) Write(p []byte) (int, error) {
	n, err := o.handle.Write(p)
	o.hash.Write(p[:n])
	o.size += int64(n)
	return n, err
}

func (o *output) sha256() string { return hex.EncodeToString(o.hash.Sum(nil)) }

// newOutput makes a data file for some rows; workers of its row groups are
// encoded at once.
func (b *build) newOutput(name string, rows int64, workers int, s *staging) (*output, error) {
	o := &output{name: name, file: fmt.Sprintf("%s_v%s.parquet", name, b.Version), hash: sha256.New()}
	var err error
	if o.handle, err = os.OpenFile(s.path(o.file), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644); err != nil {
		return nil, fmt.Errorf("write %s: %w", o.file, err)
	}
	columns := make([]parquetfile.Column, len(b.plan.columns))
	for i := range b.plan.columns {
		columns[i] = b.plan.columns[i].file
	}
	o.writer, err = parquetfile.New(io.Writer(o), parquetfile.Options{
		Name: b.Definition.Name, Columns: columns, Sorted: b.plan.sorted(),
		Program: programName, Version: b.Program, Workers: workers, Rows: rows,
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("write %s: %w", o.file, err), o.handle.Close())
	}
	return o, nil
}

// sorted are the columns that record the order of the rows: (user, time, id),
// as far as they are shown.
func (p *plan) sorted() []string {
	var user, id string
	for i := range p.columns {
		switch c := &p.columns[i]; {
		case c.origin == entityPseudonym && user == "":
			user = c.name
		case c.origin == idPseudonym && id == "":
			id = c.name
		}
	}
	switch {
	case user == "":
		return nil
	case p.timeColumn == "":
		return []string{user}
	case id == "":
		return []string{user, p.timeColumn}
	}
	return []string{user, p.timeColumn, id}
}

// finish writes what is left and syncs the file. metadata is called with the
// digest when all rows are in.
func (o *output) finish(ctx context.Context, metadata func(digest string) map[string]string) error {
	var err error
	o.rows = o.writer.Rows()
	if o.digest, err = o.writer.Finish(ctx); err != nil {
		return fmt.Errorf("write %s: %w", o.file, err)
	}
	pairs := metadata(hex.EncodeToString(o.digest[:]))
	for _, key := range sortedKeys(pairs) {
		o.writer.SetMetadata(key, pairs[key])
	}
	if err := o.writer.Close(); err != nil {
		return fmt.Errorf("write %s: %w", o.file, err)
	}
	if err := o.handle.Sync(); err != nil {
		return fmt.Errorf("write %s: %w", o.file, err)
	}
	h := o.handle
	o.handle = nil
	if err := h.Close(); err != nil {
		return fmt.Errorf("write %s: %w", o.file, err)
	}
	return nil
}

// abort lets an unfinished file go. It may be called after finish.
func (o *output) abort() {
	o.writer.Abort()
	if o.handle != nil {
		// The directory is about to be removed: there is nothing to save.
		_ = o.handle.Close()
	}
}

// rowKinds are the kinds of the output columns.
func (p *plan) rowKinds() []spill.Kind {
	kinds := make([]spill.Kind, len(p.columns))
	for i := range p.columns {
		kinds[i] = p.columns[i].file.Type.Kind()
	}
	return kinds
}
