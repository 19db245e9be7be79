package parquetfile_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"

	"dreamfeed/snapshot/parquetfile"
	"dreamfeed/snapshot/spill"
)

var columns = []parquetfile.Column{
	{Name: "user", Type: parquetfile.String, Required: true},
	{Name: "at", Type: parquetfile.Timestamp, Required: true},
	{Name: "score", Type: parquetfile.Float32},
	{Name: "count", Type: parquetfile.Int32},
	{Name: "flag", Type: parquetfile.Bool},
	{Name: "id", Type: parquetfile.String, Required: true, Distinct: true},
	{Name: "city", Type: parquetfile.String},
}

func batch(r *rand.Rand, rows int) *spill.Batch {
	kinds := make([]spill.Kind, len(columns))
	for i, c := range columns {
		kinds[i] = c.Type.Kind()
	}
	b := spill.NewBatch(kinds)
	for i := range rows {
		b.Columns[0].AppendText(fmt.Sprintf("user-%06d", i/20), true)
		b.Columns[1].AppendInt(int64(i), true)
		b.Columns[2].AppendFloat([]float32{0, 1.5, -2}[r.IntN(3)], r.IntN(4) > 0)
		b.Columns[3].AppendInt(r.Int64N(3), r.IntN(4) > 0)
		b.Columns[4].AppendInt(r.Int64N(2), r.IntN(4) > 0)
		b.Columns[5].AppendText(fmt.Sprintf("%016x", r.Uint64()), true)
		// Many long texts, so that the dictionary is given up on the way.
		b.Columns[6].AppendText(fmt.Sprintf("city-%040d", r.IntN(40000)), r.IntN(4) > 0)
	}
	b.Rows = rows
	return b
}

// write writes the batch in pieces.
func write(t *testing.T, b *spill.Batch, workers int, piece func() int) ([]byte, [sha256.Size]byte) {
	t.Helper()
	var out bytes.Buffer
	w, err := parquetfile.New(&out, parquetfile.Options{
		Name: "rows", Columns: columns, Sorted: []string{"user", "at"}, Program: "test", Version: "1", Workers: workers,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	for from := 0; from < b.Rows; {
		to := min(b.Rows, from+piece())
		part := &spill.Batch{Rows: to - from}
		for i := range b.Columns {
			c := spill.Column{Kind: b.Columns[i].Kind}
			c.AppendRange(&b.Columns[i], from, to)
			part.Columns = append(part.Columns, c)
		}
		if err := w.Write(t.Context(), part); err != nil {
			t.Fatal(err)
		}
		if from = to; w.Rows() != int64(to) {
			t.Fatalf("Rows = %d, want %d", w.Rows(), to)
		}
	}
	digest, err := w.Finish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.SetMetadata("digest", fmt.Sprintf("%x", digest))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), digest
}

// TestBytesDependOnNeitherWorkersNorPieces is I6.
func TestBytesDependOnNeitherWorkersNorPieces(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	b := batch(r, 2*parquetfile.GroupRows+777)
	one, digest := write(t, b, 1, func() int { return b.Rows })
	many, again := write(t, b, 3, func() int { return 1 + r.IntN(20000) })
	if !bytes.Equal(one, many) || digest != again {
		t.Fatal("the files differ")
	}
	b.Columns[3].Ints[99_999] ^= 1
	b.Columns[3].Valid[99_999] = true
	if _, other := write(t, b, 1, func() int { return b.Rows }); other == digest {
		t.Error("the digest overlooks a changed value")
	}
}

func TestRowsReadBackAsWritten(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	b := batch(r, parquetfile.GroupRows+100)
	data, digest := write(t, b, 2, func() int { return 1000 })
	f, err := parquet.OpenFile(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	if groups := f.RowGroups(); len(groups) != 2 || groups[0].NumRows() != parquetfile.GroupRows {
		t.Errorf("%d row groups", len(f.RowGroups()))
	}
	if got, _ := f.Lookup("digest"); got != fmt.Sprintf("%x", digest) {
		t.Errorf("metadata digest %q", got)
	}
	if got := f.Metadata().CreatedBy; got != "test version 1" {
		t.Errorf("created by %q", got)
	}
	sorting := f.Metadata().RowGroups[0].SortingColumns
	if len(sorting) != 2 || sorting[0].ColumnIdx != 0 || sorting[1].ColumnIdx != 1 {
		t.Errorf("sorting columns %+v", sorting)
	}
	checkTypes(t, f)
	reader := parquet.NewReader(f)
	defer reader.Close()
	rows := make([]parquet.Row, 500)
	at := 0
	for {
		n, err := reader.ReadRows(rows)
		for _, row := range rows[:n] {
			for _, v := range row {
				c := &b.Columns[v.Column()]
				if v.IsNull() == c.Valid[at] {
					t.Fatalf("row %d column %d: null is %v", at, v.Column(), v.IsNull())
				}
				if v.IsNull() {
					continue
				}
				var same bool
				switch c.Kind {
				case spill.Float32:
					same = v.Float() == c.Floats[at]
				case spill.Text:
					same = bytes.Equal(v.ByteArray(), c.Text(at))
				case spill.Bool:
					same = v.Boolean() == (c.Ints[at] == 1)
				case spill.Int32:
					same = int64(v.Int32()) == c.Ints[at]
				default:
					same = v.Int64() == c.Ints[at]
				}
				if !same {
					t.Fatalf("row %d column %d: %v", at, v.Column(), v)
				}
			}
			at++
		}
		if err != nil {
			break
		}
	}
	if at != b.Rows {
		t.Errorf("%d rows, want %d", at, b.Rows)
	}
}

// checkTypes holds the physical types and encodings against what old readers know.
func checkTypes(t *testing.T, f *parquet.File) {
	t.Helper()
	want := []format.Type{format.ByteArray, format.Int64, format.Float, format.Int32, format.Boolean, format.ByteArray, format.ByteArray}
	for i, chunk := range f.Metadata().RowGroups[0].Columns {
		if chunk.MetaData.Type != want[i] || chunk.MetaData.PathInSchema[0] != columns[i].Name {
			t.Errorf("column %d is %v of %v, want %v", i, chunk.MetaData.PathInSchema, chunk.MetaData.Type, want[i])
		}
		for _, e := range chunk.MetaData.Encoding {
			if e != format.Plain && e != format.RLE && e != format.RLEDictionary {
				t.Errorf("column %s has encoding %v", columns[i].Name, e)
			}
		}
		if chunk.MetaData.Codec != format.Snappy {
			t.Errorf("column %s has codec %v", columns[i].Name, chunk.MetaData.Codec)
		}
	}
	if s := f.Schema().String(); !bytes.Contains([]byte(s), []byte("TIMESTAMP(isAdjustedToUTC=true,unit=MICROS)")) {
		t.Errorf("schema %s has no moment in UTC", s)
	}
}

func TestAFileWithoutRowsIsWhole(t *testing.T) {
	b := batch(rand.New(rand.NewPCG(1, 1)), 0)
	data, _ := write(t, b, 2, func() int { return 1 })
	f, err := parquet.OpenFile(bytes.NewReader(data), int64(len(data)))
	if err != nil || f.NumRows() != 0 {
		t.Fatalf("%v, %v", f, err)
	}
}

func TestANullInARequiredColumnIsAnError(t *testing.T) {
	b := batch(rand.New(rand.NewPCG(1, 1)), 10)
	b.Columns[1].Valid[3] = false
	w, err := parquetfile.New(&bytes.Buffer{}, parquetfile.Options{Name: "rows", Columns: columns})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if err := w.Write(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Finish(t.Context()); err == nil {
		t.Error("no error")
	}
}

type fullDisk struct{ left int }

var errFull = errors.New("disk is full")

func (d *fullDisk) Write(p []byte) (int, error) {
	if d.left -= len(p); d.left < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestAFullDiskIsAnError(t *testing.T) {
	b := batch(rand.New(rand.NewPCG(1, 1)), 3000)
	for _, left := range []int{0, 1000, 60_000} {
		w, err := parquetfile.New(&fullDisk{left}, parquetfile.Options{Name: "rows", Columns: columns, Workers: 2})
		if err != nil {
			t.Fatal(err)
		}
		err = w.Write(context.Background(), b)
		if err == nil {
			_, err = w.Finish(context.Background())
		}
		if err == nil {
			err = w.Close()
		}
		w.Abort()
		if !errors.Is(err, errFull) {
			t.Errorf("with %d bytes left: error %v, want %v", left, err, errFull)
		}
	}
}
