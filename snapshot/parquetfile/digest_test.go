package parquetfile_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/parquet-go/parquet-go"

	"dreamfeed/snapshot/parquetfile"
	"dreamfeed/snapshot/spill"
)

// naiveDigest is the logical digest as the package comment says it, of the rows that
// parquet-go reads from a file.
func naiveDigest(t *testing.T, columns []parquetfile.Column, data []byte) [sha256.Size]byte {
	t.Helper()
	f, err := parquet.OpenFile(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	encoded := make([][]string, len(columns)) // by column, each row's own bytes
	reader := parquet.NewReader(f)
	defer reader.Close()
	rows := make([]parquet.Row, 100)
	for {
		n, err := reader.ReadRows(rows)
		for _, row := range rows[:n] {
			for i, v := range row {
				b := []byte{0}
				if !v.IsNull() {
					b[0] = 1
					switch columns[i].Type {
					case parquetfile.Float32:
						b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v.Float()))
					case parquetfile.Int32:
						b = binary.LittleEndian.AppendUint32(b, uint32(v.Int32()))
					case parquetfile.Timestamp:
						b = binary.LittleEndian.AppendUint64(b, uint64(v.Int64()))
					case parquetfile.Bool:
						b = append(b, 0)
						if v.Boolean() {
							b[1] = 1
						}
					default:
						b = binary.LittleEndian.AppendUint32(b, uint32(len(v.ByteArray())))
						b = append(b, v.ByteArray()...)
					}
				}
				encoded[i] = append(encoded[i], string(b))
			}
		}
		if err != nil {
			break
		}
	}
	text := "dreamfeed dataset digest 2\n"
	for _, c := range columns {
		need := map[bool]string{true: "required", false: "optional"}[c.Required]
		text += fmt.Sprintf("%s\t%s\t%s\n", c.Name, c.Type, need)
	}
	text += fmt.Sprintf("%d\n", f.NumRows())
	for from := 0; from < int(f.NumRows()); from += 65536 {
		var sums string
		for _, list := range encoded {
			var column []byte
			block := list[from:min(len(list), from+65536)]
			for i, b := range block {
				if i > 0 && b == block[i-1] {
					b = "\x02"
				}
				column = append(column, b...)
			}
			sum := sha256.Sum256(column)
			sums += string(sum[:])
		}
		sum := sha256.Sum256([]byte(sums))
		text += string(sum[:])
	}
	return sha256.Sum256([]byte(text))
}

func TestDigestIsThatOfTheRowsReadBack(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	for _, rows := range []int{0, 1, 2, 5000, parquetfile.GroupRows, parquetfile.GroupRows + 3000} {
		b := batch(r, rows)
		data, digest := write(t, b, 2, func() int { return 1 + r.IntN(9000) })
		want := naiveDigest(t, columns, data)
		if digest != want {
			t.Errorf("%d rows: digest %x, want %x", rows, digest, want)
		}
		numbers := make([]*spill.Texts, len(columns))
		for i := range numbers {
			numbers[i] = spill.NewTexts()
		}
		given := cut(r, columns, numbers, b, 0, rows)
		for i := range given.Columns {
			if c := &given.Columns[i]; c.Kind == spill.Text && i != 5 && c.Texts == nil { // all that can be
				*c = spill.Column{Kind: spill.Text, Texts: numbers[i]}
				for k := range rows {
					number, _ := numbers[i].Number(b.Columns[i].Text(k))
					c.AppendNumber(number, b.Columns[i].Valid[k])
				}
				if numbers[i].Full() {
					*c = b.Columns[i]
				}
			}
		}
		if again, digest := write(t, given, 1, func() int { return max(rows, 1) }); digest != want || !bytes.Equal(again, data) {
			t.Errorf("%d rows with numbers for texts: digest %x, want %x", rows, digest, want)
		}
	}
}

// A row like the one before is said so; nothing else is: neither a null behind a
// value of the same bits, nor a zero behind the other zero.
func TestDigestTellsAlikeFromTheSame(t *testing.T) {
	kinds := make([]spill.Kind, len(columns))
	for i, c := range columns {
		kinds[i] = c.Type.Kind()
	}
	negative := float32(math.Copysign(0, -1))
	floats := []struct {
		v  float32
		ok bool
	}{{0, false}, {0, false}, {0, true}, {0, true}, {negative, true}, {negative, true}, {0, false}, {0, true}, {1, true}, {1, true}}
	b := spill.NewBatch(kinds)
	for i, f := range floats {
		n := int64(i / 3 % 2)
		b.Columns[0].AppendText([]string{"", "", "a", "a", "ab"}[i/2], true)
		b.Columns[1].AppendInt(n, true)
		b.Columns[2].AppendFloat(f.v, f.ok)
		b.Columns[3].AppendInt(n, i%4 > 0)
		b.Columns[4].AppendInt(n, f.ok)
		b.Columns[5].AppendText("same", true)
		b.Columns[6].AppendText("", f.ok)
	}
	b.Rows = len(floats)
	data, digest := write(t, b, 1, func() int { return b.Rows })
	if want := naiveDigest(t, columns, data); digest != want {
		t.Errorf("digest %x, want %x", digest, want)
	}
	b.Columns[2].Floats[4] = 0
	if _, other := write(t, b, 1, func() int { return b.Rows }); other == digest {
		t.Error("the digest takes the two zeros for one")
	}
}
