package cdc

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/internal/change"
)

func text(s string) change.Value { return change.Value{Kind: change.Text, Text: []byte(s)} }

func TestCopyLineDecodes(t *testing.T) {
	null := change.Value{Kind: change.Null}
	for name, tc := range map[string]struct {
		line string
		want []change.Value
	}{
		"plain columns":                 {"a\tb\n", []change.Value{text("a"), text("b")}},
		"no newline":                    {"a\tb", []change.Value{text("a"), text("b")}},
		"null":                          {"\\N\tb\n", []change.Value{null, text("b")}},
		"empty strings are not null":    {"\t\n", []change.Value{text(""), text("")}},
		"an escaped backslash before N": {"\\\\N\n", []change.Value{text("\\N")}},
		"control characters":            {"\\b\\f\\n\\r\\t\\v\n", []change.Value{text("\b\f\n\r\t\v")}},
		"octal and hexadecimal":         {"\\101\\x41\\x4z\\7x\n", []change.Value{text("AA\x04z\ax")}},
		"hexadecimal without digits":    {"\\xyz\n", []change.Value{text("xyz")}},
		"any other character":           {"\\q\\.\n", []change.Value{text("q.")}},
		"a carriage return stays":       {"a\r\n", []change.Value{text("a\r")}},
		"one empty column":              {"\n", []change.Value{text("")}},
	} {
		var d copyDecoder
		got, err := d.decode([]byte(tc.line), len(tc.want))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(tc.want, got, cmp.Comparer(sameText)); diff != "" {
			t.Errorf("%s: want (-), got (+):\n%s", name, diff)
		}
	}
	var d copyDecoder
	if got, err := d.decode([]byte("\n"), 0); err != nil || len(got) != 0 {
		t.Errorf("a table without columns: got %v, %v", got, err)
	}
}

func TestCopyLineOfAnotherShapeIsRefused(t *testing.T) {
	for name, line := range map[string]string{
		"too few columns": "a\n", "too many columns": "a\tb\tc\n", "a dangling backslash": "a\tb\\",
	} {
		var d copyDecoder
		var want *MessageError
		if _, err := d.decode([]byte(line), 2); !errors.As(err, &want) {
			t.Errorf("%s: got %v, want a *MessageError", name, err)
		}
	}
}

// appendCopy writes values as COPY TO does (CopyAttributeOutText).
func appendCopy(dst []byte, values []change.Value) []byte {
	for i, v := range values {
		if i > 0 {
			dst = append(dst, '\t')
		}
		if v.Kind == change.Null {
			dst = append(dst, '\\', 'N')
			continue
		}
		for _, c := range v.Text {
			if at := bytes.IndexByte([]byte("\b\f\n\r\t\v\\"), c); at >= 0 {
				dst = append(dst, '\\', "bfnrtv\\"[at])
			} else {
				dst = append(dst, c)
			}
		}
	}
	return append(dst, '\n')
}

func TestCopyLinesBecomeTheInsertsOfTheSameRows(t *testing.T) {
	r := newStreamRand(t)
	var d copyDecoder
	for range 5_000 {
		rel := randomRelation(r, 1)
		_, values := randomTuple(r, nil, len(rel.Columns), false)
		got, err := d.decode(appendCopy(nil, values), len(values))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(values, got, cmp.Comparer(sameText), emptyIsNil); diff != "" {
			t.Fatalf("want (-), got (+):\n%s", diff)
		}
		var row change.Row
		if _, err := decodeRow(appendInsert(nil, 1, got), rel, &row, nil); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(values, row.New, cmp.Comparer(sameText), emptyIsNil); diff != "" {
			t.Fatalf("by way of an Insert: want (-), got (+):\n%s", diff)
		}
	}
}

func FuzzCopyLine(f *testing.F) {
	f.Add([]byte("a\t\\N\n"), 2)
	f.Add([]byte("\\x4\\101\\"), 1)
	f.Add([]byte("\n"), 0)
	f.Fuzz(func(t *testing.T, line []byte, columns int) {
		var d, again copyDecoder
		columns &= 7
		values, err := d.decode(line, columns)
		if err != nil {
			return
		}
		if len(values) != columns {
			t.Fatalf("%d values for %d columns", len(values), columns)
		}
		got, err := again.decode(appendCopy(nil, values), columns)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(values, got, cmp.Comparer(sameText), emptyIsNil); diff != "" {
			t.Fatal(diff)
		}
	})
}
