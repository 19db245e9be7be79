package definition

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// program is a compiled expression. It is safe for concurrent use.
type program struct {
	plan  cel.Program
	refs  []Ref
	index map[string]int
	texts []string
	pool  sync.Pool // of *inputs
}

func newProgram(plan cel.Program, refs []Ref) *program {
	p := &program{plan: plan, refs: refs, index: make(map[string]int, len(refs))}
	for i, r := range refs {
		p.index[r.String()] = i
	}
	p.pool.New = func() any { return &inputs{program: p} }
	return p
}

// inputs hands the variables of one evaluation to CEL.
type inputs struct {
	program *program
	get     func(i int) any
	null    bool  // a variable was null
	err     error // a variable could not be read
}

// Parent implements cel.Activation.
func (in *inputs) Parent() cel.Activation { return nil }

// ResolveName implements cel.Activation.
func (in *inputs) ResolveName(name string) (any, bool) {
	i, ok := in.program.index[name]
	if !ok {
		return nil, false
	}
	v := in.get(i)
	switch x := v.(type) {
	case nil:
		in.null = true
		return types.NullValue, true
	case json.RawMessage:
		var decoded any
		if err := json.Unmarshal(x, &decoded); err != nil {
			in.err = fmt.Errorf("%s is no JSON: %w", name, err)
			return types.NullValue, true
		}
		in.null = in.null || decoded == nil
		v = decoded
	}
	return v, true
}

// Refs are the columns that the expression reads, each once: of Row "row" in a
// Where; of Row "example", a named row, or "" (a value or column above) in a
// column. Bool and Value ask for them by their index.
func (f *Filter) Refs() []Ref {
	return f.program.refs
}

// Texts tells a filter that only says that one text column is one of some
// texts, the most frequent kind, so that a caller can do without CEL: it holds
// if the column, Refs()[0], is not null and equal to one of the texts.
func (f *Filter) Texts() (list []string, ok bool) {
	return f.program.texts, f.program.texts != nil
}

// Bool evaluates a filter. get returns the value of Refs()[i]: nil for null,
// else a string, int64, float64, bool, time.Time, []string, or for JSON a
// json.RawMessage or its decoded value. get may be called for any of them, in
// any order, or not at all.
//
// As in SQL, an expression that read a null and cannot be evaluated does not
// hold; that is no error. Any other failure (an overflow, a division by zero,
// an absent JSON field, text that is no JSON) makes the filter not hold and is
// the error, for the caller to count.
func (f *Filter) Bool(get func(i int) any) (bool, error) {
	v, err := f.eval(get)
	if err != nil || v == nil {
		return false, err
	}
	b, ok := v.Value().(bool)
	if !ok {
		return false, fmt.Errorf("evaluate %q: result is %s, not bool", f.Source, v.Type().TypeName())
	}
	return b, nil
}

// Value evaluates a column's expression: a string, int64, float64, bool or
// time.Time, or nil when it is missing. The result has the column's type, save
// that a float32 column may get an int64. get, null and errors are as in Bool.
func (f *Filter) Value(get func(i int) any) (any, error) {
	v, err := f.eval(get)
	if err != nil || v == nil {
		return nil, err
	}
	switch x := v.Value().(type) {
	case string, int64, float64, bool, time.Time:
		return x, nil
	}
	return nil, fmt.Errorf("evaluate %q: result is a %s", f.Source, v.Type().TypeName())
}

// eval returns the result, nil for null.
func (f *Filter) eval(get func(i int) any) (ref.Val, error) {
	in := f.program.pool.Get().(*inputs)
	in.get, in.null, in.err = get, false, nil
	v, _, err := f.program.plan.Eval(in)
	null, bad := in.null, in.err
	in.get = nil
	f.program.pool.Put(in)
	if bad != nil {
		return nil, bad
	}
	if err = unlessNull(err, null); err != nil {
		return nil, fmt.Errorf("evaluate %q: %w", f.Source, err)
	}
	if v == nil || v == types.NullValue || types.IsUnknownOrError(v) {
		return nil, nil
	}
	return v, nil
}

// unlessNull is how an evaluation failed, nil if it read a null: the result is
// then null too.
func unlessNull(err error, null bool) error {
	if null {
		return nil
	}
	return err
}
