package definition

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Fault is one thing that is wrong with a definition.
type Fault struct {
	File string
	// Line counts from 1; 0 means the file as a whole.
	Line    int
	Message string
}

// String renders the fault as compilers do.
func (f Fault) String() string {
	if f.Line == 0 {
		return f.File + ": " + f.Message
	}
	return fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.Message)
}

// Errors are all the faults of a definition, in the order of their lines.
type Errors []Fault

// Error lists the faults, one a line.
func (e *Errors) Error() string {
	lines := make([]string, len(*e))
	for i, f := range *e {
		lines[i] = f.String()
	}
	return strings.Join(lines, "\n")
}

// sorted returns the faults by line, without repetitions.
func sorted(faults []Fault) Errors {
	slices.SortStableFunc(faults, func(a, b Fault) int { return cmp.Compare(a.Line, b.Line) })
	return slices.Compact(faults)
}

// unknown words the refusal of a name that is none of the known ones.
func unknown(kind, name string, known []string) string {
	text := fmt.Sprintf("unknown %s %q", kind, name)
	if near := nearest(name, known); near != "" {
		return text + fmt.Sprintf(", did you mean %q?", near)
	}
	switch {
	case len(known) == 0:
		return text + ", there are none"
	case len(known) == 1:
		return text + ", the only one is " + known[0]
	case len(known) <= 16:
		return text + ", known are " + strings.Join(known, ", ")
	}
	return text
}

// Unknown words the refusal of a name that is none of the known ones, for what
// is asked by the names of a definition: it tells the nearest one.
func Unknown(kind, name string, known []string) string { return unknown(kind, name, known) }

// nearest returns the known name that a mistyped one most likely means: the
// one at the smallest edit distance, the first of equals; "" if none is near.
func nearest(name string, known []string) string {
	if len(name) > 100 {
		return ""
	}
	best, limit := "", max(1, len(name)/3)+1
	name = strings.ToLower(name)
	for _, k := range known {
		low := strings.ToLower(k)
		d := distance(name, low)
		if len(low) > 2 && (strings.HasPrefix(name, low) || strings.HasPrefix(low, name)) {
			d = min(d, limit-1) // integer for int, where for whereabouts
		}
		if d < limit && d < max(len(k), 2) {
			best, limit = k, d
		}
	}
	return best
}

// distance is the optimal string alignment distance: insertions, deletions,
// replacements and swaps of neighbouring bytes.
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
