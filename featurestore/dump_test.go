package featurestore_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/internal/change"
	"dreamfeed/internal/history"
	"dreamfeed/internal/row"
)

// dump renders a view like model.asOf, reading each kind in n ranges. ends says
// of refills from which ordinal on their tombstones lie, whose order is the
// store's own.
func dump(t testing.TB, v reader, n int, ends ...map[change.Version]uint32) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	info := v.Info()
	for _, kind := range []string{"", "user", "item"} {
		ranges, err := v.Ranges(t.Context(), kind, n)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range ranges {
			err := v.Scan(t.Context(), kind, r, func(e *history.Entity) error {
				dumpEntity(t, out, &info, kind, e, ends...)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return out
}

func dumpEntity(t testing.TB, out map[string][]string, info *history.Info, kind string, e *history.Entity, ends ...map[change.Version]uint32) {
	t.Helper()
	for i := range e.Rows {
		r := &e.Rows[i]
		table := &info.Tables[r.Table-1]
		var key string
		var lines []string
		alive := false
		for _, v := range r.Versions {
			mv := modelVersion{version: v.Version, ordinal: v.Ordinal, known: v.Known, backfilled: v.Backfilled, deleted: v.Deleted, moved: v.Moved}
			for _, end := range ends {
				if from, ok := end[v.Version]; ok && v.Ordinal >= from {
					mv.ordinal = atEnd
				}
			}
			if !v.Deleted {
				alive = true
				cells, err := row.Decode(v.Data, make([]row.Cell, len(table.Columns)))
				if err != nil {
					t.Fatal(err)
				}
				given := map[string]string{}
				for slot, c := range cells {
					switch c.Kind {
					case row.Null:
					case row.NotCaptured:
						given[table.Columns[slot]] = uncaptured
					default:
						given[table.Columns[slot]] = c.String()
					}
				}
				mv.data = render(table.Columns, given)
				var parts []string
				for _, k := range table.Key {
					parts = append(parts, given[k])
				}
				key = strings.Join(parts, "+")
			}
			lines = append(lines, mv.String())
		}
		if !alive {
			continue
		}
		name := kind + ":" + e.ID + "/" + table.Name + "/" + key
		if _, twice := out[name]; twice {
			t.Errorf("row %s was handed out twice", name)
		}
		out[name] = lines
	}
}

func sameRows(t testing.TB, want, got map[string][]string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		if len(diff) > 4000 {
			diff = diff[:4000]
		}
		t.Fatalf("the store differs from the model (-model +store):\n%s", diff)
	}
}
