package pit

// ground is a kind of thing that a derivation may rest on.
type ground uint8

const (
	onOwn    ground = iota // the example's own row
	onRow                  // a named row, by its source
	onTable                // all rows of the entity in a table, by its index
	onTarget               // a value or column derived earlier
)

// footing is one thing that a derivation rests on.
type footing struct {
	kind   ground
	index  int
	target target
	// group is equal for things of which one is enough.
	group int
}

// rest is what a step rests on, in the order in which its derivation names it.
// It tells how a value came to be missing, never what the value is.
type rest struct {
	on     []footing
	either bool // what is noted next joins the group before
}

// note adds what the step being compiled rests on. What no step rests on, such
// as the paths of the gates, is noted nowhere.
func (r *rest) note(f footing) {
	if r == nil {
		return
	}
	if n := len(r.on); n > 0 {
		f.group = r.on[n-1].group
		if !r.either {
			f.group++
		}
	}
	r.on = append(r.on, f)
}

// any notes what fn compiles as things of which one is enough.
func (c *compiler) any(fn func() error) error {
	if c.rest == nil {
		return fn()
	}
	before := len(c.rest.on)
	err := fn()
	for i := before + 1; i < len(c.rest.on); i++ {
		c.rest.on[i].group = c.rest.on[before].group
	}
	return err
}

// resting compiles with fn what one step does, and returns what that rests on.
func (c *compiler) resting(fn func() error) (*rest, error) {
	outer := c.rest
	c.rest = &rest{}
	defer func() { c.rest = outer }()
	err := fn()
	return c.rest, err
}
