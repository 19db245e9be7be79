package featurestore_test

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
)

// allocated is what du says of a directory: blocks, not sizes, since Badger maps
// files that are larger than what they hold.
func allocated(t testing.TB, dir string) (bytes int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			if os.IsNotExist(err) {
				return nil // merged away meanwhile
			}
			return err
		}
		info, err := d.Info()
		if err != nil {
			if os.IsNotExist(err) {
				return nil
			}
			return err
		}
		bytes += info.Sys().(*syscall.Stat_t).Blocks * 512
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}

// overwrites makes batches that write every one of n users anew, at a version,
// with values that do not compress.
func overwrites(r *rand.Rand, f *feed, kind change.Kind, v change.Version, n, size int, yield func(*change.Batch)) change.Version {
	const each = 500
	rel := relations()["users"]
	for from := 0; from < n; from += each {
		var rows []change.Row
		for i := from; i < min(from+each, n); i++ {
			noise := make([]byte, 0, size+8)
			for len(noise) < size {
				noise = binary.LittleEndian.AppendUint64(noise, r.Uint64())
			}
			row := insert(rel, uint32(len(rows)), map[string]string{"id": strconv.Itoa(i), "big": string(noise[:size])})
			if kind == change.Live {
				row.Op = change.Update
			}
			rows = append(rows, row)
		}
		if from == 0 || kind == change.Live {
			v += 1000
			f.transaction(kind, v, rows, 1, false)
		} else {
			f.transaction(change.Live, v+change.Version(from), rows, 1, false)
		}
		yield(f.batches[len(f.batches)-1])
		f.batches = f.batches[:0]
	}
	return f.last
}

// TestSpaceIsGivenBack: after ten overwrites of every row the directory takes at
// most twice the bytes of the versions that are kept, those of rows of 1600 bytes
// that do not compress.
func TestSpaceIsGivenBack(t *testing.T) {
	r := seed(t)
	rows := 40_000
	if s := os.Getenv("DREAMFEED_SPACE_ROWS"); s != "" {
		var err error
		if rows, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	const rowBytes = 1580
	dir := t.TempDir()
	s := open(t, dir, featurestore.Options{Memory: 48 << 20})
	f := newFeed()
	one := func(b *change.Batch) { apply(t, s, b) }
	v := overwrites(r, f, change.Backfill, 1_700_000_000_000_000, rows, rowBytes, one)
	var sweeping time.Duration
	for i := range 10 {
		v = overwrites(r, f, change.Live, v+hour, rows, rowBytes, one)
		if i%2 == 0 {
			continue
		}
		began := time.Now()
		swept := sweep(t, s, s.Watermark().Version-1)
		sweeping += time.Since(began)
		if swept.Versions < uint64(rows)*19/10 {
			t.Errorf("overwrite %d: %d versions were removed of %d rows", i, swept.Versions, rows)
		}
		t.Logf("overwrite %d: %d MB, pass %s, with the merge %s", i, allocated(t, dir)>>20, swept.Took, time.Since(began))
	}
	kept, err := s.KeptBytes()
	if err != nil {
		t.Fatal(err)
	}
	taken := allocated(t, dir)
	text := fmt.Sprintf("%d rows: %.1f MB are kept, the directory takes %.1f MB, %.2f times as much; the passes took %s",
		rows, float64(kept)/1e6, float64(taken)/1e6, float64(taken)/float64(kept), sweeping)
	t.Log(text)
	if kept < 60e6 && rows >= 40_000 {
		t.Errorf("too little is kept to prove anything")
	}
	if taken > 2*kept {
		t.Error(text)
	}
}
