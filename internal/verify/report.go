package verify

// Kind says how a key differs.
type Kind string

// The kinds of a difference.
const (
	// Missing is a row of the source that the store does not hold.
	Missing Kind = "missing"
	// Extra is a row that the store holds and the source does not.
	Extra Kind = "extra"
	// Different is a row of which columns differ.
	Different Kind = "different"
	// Unreadable is a row that the store holds but cannot decode.
	Unreadable Kind = "unreadable"
	// Repeated is a key that one side holds more often than the other.
	Repeated Kind = "repeated"
)

// Difference is one key at which the sides differ.
type Difference struct {
	Key  []byte
	Kind Kind
	// Columns are those that differ, for the kind Different. It is empty if they
	// cannot be told.
	Columns []string
}

// TableReport is what was found about one table.
type TableReport struct {
	Name                  string
	SourceRows, StoreRows uint64
	// Differences are in the order of their keys.
	Differences []Difference
	// UnnamedParts are parts of the table that differ too but were not looked
	// into, since they would have taken too much memory; together the sides hold
	// UnnamedRows rows in them.
	UnnamedParts int
	UnnamedRows  uint64
}

// Equal says whether the two sides hold the same.
func (t *TableReport) Equal() bool { return len(t.Differences) == 0 && t.UnnamedParts == 0 }

// Report is the result of a comparison, one entry for each of Config.Tables.
type Report struct{ Tables []TableReport }

// Equal says whether the two sides hold the same.
func (r *Report) Equal() bool {
	for i := range r.Tables {
		if !r.Tables[i].Equal() {
			return false
		}
	}
	return true
}
