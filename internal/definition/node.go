package definition

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// reader reads YAML nodes and collects what is wrong with them. Its methods
// return a zero value beside a fault, and never stop.
type reader struct {
	file   string
	faults []Fault
}

// entry is one key of a mapping with its value.
type entry struct {
	key   *yaml.Node
	value *yaml.Node
}

func (e entry) name() string { return e.key.Value }

// fault records what is wrong at a node.
func (r *reader) fault(n *yaml.Node, format string, args ...any) {
	line := 0
	if n != nil {
		line = n.Line
	}
	r.faultAt(line, format, args...)
}

func (r *reader) faultAt(line int, format string, args ...any) {
	r.faults = append(r.faults, Fault{File: r.file, Line: line, Message: fmt.Sprintf(format, args...)})
}

// deref follows a YAML alias to the node that it stands for.
func deref(n *yaml.Node) *yaml.Node {
	if n != nil && n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

// isNull tells an absent node or the YAML null.
func isNull(n *yaml.Node) bool {
	n = deref(n)
	return n == nil || n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
}

// entries reads a mapping with free keys. what names it in faults.
func (r *reader) entries(n *yaml.Node, what string) []entry {
	n = deref(n)
	if isNull(n) {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		r.fault(n, "%s must be a mapping of keys to values", what)
		return nil
	}
	list := make([]entry, 0, len(n.Content)/2)
	seen := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := deref(n.Content[i]), deref(n.Content[i+1])
		if key.Kind != yaml.ScalarNode || key.Value == "" {
			r.fault(n.Content[i], "a key of %s must be a word", what)
			continue
		}
		if line, ok := seen[key.Value]; ok {
			r.fault(n.Content[i], "duplicate key %q of %s, first on line %d", key.Value, what, line)
			continue
		}
		seen[key.Value] = n.Content[i].Line
		list = append(list, entry{n.Content[i], value})
	}
	return list
}

// fields reads a mapping with fixed keys and refuses any other.
func (r *reader) fields(n *yaml.Node, what string, known ...string) map[string]*yaml.Node {
	m := make(map[string]*yaml.Node, len(known))
	for _, e := range r.entries(n, what) {
		if !slices.Contains(known, e.name()) {
			r.fault(e.key, "%s in %s", unknown("key", e.name(), known), what)
			continue
		}
		m[e.name()] = e.value
	}
	return m
}

// text reads a scalar as it is written: 12 and "12" are the same text.
func (r *reader) text(n *yaml.Node, what string) string {
	n = deref(n)
	if n == nil {
		return ""
	}
	if n.Kind != yaml.ScalarNode || isNull(n) || n.Value == "" {
		r.fault(n, "%s must be a text", what)
		return ""
	}
	return n.Value
}

// texts reads a list of texts; a single text is a list of one.
func (r *reader) texts(n *yaml.Node, what string) []string {
	nodes := r.items(n, what)
	list := make([]string, 0, len(nodes))
	for _, item := range nodes {
		if s := r.text(item, "each of "+what); s != "" {
			if slices.Contains(list, s) {
				r.fault(item, "%q stands twice in %s", s, what)
				continue
			}
			list = append(list, s)
		}
	}
	return list
}

// items returns the elements of a list; a single scalar is a list of one.
func (r *reader) items(n *yaml.Node, what string) []*yaml.Node {
	n = deref(n)
	switch {
	case isNull(n):
		return nil
	case n.Kind == yaml.ScalarNode:
		return []*yaml.Node{n}
	case n.Kind != yaml.SequenceNode:
		r.fault(n, "%s must be a list", what)
		return nil
	}
	list := make([]*yaml.Node, len(n.Content))
	for i, item := range n.Content {
		list[i] = deref(item)
	}
	return list
}

func (r *reader) boolean(n *yaml.Node, what string) bool {
	n = deref(n)
	if n == nil {
		return false
	}
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!bool" {
		switch n.Value {
		case "true":
			return true
		case "false":
			return false
		}
	}
	r.fault(n, "%s must be true or false", what)
	return false
}

func (r *reader) integer(n *yaml.Node, what string) int64 {
	n = deref(n)
	if n == nil {
		return 0
	}
	if n.Kind == yaml.ScalarNode {
		if v, err := strconv.ParseInt(n.Value, 10, 64); err == nil {
			return v
		}
	}
	r.fault(n, "%s must be a whole number", what)
	return 0
}

// count reads an integer from low to 2³¹ − 1.
func (r *reader) count(n *yaml.Node, what string, low int64) int {
	if deref(n) == nil {
		return 0
	}
	before := len(r.faults)
	v := r.integer(n, what)
	if len(r.faults) == before && (v < low || v > math.MaxInt32) {
		r.fault(n, "%s must be a whole number from %d on", what, low)
		return 0
	}
	return int(v)
}

func (r *reader) number(n *yaml.Node, what string) float64 {
	n = deref(n)
	if n == nil {
		return 0
	}
	if n.Kind == yaml.ScalarNode {
		if v, err := strconv.ParseFloat(n.Value, 64); err == nil && !math.IsNaN(v) && !math.IsInf(v, 0) {
			return v
		}
	}
	r.fault(n, "%s must be a finite number", what)
	return 0
}

// between reads two numbers in order: the ends of a range.
func (r *reader) between(n *yaml.Node, what string) (low, high float64, ok bool) {
	before := len(r.faults)
	list := r.items(n, what)
	if len(list) != 2 {
		r.fault(n, "%s must be two numbers, [low, high]", what)
		return 0, 0, false
	}
	low, high = r.number(list[0], what), r.number(list[1], what)
	if len(r.faults) != before {
		return 0, 0, false
	}
	if low > high {
		r.fault(n, "%s is reversed: %v is above %v", what, low, high)
		return 0, 0, false
	}
	return low, high, true
}

// duration reads a positive length of time: a whole number with the letter d
// for days, h, m or s.
func (r *reader) duration(n *yaml.Node, what string) time.Duration {
	n = deref(n)
	if n == nil {
		return 0
	}
	if n.Kind == yaml.ScalarNode && len(n.Value) > 1 {
		units := map[byte]time.Duration{'d': 24 * time.Hour, 'h': time.Hour, 'm': time.Minute, 's': time.Second}
		unit, ok := units[n.Value[len(n.Value)-1]]
		v, err := strconv.ParseInt(n.Value[:len(n.Value)-1], 10, 64)
		if ok && err == nil && v > 0 && v <= int64(math.MaxInt64/unit) {
			return time.Duration(v) * unit
		}
	}
	r.fault(n, "%s must be a length of time above zero, such as 90d, 12h, 30m or 10s", what)
	return 0
}

// unit reads a unit of time.
func (r *reader) unit(n *yaml.Node, what string) time.Duration {
	units := map[string]time.Duration{
		"days": 24 * time.Hour, "hours": time.Hour, "minutes": time.Minute, "seconds": time.Second,
	}
	name := r.text(n, what)
	u, ok := units[name]
	if !ok && name != "" {
		r.fault(n, "%s", unknown("unit", name, []string{"days", "hours", "minutes", "seconds"}))
	}
	return u
}

// size reads a number of bytes: 10MB, 512KB, 1GB (powers of 1024) or 100B.
func (r *reader) size(n *yaml.Node, what string) int64 {
	n = deref(n)
	if n == nil {
		return 0
	}
	if n.Kind == yaml.ScalarNode {
		units := []struct {
			suffix string
			bytes  int64
		}{{"KB", 1 << 10}, {"MB", 1 << 20}, {"GB", 1 << 30}, {"B", 1}}
		for _, u := range units {
			digits, ok := strings.CutSuffix(n.Value, u.suffix)
			if !ok {
				continue
			}
			v, err := strconv.ParseInt(digits, 10, 64)
			if err == nil && v >= 0 && v <= math.MaxInt64/u.bytes {
				return v * u.bytes
			}
			break
		}
	}
	r.fault(n, "%s must be a size such as 10MB, 512KB or 100B", what)
	return 0
}

// require records a fault at n for each key that m lacks, and says whether
// there was none.
func (r *reader) require(n *yaml.Node, what string, m map[string]*yaml.Node, keys ...string) bool {
	complete := true
	for _, key := range keys {
		if isNull(m[key]) {
			r.fault(n, "%s lacks %q", what, key)
			complete = false
		}
	}
	return complete
}
