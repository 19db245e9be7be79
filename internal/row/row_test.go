package row_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/internal/row"
)

var update = flag.Bool("update", false, "write the golden files anew")

// OIDs of the types that have a typed form, and of some that have none.
const (
	oidBool        = 16
	oidInt8        = 20
	oidInt2        = 21
	oidInt4        = 23
	oidText        = 25
	oidFloat4      = 700
	oidFloat8      = 701
	oidDate        = 1082
	oidTimestamp   = 1114
	oidTimestampTZ = 1184
	oidNumeric     = 1700
	oidUUID        = 2950
	oidJSONB       = 3802
)

var oids = []uint32{
	oidBool, oidInt8, oidInt2, oidInt4, oidText, oidFloat4, oidFloat8, oidDate,
	oidTimestamp, oidTimestampTZ, oidNumeric, oidUUID, oidJSONB, 0,
}

// texts are values that a codec might bend.
var texts = []string{
	"", "t", "f", "true", "0", "-0", "+1", "01", "1", "-1", "9223372036854775807", "-9223372036854775808", "9223372036854775808",
	"1_000", " 1", "1 ", "0x10", "1e3", "1e+3", "1e-05", "1e-5", "0.0001", "0.00001", "1e+15", "1e+16", "123456789012345", "1234567890123456",
	"0.1", ".1", "1.", "1.0", "1.10", "-0.5", "-.5", "NaN", "nan", "Infinity", "-Infinity", "inf", "infinity", "-infinity",
	"3.4028235e+38", "1.17549435e-38", "5e-324", "1.7976931348623157e+308", "0.30000001", "16777216",
	"999999999999999999", "9999999999999999999", "-999999999999999999", "0.000000000000000001", "000", "0.00", "-0.00", "-", ".", "1.2.3",
	"2024-02-29", "2023-02-29", "0001-01-01", "0000-01-01", "9999-12-31", "10000-01-01", "0044-03-15 BC", "2024-2-9", "2024-02-30",
	"2024-02-29 12:34:56", "2024-02-29 12:34:56.1", "2024-02-29 12:34:56.10", "2024-02-29 12:34:56.123456", "2024-02-29 12:34:56.1234567",
	"2024-02-29 24:00:00", "2024-02-29 23:59:60", "2024-02-29T12:34:56", "2024-02-29 12:34:56.", "1969-12-31 23:59:59.999999", "0001-01-01 00:00:00.000001",
	"2024-02-29 12:34:56+00", "2024-02-29 12:34:56.5+00", "2024-02-29 12:34:56+02", "2024-02-29 12:34:56+00:00", "+00",
	"3f2b8c1e-9a4d-4f6b-8e21-0c5d7a9b1e3f", "3F2B8C1E-9A4D-4F6B-8E21-0C5D7A9B1E3F", "3f2b8c1e-9a4d-4f6b-8e21-0c5d7a9b1e3", "3f2b8c1e-9a4d-4f6b-8e21-0c5d7a9b1-3f",
	"--------------------------------------", "------------------------------------", "\x00", "a\x00b", "\xff\xfe", `{"a": 1}`, "{a,b}",
}

func TestParseLosesNothing(t *testing.T) {
	for _, oid := range oids {
		for _, text := range texts {
			c := row.Parse(oid, []byte(text))
			if got := string(c.AppendText([]byte("x"))); got != "x"+text {
				t.Errorf("type %d: %q is stored as %v and comes back as %q", oid, text, c.Kind, got[1:])
			}
			if c.String() != text {
				t.Errorf("type %d: String of %q is %q", oid, text, c.String())
			}
		}
	}
}

func TestTypedValuesAreTyped(t *testing.T) {
	for _, c := range []struct {
		oid  uint32
		text string
		want row.Cell
	}{
		{oidBool, "t", row.Cell{Kind: row.True}},
		{oidBool, "f", row.Cell{Kind: row.False}},
		{oidInt8, "-9223372036854775808", row.Cell{Kind: row.Int, Int: math.MinInt64}},
		{oidInt4, "0", row.Cell{Kind: row.Int}},
		{oidFloat8, "0.1", row.Cell{Kind: row.Float, Float: 0.1}},
		{oidFloat8, "1e-05", row.Cell{Kind: row.Float, Float: 1e-5}},
		{oidFloat8, "1e+15", row.Cell{Kind: row.Float, Float: 1e15}},
		{oidFloat8, "Infinity", row.Cell{Kind: row.Float, Float: math.Inf(1)}},
		{oidFloat4, "0.5", row.Cell{Kind: row.Float, Float: 0.5}},
		{oidDate, "1970-01-02", row.Cell{Kind: row.Date, Int: 1}},
		{oidDate, "1969-12-31", row.Cell{Kind: row.Date, Int: -1}},
		{oidTimestamp, "1970-01-01 00:00:01.5", row.Cell{Kind: row.Timestamp, Int: 1_500_000}},
		{oidTimestamp, "1969-12-31 23:59:59.999999", row.Cell{Kind: row.Timestamp, Int: -1}},
		{oidTimestampTZ, "1970-01-01 00:00:01+00", row.Cell{Kind: row.TimestampTZ, Int: 1_000_000}},
		{oidNumeric, "12.50", row.Cell{Kind: row.Decimal, Int: 1250, Scale: 2}},
		{oidNumeric, "-0.01", row.Cell{Kind: row.Decimal, Int: -1, Scale: 2}},
		{oidUUID, "00010203-0405-0607-0809-0a0b0c0d0e0f", row.Cell{Kind: row.UUID, Bytes: []byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}}},
		{oidText, "00010203-0405-0607-0809-0a0b0c0d0e0f", row.Cell{Kind: row.UUID, Bytes: []byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}}},
	} {
		if diff := cmp.Diff(c.want, row.Parse(c.oid, []byte(c.text))); diff != "" {
			t.Errorf("type %d, %q:\n%s", c.oid, c.text, diff)
		}
	}
}

func sampleRow() []row.Cell {
	cells := []row.Cell{{Kind: row.NotCaptured}, {Kind: row.Null}}
	for _, v := range []struct {
		oid  uint32
		text string
	}{
		{oidText, "hello"},
		{oidText, ""},
		{oidInt8, "-42"},
		{oidFloat8, "0.25"},
		{oidTimestamp, "2024-02-29 12:34:56.789"},
		{oidTimestampTZ, "2024-02-29 12:34:56+00"},
		{oidDate, "2024-02-29"},
		{oidBool, "t"},
		{oidBool, "f"},
		{oidUUID, "3f2b8c1e-9a4d-4f6b-8e21-0c5d7a9b1e3f"},
		{oidNumeric, "-1234.50"},
		{oidTimestamp, "infinity"},
	} {
		cells = append(cells, row.Parse(v.oid, []byte(v.text)))
	}
	return append(cells, row.Cell{Kind: row.Null})
}

func TestRowsComeBack(t *testing.T) {
	want := sampleRow()
	data := row.Append([]byte("head"), want)
	if !bytes.HasPrefix(data, []byte("head")) {
		t.Fatal("Append did not append")
	}
	got, err := row.Decode(data[4:], nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(bytes.Equal)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	t.Run("a longer list of cells is filled up as not captured", func(t *testing.T) {
		cells := make([]row.Cell, 20)
		for i := range cells {
			cells[i] = row.Cell{Kind: row.Int, Int: 9}
		}
		cells, err := row.Decode(data[4:], cells)
		if err != nil || len(cells) != 20 {
			t.Fatalf("%d cells, %v", len(cells), err)
		}
		for _, c := range cells[len(want):] {
			if c.Kind != row.NotCaptured || c.Int != 0 {
				t.Errorf("cell %+v, want not captured", c)
			}
		}
	})
	t.Run("trailing columns that were not captured take no space", func(t *testing.T) {
		a := row.Append(nil, want[:3])
		b := row.Append(nil, append(want[:3:3], row.Cell{}, row.Cell{}))
		if !bytes.Equal(a, b) {
			t.Errorf("%x and %x differ", a, b)
		}
	})
	t.Run("every cut is seen", func(t *testing.T) {
		for n := range len(data) - 4 {
			if _, err := row.Decode(data[4:4+n], nil); !errors.Is(err, row.ErrCorrupt) {
				t.Errorf("cut after %d bytes: %v", n, err)
			}
		}
		if _, err := row.Decode(append(data[4:len(data):len(data)], 0), nil); !errors.Is(err, row.ErrCorrupt) {
			t.Errorf("a byte too many: %v", err)
		}
	})
}

func TestRowGolden(t *testing.T) {
	var b strings.Builder
	for i, c := range sampleRow() {
		fmt.Fprintf(&b, "%2d kind %2d %-40q %s\n", i, c.Kind, c.String(), hex.EncodeToString(row.Append(nil, []row.Cell{c})))
	}
	fmt.Fprintf(&b, "row %s\n", hex.EncodeToString(row.Append(nil, sampleRow())))
	path := filepath.Join("testdata", "row.golden")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("the disk format changed (-want +got):\n%s", diff)
	}
}

func FuzzParseLosesNothing(f *testing.F) {
	for i, text := range texts {
		f.Add(byte(i), []byte(text))
	}
	f.Fuzz(func(t *testing.T, which byte, text []byte) {
		c := row.Parse(oids[int(which)%len(oids)], text)
		if got := c.AppendText(nil); !bytes.Equal(got, text) {
			t.Fatalf("%q comes back as %q from %+v", text, got, c)
		}
		cells, err := row.Decode(row.Append(nil, []row.Cell{c}), nil)
		if err != nil || len(cells) != 1 || !bytes.Equal(cells[0].AppendText(nil), text) {
			t.Fatalf("%q is decoded as %+v, %v", text, cells, err)
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add(row.Append(nil, sampleRow()))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, data []byte) {
		cells, err := row.Decode(data, nil)
		if len(cells) > len(data) {
			t.Fatalf("%d cells from %d bytes", len(cells), len(data))
		}
		if err != nil {
			return
		}
		for i := range cells {
			if n := len(cells[i].AppendText(nil)); n > 1<<17+len(data) {
				t.Fatalf("a text of %d bytes from %d bytes", n, len(data))
			}
		}
		again, err := row.Decode(row.Append(nil, cells), nil)
		if err != nil {
			t.Fatal(err)
		}
		for len(again) < len(cells) { // trailing ones that were not captured
			again = append(again, row.Cell{})
		}
		if a, b := fmt.Sprint(cells), fmt.Sprint(again); a != b {
			t.Fatalf("%s comes back as %s", a, b)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	for _, c := range []struct {
		name string
		oid  uint32
		text string
	}{
		{"int", oidInt4, "12345"},
		{"float8", oidFloat8, "0.123456789012345"},
		{"timestamp", oidTimestamp, "2024-02-29 12:34:56.789"},
		{"numeric", oidNumeric, "1234.50"},
		{"uuid", oidText, "3f2b8c1e-9a4d-4f6b-8e21-0c5d7a9b1e3f"},
		{"text", oidText, "GENERATED"},
	} {
		b.Run(c.name, func(b *testing.B) {
			text := []byte(c.text)
			b.ReportAllocs()
			for b.Loop() {
				row.Parse(c.oid, text)
			}
		})
	}
}

// Days are counted without the time package, which is the oracle here.
func TestDaysAreThoseOfTheCalendar(t *testing.T) {
	first := time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
	for day := first; day.Year() < 10000; day = day.AddDate(0, 0, 1) {
		text := day.AppendFormat(nil, "2006-01-02")
		want := row.Cell{Kind: row.Date, Int: day.Unix() / 86400}
		if day.Unix()%86400 != 0 {
			t.Fatalf("%s does not begin a day", text)
		}
		if got := row.Parse(oidDate, text); got.Kind != want.Kind || got.Int != want.Int {
			t.Fatalf("%s: %+v, want %+v", text, got, want)
		}
	}
	for _, text := range []string{"1900-02-29", "2023-02-29", "2024-02-30", "2024-04-31", "2024-00-10", "2024-13-01", "2024-01-00", "0000-01-01"} {
		if got := row.Parse(oidDate, []byte(text)); got.Kind != row.Text {
			t.Errorf("%s is no day and was taken for %+v", text, got)
		}
	}
}
