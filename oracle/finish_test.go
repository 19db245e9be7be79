package oracle_test

import (
	"cmp"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"math"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"
)

// column is what the contract says of one column.
type column struct {
	name      string
	kind      string // as DuckDB names it
	required  bool
	missing   string // unknown, null, zero, false or median
	quasi     bool   // a quasi string column: rare values are folded
	list      bool   // its value is a joined list
	computed  bool   // a quotient: equal within the last place of a float32
	alias     string // the column that it copies
	pseudonym string // the sub-key, for pseudonyms
	digits    int    // of a pseudonym, in hex
}

var duckTypes = map[string]string{
	"string": "VARCHAR", "float": "FLOAT", "int": "INTEGER", "bool": "BOOLEAN",
	"timestamp": "TIMESTAMP WITH TIME ZONE",
}

// columnsOf reads a table of columns, one a line: name, type, words.
func columnsOf(t *testing.T, table string) []column {
	t.Helper()
	var all []column
	for line := range strings.Lines(table) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		c := column{name: words[0], kind: duckTypes[words[1]]}
		c.missing = map[string]string{"string": "unknown", "float": "median", "int": "median", "bool": "false"}[words[1]]
		for _, word := range words[2:] {
			key, value, _ := strings.Cut(word, "=")
			switch key {
			case "required":
				c.required = true
			case "null", "zero":
				c.missing = key
			case "quasi":
				c.quasi = true
			case "list":
				c.list = true
			case "computed":
				c.computed = true
			case "alias":
				c.alias = value
			case "pseudonym":
				c.pseudonym = value
			case "digits":
				if _, err := fmt.Sscan(value, &c.digits); err != nil {
					t.Fatal(err)
				}
			default:
				t.Fatalf("column %s: %q is no word of this table", c.name, word)
			}
		}
		all = append(all, c)
	}
	return all
}

// row is one row of the dataset with what is not released.
type row struct {
	id, user string
	class    float64 // its engagement class
	split    []byte  // h(split, id)
	values   map[string]any
	gaps     map[string]bool // the columns without a value before filling
}

// finish are the settings of steps 9 and 10.
type finish struct {
	columns  []column
	version  string
	stable   bool // pseudonyms are the same in all versions
	key      []byte
	user, id string // the columns with the pseudonyms
	time     string
	minUsers int
	other    string
	testSize *big.Rat
}

// dataset is what the files are compared with.
type dataset struct {
	train, test []row
	rare        map[string]map[string]bool // by column: the values that became OTHER
	fills       map[string]any
}

// do takes the rows that leave step 8 through steps 9 and 10.
func (f finish) do(t *testing.T, rows []row) dataset {
	t.Helper()
	out := dataset{rare: map[string]map[string]bool{}, fills: map[string]any{}}
	// Step 5: categories filled. UNKNOWN takes part in what follows.
	for i := range rows {
		r := &rows[i]
		r.gaps = map[string]bool{}
		for _, c := range f.columns {
			if c.alias != "" || c.pseudonym != "" {
				continue
			}
			if v := r.values[c.name]; v == nil || v == "" {
				r.gaps[c.name] = true
				if c.kind == "VARCHAR" && c.missing == "unknown" {
					r.values[c.name] = "UNKNOWN"
				}
			}
		}
	}
	for _, c := range f.columns {
		if c.quasi {
			out.rare[c.name] = f.foldColumn(c, rows)
		}
	}
	f.pseudonyms(t, rows)
	out.train, out.test = f.divide(rows)
	f.fill(out)
	for _, c := range f.columns {
		if c.alias != "" {
			for _, r := range rows {
				r.values[c.name] = r.values[c.alias]
			}
		}
	}
	for _, part := range [][]row{out.train, out.test} {
		slices.SortFunc(part, func(a, b row) int {
			return cmp.Or(cmp.Compare(a.values[f.user].(string), b.values[f.user].(string)),
				a.values[f.time].(time.Time).Compare(b.values[f.time].(time.Time)),
				cmp.Compare(a.values[f.id].(string), b.values[f.id].(string)))
		})
	}
	return out
}

// foldColumn folds a column's rare values, in a list first its rare elements,
// and returns what became OTHER. A list without elements has none to fold.
func (f finish) foldColumn(c column, rows []row) map[string]bool {
	folded := map[string]bool{}
	if c.list {
		holders := map[string]map[string]bool{}
		for _, r := range rows {
			if v := r.values[c.name].(string); v != "UNKNOWN" {
				for _, e := range strings.Split(v, ",") {
					hold(holders, e, r.user)
				}
			}
		}
		rare := f.rareValues(holders)
		maps.Copy(folded, rare)
		for _, r := range rows {
			if v := r.values[c.name].(string); v != "UNKNOWN" {
				var elements []string
				for _, e := range strings.Split(v, ",") {
					if rare[e] {
						e = f.other
					}
					elements = append(elements, e)
				}
				slices.Sort(elements)
				r.values[c.name] = strings.Join(slices.Compact(elements), ",")
			}
		}
	}
	holders := map[string]map[string]bool{}
	for _, r := range rows {
		hold(holders, r.values[c.name].(string), r.user)
	}
	rare := f.rareValues(holders)
	maps.Copy(folded, rare)
	for _, r := range rows {
		if rare[r.values[c.name].(string)] {
			r.values[c.name] = f.other
		}
	}
	return folded
}

func hold(holders map[string]map[string]bool, value, user string) {
	if holders[value] == nil {
		holders[value] = map[string]bool{}
	}
	holders[value][user] = true
}

// rareValues returns the values that become OTHER: those of too few users, and
// then the next rarest as long as OTHER itself has too few.
func (f finish) rareValues(holders map[string]map[string]bool) map[string]bool {
	values := slices.SortedFunc(maps.Keys(holders), func(a, b string) int {
		return cmp.Or(cmp.Compare(len(holders[a]), len(holders[b])), cmp.Compare(a, b))
	})
	rare, users := map[string]bool{}, maps.Clone(holders[f.other])
	if users == nil {
		users = map[string]bool{}
	}
	for _, v := range values {
		few := len(holders[v]) < f.minUsers
		join := len(users) >= 1 && len(users) < f.minUsers
		if v != f.other && (few || join) {
			rare[v] = true
			maps.Copy(users, holders[v])
		}
	}
	return rare
}

// pseudonym returns the hex HMAC of an id under the sub-key of that name.
func (f finish) pseudonym(t *testing.T, name, id string) string {
	t.Helper()
	if !f.stable {
		name += "/v" + f.version
	}
	key, err := hkdf.Key(sha256.New, f.key, nil, name, 32)
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id))
	return hex.EncodeToString(mac.Sum(nil))
}

func (f finish) pseudonyms(t *testing.T, rows []row) {
	t.Helper()
	for _, c := range f.columns {
		if c.pseudonym == "" {
			continue
		}
		for _, r := range rows {
			of := r.id
			if c.name == f.user {
				of = r.user
			}
			v := f.pseudonym(t, c.pseudonym, of)
			if c.digits > 0 {
				v = v[:c.digits]
			}
			r.values[c.name] = v
		}
	}
}

// divide splits each engagement class by the smallest h(split, id).
func (f finish) divide(rows []row) (train, test []row) {
	classes := map[float64][]row{}
	for _, r := range rows {
		classes[r.class] = append(classes[r.class], r)
	}
	for _, class := range classes {
		slices.SortFunc(class, func(a, b row) int {
			return cmp.Or(slices.Compare(a.split, b.split), cmp.Compare(a.id, b.id))
		})
		x := new(big.Rat).Mul(f.testSize, big.NewRat(int64(len(class)), 1))
		x.Add(x, big.NewRat(1, 2))
		n := int(new(big.Int).Quo(x.Num(), x.Denom()).Int64())
		test = append(test, class[:n]...)
		train = append(train, class[n:]...)
	}
	return train, test
}

// fill fills the gaps from the train rows.
func (f finish) fill(d dataset) {
	for _, c := range f.columns {
		var fill any
		switch {
		case c.alias != "" || c.required || c.missing == "null" || c.kind == "VARCHAR":
			continue
		case c.missing == "zero" && c.kind == "FLOAT":
			fill = 0.0
		case c.missing == "zero":
			fill = int32(0)
		case c.missing == "false":
			fill = false
		case c.missing == "median":
			if fill = lowerMedian(d.train, c.name); fill == nil {
				continue
			}
		}
		d.fills[c.name] = fill
		for _, part := range [][]row{d.train, d.test} {
			for _, r := range part {
				if r.values[c.name] == nil {
					r.values[c.name] = fill
				}
			}
		}
	}
}

// lowerMedian is element (n-1)/2 of the sorted values, nil when there are none.
func lowerMedian(rows []row, name string) any {
	var values []any
	for _, r := range rows {
		if v := r.values[name]; v != nil {
			values = append(values, v)
		}
	}
	if len(values) == 0 {
		return nil
	}
	slices.SortFunc(values, func(a, b any) int { return cmp.Compare(number(a), number(b)) })
	return values[(len(values)-1)/2]
}

func number(v any) float64 {
	switch v := v.(type) {
	case float64:
		return v
	case float32:
		return float64(v)
	case int32:
		return float64(v)
	case int64:
		return float64(v)
	default:
		return math.NaN()
	}
}

// hash is h(domain, id) with the seed 42, in hex.
func hash(domain, id string) string {
	sum := sha256.Sum256([]byte(domain + "\x0042\x00" + id))
	return hex.EncodeToString(sum[:8])
}
