package definition

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"go.yaml.in/yaml/v3"
)

// Limits of an expression: its length in code points, the depth of its tree,
// and what one evaluation may cost where it loops over a list.
const (
	maxExpression = 4096
	maxDepth      = 64
	maxCost       = 100_000
)

// where reads a filter over the rows of a table, nil if there is none.
func (l *loader) where(n *yaml.Node, t *Table, what string) *Filter {
	if n == nil {
		return nil
	}
	what = "where of " + what
	f := &Filter{Source: l.text(n, what), Line: n.Line}
	if f.Source == "" || t == nil {
		return f
	}
	c := l.compiler(f, n, what)
	c.resolve = func(root, field string) (Ref, Type, bool) {
		if root != "row" || field == "" {
			return Ref{}, "", false
		}
		ref := Ref{Row: root, Column: field}
		col := t.Column(field)
		if col == nil {
			c.refuse("%s of table %s in %s", unknown("column", field, t.columnNames()), t.Name, what)
			return ref, "", true
		}
		return ref, col.Type, true
	}
	c.roots = []string{"row"}
	c.compile(Boolean)
	return f
}

// expression reads a column's expression over the example, the named rows and
// the values and columns above it.
func (l *loader) expression(n *yaml.Node, want OutputType, what string) *Filter {
	f := &Filter{Source: l.text(n, what), Line: n.Line}
	if f.Source == "" {
		return f
	}
	c := l.compiler(f, n, what)
	c.roots = append([]string{"example"}, l.rowNames()...)
	c.resolve = func(root, field string) (Ref, Type, bool) {
		ref := Ref{Row: root, Column: field}
		switch {
		case field == "" && l.ahead[root]:
			ref = Ref{Column: root}
		case field == "" || !slices.Contains(c.roots, root):
			return Ref{}, "", false
		}
		before := len(l.faults)
		got, _ := l.typeOf(n, ref, what)
		c.bad = c.bad || len(l.faults) > before
		return ref, got, true
	}
	c.compile(want)
	return f
}

// compiler turns the source of one expression into a program.
type compiler struct {
	*loader
	filter *Filter
	node   *yaml.Node
	what   string
	roots  []string
	// resolve says what root.field, or root alone, stands for; ok is false for
	// what is none of the definition's names.
	resolve func(root, field string) (ref Ref, kind Type, ok bool)
	bad     bool
	text    bool // all variables are text columns
	refs    []Ref
	options []cel.EnvOption
	seen    map[string]bool
}

func (l *loader) compiler(f *Filter, n *yaml.Node, what string) *compiler {
	return &compiler{loader: l, filter: f, node: n, what: what, text: true, seen: make(map[string]bool)}
}

func (c *compiler) refuse(format string, args ...any) {
	c.bad = true
	c.fault(c.node, format, args...)
}

// issues records what CEL found, at its place.
func (c *compiler) issues(issues *cel.Issues) {
	for _, e := range issues.Errors() {
		line, place := c.node.Line, ""
		if c.node.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
			line += max(e.Location.Line(), 1)
		} else if e.Location.Column() >= 0 {
			place = fmt.Sprintf(" at character %d", e.Location.Column()+1)
		}
		c.bad = true
		c.faultAt(line, "%s%s: %s", c.what, place, tidy(e.Message))
	}
}

var container = regexp.MustCompile(` \(in container ''\)`)

// tidy makes a message of CEL one line and free of what a reader cannot use.
func tidy(message string) string {
	return strings.Join(strings.Fields(container.ReplaceAllString(message, "")), " ")
}

// compile parses, checks and plans the expression; want is the type of its
// result, "" if the column's type was refused already.
func (c *compiler) compile(want OutputType) {
	env, err := c.environment()
	if err != nil {
		c.refuse("%s: %v", c.what, err)
		return
	}
	parsed, issues := env.Parse(c.filter.Source)
	if issues.Err() != nil {
		c.issues(issues)
		return
	}
	c.declare(parsed.NativeRep().Expr())
	if c.bad {
		return
	}
	if env, err = env.Extend(c.options...); err != nil {
		c.refuse("%s: %v", c.what, err)
		return
	}
	checked, issues := env.Check(parsed)
	if issues.Err() != nil {
		c.issues(issues)
		return
	}
	if want == "" {
		return
	}
	if got := checked.OutputType(); !gives(got, want) {
		hint := ""
		if got.IsExactType(cel.DynType) {
			hint = ": convert it by string(), double(), int(), bool() or timestamp()"
		}
		c.refuse("%s must give %s, it gives %s%s", c.what, want, got, hint)
		return
	}
	var options []cel.ProgramOption
	options = append(options, cel.EvalOptions(cel.OptOptimize))
	if loops(checked.NativeRep().Expr()) {
		options = append(options, cel.CostLimit(maxCost))
	}
	plan, err := env.Program(checked, options...)
	if err != nil {
		c.refuse("%s: %v", c.what, err)
		return
	}
	c.filter.program = newProgram(plan, c.refs)
	if len(c.refs) == 1 && c.text {
		c.filter.program.texts = texts(checked.NativeRep().Expr(), c.refs[0])
	}
}

// environment is the standard CEL environment with our limits, without variables.
func (c *compiler) environment() (*cel.Env, error) {
	if c.cel != nil {
		return c.cel, nil
	}
	env, err := cel.NewEnv(
		cel.CrossTypeNumericComparisons(true),
		cel.DefaultUTCTimeZone(true),
		cel.ParserExpressionSizeLimit(maxExpression),
		cel.ParserRecursionLimit(maxDepth),
	)
	c.cel = env
	return env, err
}

// declare collects the variables that the expression uses.
func (c *compiler) declare(root ast.Expr) {
	inner := make(map[int64]bool) // operands of selections that are variables already
	ast.PreOrderVisit(root, ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.SelectKind:
			s := e.AsSelect()
			if s.Operand().Kind() != ast.IdentKind {
				return
			}
			name := s.Operand().AsIdent()
			ref, kind, ok := c.resolve(name, s.FieldName())
			if !ok {
				return
			}
			inner[s.Operand().ID()] = true
			if s.IsTestOnly() {
				c.refuse("%s: has(%s) is for fields of JSON objects: write %s != null", c.what, ref, ref)
				return
			}
			c.variable(ref, kind)
		case ast.IdentKind:
			if inner[e.ID()] {
				return
			}
			name := e.AsIdent()
			if slices.Contains(c.roots, name) {
				c.refuse("%s: %s is a row: name one of its columns, %s.column", c.what, name, name)
				return
			}
			if ref, kind, ok := c.resolve(name, ""); ok {
				c.variable(ref, kind)
			}
		}
	}))
}

func (c *compiler) variable(ref Ref, kind Type) {
	name := ref.String()
	if kind == "" {
		c.bad = true // its type was refused where it stands
		return
	}
	if c.seen[name] {
		return
	}
	c.seen[name] = true
	c.text = c.text && kind == Text
	c.refs = append(c.refs, ref)
	c.options = append(c.options, cel.Variable(name, celType(kind)))
}

// celType is the type of a column in an expression: any may be null.
func celType(t Type) *cel.Type {
	switch t {
	case Text:
		return cel.NullableType(cel.StringType)
	case Int:
		return cel.NullableType(cel.IntType)
	case Float:
		return cel.NullableType(cel.DoubleType)
	case Bool:
		return cel.NullableType(cel.BoolType)
	case Timestamp:
		return cel.TimestampType
	case List:
		return cel.ListType(cel.StringType)
	}
	return cel.DynType
}

// gives says whether a result of type got fills a column of type want.
func gives(got *cel.Type, want OutputType) bool {
	is := func(t *cel.Type) bool { return got.IsExactType(t) || got.IsExactType(cel.NullableType(t)) }
	switch want {
	case String:
		return is(cel.StringType)
	case Float32:
		return is(cel.DoubleType) || is(cel.IntType)
	case Int32:
		return is(cel.IntType)
	case Boolean:
		return is(cel.BoolType)
	case TimeStamp:
		return got.IsExactType(cel.TimestampType)
	}
	return false
}

// loops says whether the expression goes over a list.
func loops(root ast.Expr) bool {
	found := false
	ast.PreOrderVisit(root, ast.NewExprVisitor(func(e ast.Expr) {
		found = found || e.Kind() == ast.ComprehensionKind
	}))
	return found
}

// texts recognises a checked filter that only compares one text column with
// constants. The checker has put the full name of a variable in one identifier.
func texts(root ast.Expr, ref Ref) []string {
	if root.Kind() != ast.CallKind {
		return nil
	}
	call := root.AsCall()
	if args := call.Args(); len(args) != 2 || args[0].Kind() != ast.IdentKind || args[0].AsIdent() != ref.String() {
		return nil
	}
	right := call.Args()[1]
	var constants []ast.Expr
	switch {
	case call.FunctionName() == operators.Equals:
		constants = []ast.Expr{right}
	case call.FunctionName() == operators.In && right.Kind() == ast.ListKind:
		constants = right.AsList().Elements()
	}
	var list []string
	for _, e := range constants {
		if e.Kind() != ast.LiteralKind {
			return nil
		}
		text, ok := e.AsLiteral().Value().(string)
		if !ok {
			return nil
		}
		list = append(list, text)
	}
	return list
}
