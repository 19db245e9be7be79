package definition

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"go.yaml.in/yaml/v3"
)

// Format is the number of the file format that Load reads.
const Format = 1

// maxFile bounds a definition file. A generous one has a tenth of it.
const maxFile = 1 << 20

// loader turns the nodes of a file into a Definition. Each section is read and
// checked in one pass, in the order of dependence, not of the file.
type loader struct {
	reader
	def *Definition
	// state tells of each value and column read so far what the checks of later
	// ones need, by name.
	state map[string]*derived
	// ahead holds the names of all values and columns, to tell a forward
	// reference from an unknown name.
	ahead map[string]bool
	// current is the value or column that is being read, nil outside of one.
	current *derived
	// cel is the environment that every expression extends, made on first use.
	cel *cel.Env
}

// derived is what is known of a value or column that was read.
type derived struct {
	line int
	// outcome is the first outcome column, or label part, that it tells of.
	outcome string
	// late says that the dataset fills it in when rows are written, so that
	// nothing can be derived from it.
	late bool
	// pseudonym says that raw ids may be read.
	pseudonym bool
	value     bool // an intermediate value, not a column
}

// Load reads and validates a definition. file names it in messages. The error
// is an *Errors that lists every fault found.
func Load(data []byte, file string) (*Definition, error) {
	l := &loader{
		reader: reader{file: file},
		def:    &Definition{Source: bytes.Clone(data)},
		state:  make(map[string]*derived),
		ahead:  make(map[string]bool),
	}
	if root := l.parse(data); root != nil {
		l.definition(root)
	}
	if len(l.faults) > 0 {
		faults := sorted(l.faults)
		return nil, &faults
	}
	l.def.Hash = hash(l.def)
	return l.def, nil
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// parse returns the root mapping of the only document in data.
func (l *loader) parse(data []byte) *yaml.Node {
	if len(data) > maxFile {
		l.faultAt(0, "the definition has %d bytes, more than the %d allowed", len(data), maxFile)
		return nil
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	if err := decoder.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			l.faultAt(0, "the definition is empty")
			return nil
		}
		line := 0
		if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
			line, _ = strconv.Atoi(m[1]) // no digits: the file as a whole
		}
		l.faultAt(line, "no valid YAML: %s", yamlLine.ReplaceAllString(err.Error(), ""))
		return nil
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		l.fault(&doc, "the file must hold one YAML document")
		return nil
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		l.faultAt(0, "the definition is empty")
		return nil
	}
	return doc.Content[0]
}

// definition reads the whole file.
func (l *loader) definition(root *yaml.Node) {
	const what = "the definition"
	f := l.fields(root, what, "format", "name", "doc", "timezone", "entities", "tables", "example",
		"rows", "labels", "maps", "values", "columns", "cleaning", "privacy", "metadata", "report", "gates", "defaults")
	if deref(root).Kind != yaml.MappingNode {
		if len(l.faults) == 0 {
			l.fault(root, "the definition is empty")
		}
		return
	}
	l.require(root, what, f, "format", "name", "doc", "entities", "tables", "example", "labels", "columns")
	if n := f["format"]; !isNull(n) && n.Value != strconv.Itoa(Format) {
		l.fault(n, "format %q is not known to this program, which reads format %d", n.Value, Format)
	}
	l.def.Name = l.identifier(f["name"], "the name of the definition")
	l.def.Doc = l.text(f["doc"], "doc")
	l.zone(f["timezone"])
	l.entities(f["entities"])
	l.tables(f["tables"])
	l.example(f["example"])
	l.rows(f["rows"])
	l.needs(f["example"])
	l.labels(f["labels"])
	l.maps(f["maps"])
	l.derivedColumns(f["values"], f["columns"])
	l.cleaning(f["cleaning"])
	l.privacy(f["privacy"])
	l.metadata(f["metadata"])
	l.report(f["report"])
	l.gates(f["gates"])
	l.defaults(f["defaults"])
}

func (l *loader) zone(n *yaml.Node) {
	l.def.Zone = time.UTC
	if n == nil {
		return
	}
	name := l.text(n, "timezone")
	if name == "" || name == "UTC" {
		return
	}
	zone, err := time.LoadLocation(name)
	if err != nil || name == "Local" {
		l.fault(n, "unknown timezone %q: give a name of the IANA data base such as UTC or Europe/Berlin", name)
		return
	}
	l.def.Zone = zone
}

func (l *loader) entities(n *yaml.Node) {
	for _, e := range l.entries(n, "entities") {
		entity := Entity{Name: l.identifier(e.key, "the name of an entity")}
		what := "entity " + e.name()
		f := l.fields(e.value, what, "doc")
		l.require(e.key, what, f, "doc")
		entity.Doc = l.text(f["doc"], "doc of "+what)
		l.def.Entities = append(l.def.Entities, entity)
	}
}

func (l *loader) maps(n *yaml.Node) {
	for _, e := range l.entries(n, "maps") {
		what := "map " + e.name()
		f := l.fields(e.value, what, "doc", "else", "labels")
		l.require(e.key, what, f, "doc", "labels")
		m := Map{Name: l.identifier(e.key, "the name of a map"), Labels: make(map[string]string)}
		m.Doc = l.text(f["doc"], "doc of "+what)
		m.Else = l.text(f["else"], "else of "+what)
		for _, label := range l.entries(f["labels"], "labels of "+what) {
			for _, item := range l.items(label.value, "label "+label.name()) {
				text := l.text(item, "each text of label "+label.name())
				if other, ok := m.Labels[text]; ok && text != "" {
					l.fault(item, "%q stands under label %q already", text, other)
					continue
				}
				m.Labels[text] = label.name()
			}
		}
		l.def.Maps = append(l.def.Maps, m)
	}
}

var word = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// identifier reads a name made of letters, digits and underscores.
func (l *loader) identifier(n *yaml.Node, what string) string {
	name := l.text(n, what)
	if name == "" {
		return ""
	}
	if len(name) > 63 || !word.MatchString(name) {
		l.fault(n, "%s must be letters, digits and underscores, at most 63, and not begin with a digit: %q", what, name)
	}
	return name
}

// names lists the names of things.
func names[T any](list []T, name func(*T) string) []string {
	out := make([]string, len(list))
	for i := range list {
		out[i] = name(&list[i])
	}
	return out
}

func (l *loader) entityNames() []string {
	return names(l.def.Entities, func(e *Entity) string { return e.Name })
}

func (l *loader) tableNames() []string {
	return names(l.def.Tables, func(t *Table) string { return t.Name })
}

func (l *loader) rowNames() []string {
	return names(l.def.Rows, func(r *Row) string { return r.Name })
}

func (t *Table) columnNames() []string {
	return names(t.Columns, func(c *SourceColumn) string { return c.Name })
}

// oneOf reads a word of a closed set.
func oneOf[T ~string](l *loader, n *yaml.Node, kind string, known ...T) T {
	name := l.text(n, kind)
	if name == "" {
		return ""
	}
	if !slices.Contains(known, T(name)) {
		list := make([]string, len(known))
		for i, k := range known {
			list[i] = string(k)
		}
		l.fault(n, "%s", unknown(kind, name, list))
		return ""
	}
	return T(name)
}

// table reads the name of a table and returns the table, nil beside a fault.
func (l *loader) table(n *yaml.Node, what string) *Table {
	name := l.text(n, what)
	if name == "" {
		return nil
	}
	if t := l.def.Table(name); t != nil {
		return t
	}
	l.fault(n, "%s in %s", unknown("table", name, l.tableNames()), what)
	return nil
}

// column reads the name of a column of t; only says which types it may have,
// none for any.
func (l *loader) column(t *Table, n *yaml.Node, what string, only ...Type) string {
	name := l.text(n, what)
	if name == "" || t == nil {
		return name
	}
	c := t.Column(name)
	if c == nil {
		l.fault(n, "%s of table %s in %s", unknown("column", name, t.columnNames()), t.Name, what)
		return name
	}
	if c.Type != "" && len(only) > 0 && !slices.Contains(only, c.Type) {
		l.fault(n, "%s must be a %s column, %s.%s is %s", what, typeList(only), t.Name, name, c.Type)
	}
	return name
}

// columnList reads the names of columns of t.
func (l *loader) columnList(t *Table, n *yaml.Node, what string, only ...Type) []string {
	l.texts(n, what)
	var list []string
	for _, item := range l.items(n, what) {
		if item.Kind == yaml.ScalarNode && !isNull(item) && item.Value != "" && !slices.Contains(list, item.Value) {
			list = append(list, l.column(t, item, what, only...))
		}
	}
	return list
}

func typeList[T ~string](types []T) string {
	list := make([]string, len(types))
	for i, t := range types {
		list[i] = string(t)
	}
	return strings.Join(list, " or ")
}
