package parquetfile_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/snappy"

	"dreamfeed/snapshot/parquetfile"
	"dreamfeed/snapshot/spill"
)

// orderedColumns is a schema whose fields keep their order.
type orderedColumns struct {
	parquet.Group
	fields []parquet.Field
}

func (g *orderedColumns) Fields() []parquet.Field { return g.fields }

// reference is the file that parquet-go itself writes of the batch.
func reference(t *testing.T, columns []parquetfile.Column, sorted []string, b *spill.Batch) []byte {
	t.Helper()
	g := &orderedColumns{Group: parquet.Group{}}
	for _, c := range columns {
		var n parquet.Node
		switch c.Type {
		case parquetfile.Float32:
			n = parquet.Encoded(parquet.Leaf(parquet.FloatType), &parquet.Plain)
		case parquetfile.Int32:
			n = parquet.Encoded(parquet.Leaf(parquet.Int32Type), &parquet.Plain)
		case parquetfile.Bool:
			n = parquet.Encoded(parquet.Leaf(parquet.BooleanType), &parquet.Plain)
		case parquetfile.Timestamp:
			n = parquet.Encoded(parquet.Timestamp(parquet.Microsecond), &parquet.Plain)
		default:
			n = parquet.Encoded(parquet.String(), &parquet.RLEDictionary)
			if c.Distinct {
				n = parquet.Encoded(parquet.String(), &parquet.Plain)
			}
		}
		if n = parquet.Optional(n); c.Required {
			n = parquet.Required(n)
		}
		g.Group[c.Name] = n
	}
	byName := map[string]parquet.Field{}
	for _, f := range g.Group.Fields() {
		byName[f.Name()] = f
	}
	for _, c := range columns {
		g.fields = append(g.fields, byName[c.Name])
	}
	var order []parquet.SortingColumn
	for _, name := range sorted {
		order = append(order, parquet.Ascending(name))
	}
	config, err := parquet.NewWriterConfig(
		parquet.NewSchema("rows", g), parquet.Compression(&fastSnappy{}), parquet.DataPageVersion(1), parquet.DataPageStatistics(false),
		parquet.PageBufferSize(256<<10), parquet.MaxRowsPerRowGroup(parquetfile.GroupRows), parquet.DictionaryMaxBytes(1<<20),
		parquet.SortingWriterConfig(parquet.SortingColumns(order...)),
	)
	if err != nil {
		t.Fatal(err)
	}
	config.CreatedBy = "program version 1.2.3"
	var out bytes.Buffer
	w := parquet.NewGenericWriter[any](&out, config)
	for first := 0; first < b.Rows; first += parquetfile.GroupRows {
		end := min(b.Rows, first+parquetfile.GroupRows)
		rg := w.BeginRowGroup()
		for i, cw := range rg.ColumnWriters() {
			for from := first; from < end; from += 1024 {
				if _, err := cw.WriteRowValues(boxed(columns[i], i, &b.Columns[i], from, min(end, from+1024))); err != nil {
					t.Fatal(err)
				}
			}
		}
		if _, err := rg.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	w.SetKeyValueMetadata("aardvark", "2")
	w.SetKeyValueMetadata("zebra", "1")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func boxed(col parquetfile.Column, index int, c *spill.Column, from, end int) []parquet.Value {
	var list []parquet.Value
	for r := from; r < end; r++ {
		level := 1
		if col.Required {
			level = 0
		}
		var v parquet.Value
		switch {
		case !c.Valid[r]:
			level = 0
			v = parquet.NullValue()
		case col.Type == parquetfile.Float32:
			v = parquet.FloatValue(c.Floats[r])
		case col.Type == parquetfile.Int32:
			v = parquet.Int32Value(int32(c.Ints[r]))
		case col.Type == parquetfile.Bool:
			v = parquet.BooleanValue(c.Ints[r] != 0)
		case col.Type == parquetfile.Timestamp:
			v = parquet.Int64Value(c.Ints[r])
		default:
			v = parquet.ByteArrayValue(c.Text(r))
		}
		list = append(list, v.Level(0, level, index))
	}
	return list
}

// TestTheFileIsWhatParquetGoWrites holds every byte against the library's own
// writer: pages, dictionaries that grow too large, statistics, indexes, footer.
func TestTheFileIsWhatParquetGoWrites(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	types := []parquetfile.Type{parquetfile.Float32, parquetfile.Int32, parquetfile.Bool, parquetfile.Timestamp, parquetfile.String}
	for _, rows := range []int{0, 1, 7, 1025, 60_000, parquetfile.GroupRows + 1} {
		t.Run(fmt.Sprintf("%d rows", rows), func(t *testing.T) {
			var columns []parquetfile.Column
			var kinds []spill.Kind
			for _, typ := range types {
				for _, shape := range []string{"required", "some", "none", "all", "wide"} {
					c := parquetfile.Column{Name: string(typ) + " " + shape, Type: typ, Required: shape == "required"}
					columns = append(columns, c)
					kinds = append(kinds, typ.Kind())
					if typ == parquetfile.String {
						c.Name, c.Distinct = c.Name+" distinct", true
						columns = append(columns, c)
						kinds = append(kinds, typ.Kind())
					}
				}
			}
			b := spill.NewBatch(kinds)
			b.Rows = rows
			long := strings.Repeat("x", 40)
			for i := range columns {
				c, shape := &b.Columns[i], columns[i].Name
				last := ""
				for range rows {
					ok := columns[i].Required || strings.Contains(shape, "all") || strings.Contains(shape, "wide") || strings.Contains(shape, "some") && r.IntN(3) > 0
					switch columns[i].Type {
					case parquetfile.Float32:
						v := float32(r.NormFloat64())
						switch r.IntN(50) {
						case 0:
							v = float32(math.NaN())
						case 1:
							v = float32(math.Copysign(0, -1))
						}
						if strings.Contains(shape, "wide") {
							v = float32(math.NaN())
						}
						c.AppendFloat(v, ok)
					case parquetfile.Bool:
						c.AppendInt(int64(r.IntN(2)), ok)
					case parquetfile.Int32:
						c.AppendInt(int64(int32(r.Uint32())), ok)
					case parquetfile.Timestamp:
						c.AppendInt(r.Int64()-math.MaxInt64/2, ok)
					default:
						switch {
						case strings.Contains(shape, "wide"):
							last = fmt.Sprint(r.Uint64(), long) // more than a dictionary takes
						case r.IntN(3) == 0:
							last = strings.Repeat("v", r.IntN(20)) + fmt.Sprint(r.IntN(100))
						case r.IntN(20) == 0:
							last = ""
						}
						c.AppendText(last, ok)
					}
				}
			}
			// The last column copies an earlier one.
			columns = append(columns, parquetfile.Column{Name: "copy", Type: columns[1].Type, Copies: columns[1].Name})
			given := &spill.Batch{Rows: rows, Columns: append(b.Columns[:len(b.Columns):len(b.Columns)], spill.Column{Kind: columns[1].Type.Kind()})}
			whole := &spill.Batch{Rows: rows, Columns: append(b.Columns[:len(b.Columns):len(b.Columns)], b.Columns[1])}
			sorted := []string{columns[2].Name, columns[0].Name}
			want := reference(t, columns, sorted, whole)
			numbers := make([]*spill.Texts, len(columns))
			for i := range numbers {
				numbers[i] = spill.NewTexts()
			}
			var out bytes.Buffer
			w, err := parquetfile.New(io.Writer(&out), parquetfile.Options{
				Name: "rows", Columns: columns, Sorted: sorted, Program: "program", Version: "1.2.3", Workers: 1 + r.IntN(3),
			})
			if err != nil {
				t.Fatal(err)
			}
			defer w.Abort()
			for from := 0; from < rows; { // in pieces, some of them with numbers for texts
				to := min(rows, from+1+r.IntN(rows))
				if err := w.Write(context.Background(), cut(r, columns, numbers, given, from, to)); err != nil {
					t.Fatal(err)
				}
				from = to
			}
			if _, err := w.Finish(context.Background()); err != nil {
				t.Fatal(err)
			}
			w.SetMetadata("zebra", "1")
			w.SetMetadata("aardvark", "2")
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(out.Bytes(), want) {
				at := 0
				for at < min(out.Len(), len(want)) && out.Bytes()[at] == want[at] {
					at++
				}
				t.Errorf("%d bytes, parquet-go writes %d; they differ from byte %d on", out.Len(), len(want), at)
			}
		})
	}
}

// cut is some rows of a batch. Of a column of texts it has numbers, if it draws
// so and all have one.
func cut(r *rand.Rand, columns []parquetfile.Column, numbers []*spill.Texts, b *spill.Batch, from, to int) *spill.Batch {
	part := &spill.Batch{Rows: to - from, Columns: make([]spill.Column, len(columns))}
	for i := range columns {
		c, of := &part.Columns[i], &b.Columns[i]
		c.Kind = of.Kind
		if columns[i].Copies != "" {
			continue
		}
		if of.Kind == spill.Text && r.IntN(3) > 0 {
			c.Texts = numbers[i]
			for k := from; k < to && c.Texts != nil; k++ {
				if number, ok := numbers[i].Number(of.Text(k)); ok {
					c.AppendNumber(number, of.Valid[k])
				} else {
					c.Reset()
				}
			}
			if c.Texts != nil {
				continue
			}
		}
		c.AppendRange(of, from, to)
	}
	return part
}

// fastSnappy is parquet-go's codec with the encoder that is used here.
type fastSnappy struct{ snappy.Codec }

func (*fastSnappy) Encode(dst, src []byte) ([]byte, error) {
	return s2.EncodeSnappy(dst[:cap(dst)], src), nil
}
