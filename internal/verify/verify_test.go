package verify_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/internal/verify"
)

// side is a side in memory: rows by table, key and column. A column is text,
// "\x00" for NULL, "\x01" for not captured; a row that is nil is broken.
type side struct {
	tables  []map[string][]string
	workers int
	fail    error
	reads   int
}

func (s *side) Rows(ctx context.Context, wanted func(int) bool, fn func(*verify.Row) error) error {
	s.reads++
	if s.fail != nil {
		return s.fail
	}
	var wait sync.WaitGroup
	errs := make([]error, max(s.workers, 1))
	for w := range errs {
		wait.Go(func() {
			row := new(verify.Row)
			for table, rows := range s.tables {
				if !wanted(table) {
					continue
				}
				for key, columns := range rows {
					if (len(key)+int(key[len(key)-1]))%len(errs) != w {
						continue
					}
					row.Table, row.Key, row.Cells, row.Broken = table, []byte(key), row.Cells[:0], columns == nil
					for _, text := range columns {
						switch text {
						case "\x00":
							row.Cells = append(row.Cells, verify.Cell{Kind: verify.Null})
						case "\x01":
							row.Cells = append(row.Cells, verify.Cell{Kind: verify.NotCaptured})
						default:
							row.Cells = append(row.Cells, verify.Cell{Kind: verify.Text, Text: []byte(text)})
						}
					}
					if errs[w] = fn(row); errs[w] != nil || ctx.Err() != nil {
						return
					}
				}
			}
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}

func tables(n int) []verify.Table {
	var out []verify.Table
	for i := range n {
		out = append(out, verify.Table{Name: fmt.Sprint("t", i), Columns: []string{"id", "name", "city"}})
	}
	return out
}

// found renders a table's differences, one a line.
func found(r *verify.TableReport) []string {
	var out []string
	for _, d := range r.Differences {
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s %s", d.Key, d.Kind, strings.Join(d.Columns, ","))))
	}
	slices.Sort(out)
	return out
}

func TestEveryKindOfDifferenceIsToldApart(t *testing.T) {
	for _, c := range []struct {
		name          string
		source, store map[string][]string
		want          []string
	}{
		{"nothing on both sides", nil, nil, nil},
		{"equal rows", map[string][]string{"1": {"1", "a", "\x00"}}, map[string][]string{"1": {"1", "a", "\x00"}}, nil},
		{"a row the store lacks", map[string][]string{"1": {"1", "a", "b"}}, nil, []string{"1 missing"}},
		{"a row the source lacks", nil, map[string][]string{"1": {"1", "a", "b"}}, []string{"1 extra"}},
		{"another text", map[string][]string{"1": {"1", "a", "b"}}, map[string][]string{"1": {"1", "a", "B"}}, []string{"1 different city"}},
		{"NULL and empty text", map[string][]string{"1": {"1", "\x00", "b"}}, map[string][]string{"1": {"1", "", "b"}}, []string{"1 different name"}},
		{"NULL and not captured", map[string][]string{"1": {"1", "\x00", "b"}}, map[string][]string{"1": {"1", "\x01", "b"}}, []string{"1 different name"}},
		{"empty text and not captured", map[string][]string{"1": {"1", "", "b"}}, map[string][]string{"1": {"1", "\x01", "b"}}, []string{"1 different name"}},
		{"text that moved to the next column", map[string][]string{"1": {"1", "ab", "c"}}, map[string][]string{"1": {"1", "a", "bc"}}, []string{"1 different name,city"}},
		{"two columns swapped", map[string][]string{"1": {"1", "a", "b"}}, map[string][]string{"1": {"1", "b", "a"}}, []string{"1 different name,city"}},
		{"values swapped between rows", map[string][]string{"1": {"1", "a", "x"}, "2": {"2", "b", "x"}}, map[string][]string{"1": {"1", "b", "x"}, "2": {"2", "a", "x"}}, []string{"1 different name", "2 different name"}},
		{"a row under another key", map[string][]string{"1": {"1", "a", "b"}}, map[string][]string{"2": {"1", "a", "b"}}, []string{"1 missing", "2 extra"}},
		{"a row that cannot be read", map[string][]string{"1": {"1", "a", "b"}, "2": {"2", "a", "b"}}, map[string][]string{"1": nil, "2": {"2", "a", "b"}}, []string{"1 unreadable"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			source := &side{tables: []map[string][]string{c.source}}
			store := &side{tables: []map[string][]string{c.store}}
			report, err := verify.Compare(t.Context(), verify.Config{Tables: tables(1)}, source, store)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, found(&report.Tables[0])); diff != "" {
				t.Errorf("differences (-want +got):\n%s", diff)
			}
			if report.Equal() != (c.want == nil) {
				t.Errorf("equal is %v", report.Equal())
			}
			reads := 1
			if c.want != nil {
				reads = 2
			}
			if source.reads != reads || store.reads != reads {
				t.Errorf("source read %d times, store %d, want %d", source.reads, store.reads, reads)
			}
		})
	}
}

// random makes two equal sides of several tables, read by several goroutines.
func random(rng *rand.Rand, tables, rows int) (source, store *side) {
	source, store = &side{workers: 3}, &side{workers: 2}
	for range tables {
		a, b := map[string][]string{}, map[string][]string{}
		for i := range rows {
			key := fmt.Sprintf("k%d", i)
			row := []string{key, fmt.Sprint(rng.IntN(10)), []string{"\x00", "", "x"}[rng.IntN(3)]}
			a[key], b[key] = row, slices.Clone(row)
		}
		source.tables, store.tables = append(source.tables, a), append(store.tables, b)
	}
	return source, store
}

func TestRandomDifferencesAreAllNamed(t *testing.T) {
	const seed = 1
	rng := rand.New(rand.NewPCG(seed, seed))
	source, store := random(rng, 3, 5000)
	want := make([][]string, 3)
	for table := range 3 {
		for range 40 {
			key := fmt.Sprintf("k%d", rng.IntN(5000))
			row, ok := store.tables[table][key]
			if !ok || slices.ContainsFunc(want[table], func(line string) bool { return strings.HasPrefix(line, key+" ") }) {
				continue
			}
			switch rng.IntN(3) {
			case 0:
				delete(store.tables[table], key)
				want[table] = append(want[table], key+" missing")
			case 1:
				delete(source.tables[table], key)
				want[table] = append(want[table], key+" extra")
			case 2:
				row[1] += "!"
				want[table] = append(want[table], key+" different name")
			}
		}
		slices.Sort(want[table])
	}
	for _, keys := range []int{0, 3000, 400} { // with one, and with more passes to narrow
		source.reads = 0
		report, err := verify.Compare(t.Context(), verify.Config{Tables: tables(3), MaxKeys: keys}, source, store)
		if err != nil {
			t.Fatal(err)
		}
		for i := range report.Tables {
			if diff := cmp.Diff(want[i], found(&report.Tables[i])); diff != "" {
				t.Errorf("%d keys, table %d (-want +got):\n%s", keys, i, diff)
			}
			if r := report.Tables[i]; r.SourceRows != uint64(len(source.tables[i])) || r.StoreRows != uint64(len(store.tables[i])) {
				t.Errorf("table %d: %d and %d rows counted, want %d and %d", i, r.SourceRows, r.StoreRows, len(source.tables[i]), len(store.tables[i]))
			}
		}
		t.Logf("seed %d, %d keys: %d passes", seed, keys, source.reads)
	}
}

func TestLargePartsAreNarrowedBeforeTheirKeysAreHeld(t *testing.T) {
	const seed, rows = 2, 200_000
	source, store := random(rand.New(rand.NewPCG(seed, seed)), 1, rows)
	store.tables[0]["k77"] = []string{"k77", "changed", "x"}
	delete(store.tables[0], "k78")
	// A part of the first pass holds about 24 rows of both sides.
	report, err := verify.Compare(t.Context(), verify.Config{Tables: tables(1), MaxKeys: 10}, source, store)
	if err != nil {
		t.Fatal(err)
	}
	got := found(&report.Tables[0])
	if len(got) != 2 || !strings.HasPrefix(got[0], "k77 different name") || got[1] != "k78 missing" || report.Tables[0].UnnamedParts != 0 {
		t.Errorf("found %q, %d parts unnamed", got, report.Tables[0].UnnamedParts)
	}
	if source.reads != 3 {
		t.Errorf("%d passes, want 3: sums, smaller sums, keys", source.reads)
	}
}

func TestTooManyDifferencesAreCountedNotHeld(t *testing.T) {
	const seed, rows = 3, 30_000
	source, store := random(rand.New(rand.NewPCG(seed, seed)), 2, rows)
	for _, row := range store.tables[0] {
		row[1] += "!"
	}
	delete(store.tables[1], "k5")
	report, err := verify.Compare(t.Context(), verify.Config{Tables: tables(2), MaxKeys: 1000}, source, store)
	if err != nil {
		t.Fatal(err)
	}
	all, one := &report.Tables[0], &report.Tables[1]
	if n := len(all.Differences); n == 0 || n > 500 {
		t.Errorf("%d differences are named, want some and at most 500", n)
	}
	if all.UnnamedRows+2*uint64(len(all.Differences)) != 2*rows || all.UnnamedParts == 0 {
		t.Errorf("%d rows in %d parts are unnamed beside %d named keys, want %d rows in all", all.UnnamedRows, all.UnnamedParts, len(all.Differences), 2*rows)
	}
	if diff := cmp.Diff([]string{"k5 missing"}, found(one)); diff != "" {
		t.Errorf("the other table (-want +got):\n%s", diff)
	}
}

func TestUnreadableSideEndsTheComparison(t *testing.T) {
	gone := errors.New("gone")
	ok := &side{tables: []map[string][]string{{"1": {"1", "a", "b"}}}}
	for _, c := range []struct{ source, store verify.Side }{{&side{fail: gone}, ok}, {ok, &side{fail: gone}}} {
		if _, err := verify.Compare(t.Context(), verify.Config{Tables: tables(1)}, c.source, c.store); !errors.Is(err, gone) {
			t.Errorf("error %v, want that of the side", err)
		}
	}
	short := &side{tables: []map[string][]string{{"1": {"1"}}}}
	if _, err := verify.Compare(t.Context(), verify.Config{Tables: tables(1)}, short, ok); err == nil {
		t.Error("a row with too few columns is compared")
	}
}

func ExampleCompare() {
	source := &side{tables: []map[string][]string{{"1": {"1", "Ann", "Rome"}, "2": {"2", "Bob", "Oslo"}}}}
	store := &side{tables: []map[string][]string{{"1": {"1", "Ann", "Roma"}}}}
	report, err := verify.Compare(context.Background(), verify.Config{
		Tables: []verify.Table{{Name: "users", Columns: []string{"id", "name", "city"}}},
	}, source, store)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, d := range report.Tables[0].Differences {
		fmt.Printf("users %s: %s %v\n", d.Key, d.Kind, d.Columns)
	}
	// Output:
	// users 1: different [city]
	// users 2: missing []
}

func BenchmarkCompare(b *testing.B) {
	source, store := random(rand.New(rand.NewPCG(4, 4)), 1, 100_000)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := verify.Compare(b.Context(), verify.Config{Tables: tables(1)}, source, store); err != nil {
			b.Fatal(err)
		}
	}
}
