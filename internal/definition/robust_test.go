package definition_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"go.yaml.in/yaml/v3"

	"dreamfeed/deploy"
	"dreamfeed/internal/definition"
)

// tryLoad loads what may be anything, and holds the result to what Load promises.
func tryLoad(t *testing.T, data []byte) {
	t.Helper()
	d, err := definition.Load(data, "any.yaml")
	if err != nil {
		var faults *definition.Errors
		if d != nil || !errors.As(err, &faults) || len(*faults) == 0 {
			t.Fatalf("error %v is no list of faults", err)
		}
		for i, f := range *faults {
			if f.File != "any.yaml" || f.Message == "" || f.Line < 0 || i > 0 && f.Line < (*faults)[i-1].Line {
				t.Errorf("fault %+v", f)
			}
		}
		return
	}
	if len(d.Hash) != 64 || d.Zone == nil || len(d.Columns) == 0 {
		t.Errorf("loaded with hash %q, zone %v, %d columns", d.Hash, d.Zone, len(d.Columns))
	}
	if err := definition.Dictionary(io.Discard, d); err != nil {
		t.Error(err)
	}
	for _, r := range d.Rows {
		evaluate(t, r.Where)
	}
	for _, c := range append(d.Values, d.Columns...) {
		if c.Type == "" || c.Doc == "" || c.Missing == "" {
			t.Errorf("column %s is incomplete: %+v", c.Name, c)
		}
		evaluate(t, c.Derive.CEL)
	}
}

// evaluate runs an expression over nulls.
func evaluate(t *testing.T, f *definition.Filter) {
	if f == nil {
		return
	}
	if _, err := f.Value(func(int) any { return nil }); err != nil {
		t.Logf("%s: %v", f.Source, err) // 1/0 is allowed to fail
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(deploy.Dreamscape)
	f.Add(bookshop(f))
	f.Add([]byte(strings.NewReplacer("WHERE", "row.ok", "TYPE", "bool", "CEL", "last.ok").Replace(small)))
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte("columns: &c {x: *c}\n<<: *c\n"))
	f.Fuzz(func(t *testing.T, data []byte) { tryLoad(t, data) })
}

// TestNoNodeOfAnotherKindPanics puts a node of each kind in the place of each
// node of a file.
func TestNoNodeOfAnotherKindPanics(t *testing.T) {
	source := strings.NewReplacer("WHERE", "row.ok", "TYPE", "bool", "CEL", "last.ok").Replace(small)
	source += `
maps: {m: {doc: M., else: x, labels: {a: [b, c]}}}
cleaning: {outliers: {of: [half], deviations: 2}}
privacy: {rare: {min_users: 3, other: O}, groups: {of: [], min_users: 2}}
metadata: {s: {mean: out}}
report: {charts: [{title: T, kind: bars, column: out}]}
gates: {train_size: 1KB, rate: [0, 1], class_share: 1, outlier_class: 3, uniform: {k: [last.kind, last.data.k]}}
defaults: {window: 3d}
timezone: Europe/Rome
`
	if _, err := definition.Load([]byte(source), "small.yaml"); err != nil {
		t.Fatal(err)
	}
	var root yaml.Node
	if err := yaml.Unmarshal([]byte(source), &root); err != nil {
		t.Fatal(err)
	}
	replacements := []yaml.Node{
		{Kind: yaml.ScalarNode, Tag: "!!null", Value: "null"},
		{Kind: yaml.ScalarNode, Tag: "!!str", Value: "x"},
		{Kind: yaml.ScalarNode, Tag: "!!str", Value: "", Style: yaml.DoubleQuotedStyle},
		{Kind: yaml.ScalarNode, Tag: "!!int", Value: "-7"},
		{Kind: yaml.SequenceNode, Tag: "!!seq"},
		{Kind: yaml.MappingNode, Tag: "!!map"},
		{Kind: yaml.SequenceNode, Tag: "!!seq", Content: []*yaml.Node{
			{Kind: yaml.MappingNode, Tag: "!!map"}, {Kind: yaml.SequenceNode, Tag: "!!seq"},
		}},
	}
	count := 0
	var visit func(n *yaml.Node)
	visit = func(n *yaml.Node) {
		kept := *n
		for _, r := range replacements {
			*n = r
			data, err := yaml.Marshal(&root)
			*n = kept
			if err != nil {
				continue // a key of a mapping that YAML itself cannot write
			}
			count++
			tryLoad(t, data)
		}
		for _, child := range kept.Content {
			visit(child)
		}
	}
	visit(root.Content[0])
	if count < 1000 {
		t.Errorf("only %d files were tried", count)
	}
}

func TestEveryFaultIsReportedAtOnceInOrder(t *testing.T) {
	text := string(bookshop(t))
	for _, r := range [][2]string{
		{"entity: title", "entity: titel"},
		{"goal: TAKEN", "goal: TOOK"},
		{"value: reader.city, class: quasi", "value: reader.citi, class: quasy"},
		{"window: 30d\n", "windows: 30d\n"},
	} {
		text = strings.ReplaceAll(text, r[0], r[1])
	}
	_, err := definition.Load([]byte(text), "shop.yaml")
	if err == nil {
		t.Fatal("it was loaded")
	}
	want := `shop.yaml:18: unknown entity "titel", did you mean "title"? in table titles
shop.yaml:49: unknown outcome "TOOK", known are TAKEN, OPENED, IGNORED in goal of labels
shop.yaml:73: unknown column "citi", did you mean "city"? of reader (table readers) in value of column city
shop.yaml:73: unknown class "quasy", did you mean "quasi"?
shop.yaml:127: unknown key "windows", did you mean "window"? in defaults`
	if err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestWhatIsNoDefinitionIsRefused(t *testing.T) {
	cases := map[string]string{
		"":                           "x.yaml: the definition is empty",
		"# nothing\n":                "x.yaml: the definition is empty",
		"null\n":                     "x.yaml:1: the definition",
		"[]\n":                       "x.yaml:1: the definition must be a mapping of keys to values",
		"a: b: c\n":                  "x.yaml: no valid YAML: mapping values are not allowed in this context",
		"a: *nowhere\n":              "x.yaml: no valid YAML: unknown anchor 'nowhere' referenced",
		strings.Repeat("#", 2<<20):   "x.yaml: the definition has 2097152 bytes, more than the 1048576 allowed",
		"format: 1\nname: nothing\n": `x.yaml:1: the definition lacks "doc"`,
	}
	for text, want := range cases {
		_, err := definition.Load([]byte(text), "x.yaml")
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%.20q: %v, want %s", text, err, want)
		}
	}
}

func TestExpressionsAreSafeForConcurrentUse(t *testing.T) {
	f := smallWith(t, `row.n > 10 && row.kind == "A"`, "bool", "true").Rows[0].Where
	var wait sync.WaitGroup
	for g := range 4 {
		wait.Go(func() {
			for i := range 500 {
				n := int64(g*500 + i)
				ok, err := f.Bool(values(f, map[string]any{"row.n": n, "row.kind": "A"}))
				if err != nil || ok != (n > 10) {
					t.Errorf("%d: %v %v", n, ok, err)
				}
			}
		})
	}
	wait.Wait()
}

func TestTheSourceIsACopy(t *testing.T) {
	data := bookshop(t)
	d := load(t, data, "bookshop.yaml")
	kept := bytes.Clone(data)
	data[0] = 'X'
	if !bytes.Equal(d.Source, kept) {
		t.Error("the definition's source follows the caller's bytes")
	}
}

func ExampleLoad() {
	_, err := definition.Load([]byte("format: 1\nname: demo\nentites: {}\n"), "demo.yaml")
	var faults *definition.Errors
	if errors.As(err, &faults) {
		fmt.Println((*faults)[len(*faults)-1])
	}
	// Output: demo.yaml:3: unknown key "entites", did you mean "entities"? in the definition
}
