package parquetfile

import (
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"

	"dreamfeed/snapshot/spill"
)

// Type is the type of a column.
type Type string

// The types, by the names that the digest uses.
const (
	Float32   Type = "float32"
	Int32     Type = "int32"
	Bool      Type = "bool"
	String    Type = "string"
	Timestamp Type = "timestamp" // µs since the epoch, UTC
)

// Kind is how values of the type stand in a batch.
func (t Type) Kind() spill.Kind {
	switch t {
	case Float32:
		return spill.Float32
	case Int32:
		return spill.Int32
	case Bool:
		return spill.Bool
	case Timestamp:
		return spill.Int64
	}
	return spill.Text
}

// Column is a column of the file.
type Column struct {
	Name     string
	Type     Type
	Required bool
	// Distinct says that hardly any text occurs twice: no dictionary is tried.
	Distinct bool
	// Copies is the name of an earlier column of the same type, "" if there is
	// none: this one has its values, and its own place in a batch stays empty.
	Copies string
}

// dictionary says whether the column's texts go to a dictionary.
func (c *Column) dictionary() bool { return c.Type == String && !c.Distinct }

// encodings are those of the column's pages, in ascending order.
func (c *Column) encodings() []format.Encoding {
	list := []format.Encoding{format.Plain}
	if !c.Required {
		list = append(list, format.RLE)
	}
	if c.dictionary() {
		list = append(list, format.RLEDictionary)
	}
	return list
}

func (c Column) node() parquet.Node {
	var n parquet.Node
	switch c.Type {
	case Float32:
		n = parquet.Encoded(parquet.Leaf(parquet.FloatType), &parquet.Plain)
	case Int32:
		n = parquet.Encoded(parquet.Leaf(parquet.Int32Type), &parquet.Plain)
	case Bool:
		n = parquet.Encoded(parquet.Leaf(parquet.BooleanType), &parquet.Plain)
	case Timestamp:
		n = parquet.Encoded(parquet.Timestamp(parquet.Microsecond), &parquet.Plain)
	default:
		n = parquet.String()
		if c.Distinct {
			n = parquet.Encoded(n, &parquet.Plain)
		} else {
			n = parquet.Encoded(n, &parquet.RLEDictionary)
		}
	}
	if c.Required {
		return parquet.Required(n)
	}
	return parquet.Optional(n)
}

// orderedGroup is a group whose fields keep the dataset's order; parquet.Group
// sorts them by name.
type orderedGroup struct {
	parquet.Group
	fields []parquet.Field
}

func (g *orderedGroup) Fields() []parquet.Field { return g.fields }

func newSchema(name string, columns []Column) *parquet.Schema {
	g := &orderedGroup{Group: parquet.Group{}}
	for _, c := range columns {
		g.Group[c.Name] = c.node()
	}
	sorted := map[string]parquet.Field{}
	for _, f := range g.Group.Fields() {
		sorted[f.Name()] = f
	}
	for _, c := range columns {
		g.fields = append(g.fields, sorted[c.Name])
	}
	return parquet.NewSchema(name, g)
}
