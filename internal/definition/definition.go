package definition

import "time"

// Definition is a loaded and validated feature set. It is immutable. Maps of
// the file are slices here, in file order, so that every use is deterministic.
type Definition struct {
	Name string
	Doc  string
	// Hash is the hex SHA-256 of the definition in its canonical form: equal
	// for two files that differ only in comments, order of keys and layout.
	Hash string `json:"-"`
	// Source is the file as it was read.
	Source []byte `json:"-"`
	// Zone is the time zone of timestamps without zone.
	Zone *time.Location `json:"-"`

	Entities []Entity
	Maps     []Map
	Tables   []Table
	Example  Example
	Rows     []Row
	// Values are intermediate results: derived like columns, never released.
	Values  []Column
	Columns []Column
	Labels  Labels

	// Outliers are the names of columns and values whose extremes are dropped,
	// outside mean ± Deviations sample standard deviations.
	Outliers   []string
	Deviations float64
	Privacy    Privacy
	Metadata   []Statistic
	Charts     []Chart
	Gates      Gates
	// Defaults of `snapshot` flags that belong to the feature set.
	Defaults Defaults
}

// Entity is a kind of thing that rows belong to: a user, an item.
type Entity struct {
	Name string
	Doc  string
}

// Map is a lookup table from a text to a label.
type Map struct {
	Name   string
	Doc    string
	Else   string            // label of a text that no label lists; "" makes it missing
	Labels map[string]string // text → label
}

// Type is the logical type of a source column.
type Type string

// The logical types. Each accepts the PostgreSQL types named.
const (
	Text      Type = "text"      // text, varchar, char, uuid, enums, citext; any type not named here, as the source writes it
	Int       Type = "int"       // int2, int4, int8
	Float     Type = "float"     // float4, float8, numeric, int2, int4, int8
	Bool      Type = "bool"      // bool
	Timestamp Type = "timestamp" // timestamp, timestamptz, date
	JSON      Type = "json"      // json, jsonb
	List      Type = "list"      // arrays of text, varchar, char, citext or an enum
)

// Table is a source table and what is read of it.
type Table struct {
	Name   string // schema.table, or table in schema public
	Entity string // entity kind; "" when rows belong to none
	By     string // column that holds the entity's id
	Key    []string
	// Created and Updated are the columns that tell when a row came to be and
	// when it last changed, "" if there is none (DESIGN §6, known time).
	Created, Updated string
	Columns          []SourceColumn
}

// SourceColumn is a column of a source table.
type SourceColumn struct {
	Name string
	Type Type
}

// Column returns the source column with the name, nil if there is none.
func (t *Table) Column(name string) *SourceColumn {
	for i := range t.Columns {
		if t.Columns[i].Name == name {
			return &t.Columns[i]
		}
	}
	return nil
}

// Example says what one row of the dataset is.
type Example struct {
	Table string
	ID    string // column: the example's id, hashed for sampling and the split
	Time  string // column: t
	// Item is the column that holds the id of what the example shows, such as the
	// thing recommended; "" if there is none. Online requests give a list of them.
	Item string
	// Outcome are the columns read from the example's last version known at the
	// as-of moment; all others come from its first version.
	Outcome []string
	// Maturity is the age below which an example counts as immature;
	// DropImmature leaves such examples out.
	Maturity     time.Duration
	DropImmature bool
	// Needs are rows without which an example is left out, by funnel reason.
	Needs []Need
}

// Need leaves out, and counts under Reason, the examples that lack Row.
type Need struct {
	Reason string
	Row    string
}

// Row names a row that belongs to an example. Exactly one of these holds:
// Match is set (a row of another entity, found by its columns, the first
// alternative that finds one), Last is set (the newest event of the example's
// entity before t), or neither (the entity's one row of the table; the one
// changed last if there are several).
type Row struct {
	Name  string
	Table string
	Match []Match
	// Last is the event time: the first of these columns that is not null.
	Last  []string
	Where *Filter
}

// Match is one way to find a row: every pair must be equal and not null.
type Match []Pair

// Pair equates a column of the wanted row with a value of the example.
type Pair struct {
	Column string
	Ref    Ref
}

// Ref points to a column: of the example (Row "example"), of a named row, or
// to a value or an earlier column (Row "").
type Ref struct {
	Row    string
	Column string
}

// String renders the reference as the file writes it.
func (r Ref) String() string {
	if r.Row == "" {
		return r.Column
	}
	return r.Row + "." + r.Column
}

// OutputType is the type of a dataset column.
type OutputType string

// The output types.
const (
	String    OutputType = "string"
	Float32   OutputType = "float32"
	Int32     OutputType = "int32"
	Boolean   OutputType = "bool"
	TimeStamp OutputType = "timestamp" // µs, UTC
)

// Missing is what becomes of a missing value when the dataset is written.
type Missing string

// The rules for missing values.
const (
	MissingNull    Missing = "null"    // stays null
	MissingUnknown Missing = "UNKNOWN" // strings: the word UNKNOWN; an empty string counts as missing
	MissingFalse   Missing = "false"
	MissingZero    Missing = "zero"
	MissingMedian  Missing = "median" // the lower median of the train rows
)

// Class is a privacy class (CONTRACT, "Privacy classes").
type Class string

// The privacy classes.
const (
	ClassDirect    Class = "direct"
	ClassTime      Class = "time"
	ClassVector    Class = "vector"
	ClassQuasi     Class = "quasi"
	ClassSensitive Class = "sensitive"
	ClassCatalogue Class = "catalogue"
	ClassSafe      Class = "safe"
)

// Role is what a column is to a trainer.
type Role string

// The roles.
const (
	RoleID      Role = "id"
	RoleTime    Role = "time"
	RoleFeature Role = "feature"
	RoleLabel   Role = "label"
	RoleQuality Role = "quality"
	RoleAlias   Role = "alias"
)

// Column is a column of the dataset, or an intermediate value (Definition.Values).
type Column struct {
	Name     string
	Type     OutputType
	Derive   Derivation
	Required bool
	Missing  Missing // MissingNull for a required column: its rows are dropped instead
	// Clip, if not nil, is applied when the value is cleaned (floats of a
	// vector) or derived (everything else).
	Clip  *[2]float64
	Class Class
	Role  Role
	Doc   string
	// List says that a string holds several elements joined by commas, so that
	// rare elements are treated before rare lists.
	List bool
}

// Derivation is how a column comes about. Exactly one field is set.
type Derivation struct {
	Value     *Ref        // a column as it is, converted to the output type
	Element   *Element    // an element of a JSON array
	Bound     *Bound      // min or max of the first usable {min, max} object
	Total     *Total      // a count: integer, digits, or the sum of an object's parts
	Lookup    *Lookup     // a map, after normalising the text
	Bins      *Bins       // a label by integer range
	DatePart  *DatePart   // a part of a moment, optionally through labels
	Age       *Ref        // completed years from a birth date to t, as PostgreSQL's age(); outside 0 to 120 it is missing
	Between   *Between    // time between two moments
	Count     *Aggregate  // rows of an event table
	Mean      *Aggregate  // mean of a column over such rows
	Since     *Since      // time from a named last row's event to t
	Member    *Member     // whether such a row exists
	Joined    *Ref        // distinct elements of a list, sorted by bytes, joined by commas
	Constant  *string     // the same for every row, converted to the output type
	CEL       *Filter     // an expression over the named rows and the example
	Label     LabelPart   // a part of the label
	Pseudonym *Pseudonym  // a keyed pseudonym
	Quality   QualityPart // a property of the row itself
	Alias     string      // an equal copy of another column
}

// Element takes one element of a JSON array that must have exactly Length.
type Element struct {
	From   Ref
	Index  int
	Length int
}

// Bound takes "min" or "max" of the first of the JSON objects in which at
// least one of the two is a number. Both are missing if min > max or one is negative.
type Bound struct {
	Of   []Ref
	Take string
}

// Total reads a count: an integer ≥ 0; a string of digits; or the sum of the
// named parts of an object, absent ones 0, at least one present, each an integer ≥ 0.
type Total struct {
	Of    Ref
	Parts []string
}

// Lookup maps a text through a Map, after trimming and upper-casing if asked.
type Lookup struct {
	Of    Ref
	Map   string
	Trim  bool
	Upper bool
}

// Bins labels an integer by the first range that holds it. A value in a Fault
// range is missing and counted under its name.
type Bins struct {
	Of     Ref
	Bins   []Bin
	Faults []Bin
}

// Bin is an inclusive range; nil is open.
type Bin struct {
	Name     string
	From, To *int64
}

// DatePart takes a part of a moment in UTC: month (1 to 12), weekday (0 is
// Sunday), hour, day. If Map is set the number's decimal text goes through it.
// For a bool column, In says which parts are true.
type DatePart struct {
	Of   Ref
	Part string
	Map  string
	In   []int64
}

// Between is ⌊(to − from) ÷ unit⌋, To being the earliest of the moments that
// are not null. NegativeNull makes a negative result missing.
type Between struct {
	From         Ref
	To           []Ref
	Unit         time.Duration
	NegativeNull bool
}

// Aggregate is over the rows of an entity's table that hold at the cut-off,
// pass Where, and, if Time is set, whose first non-null Time column is before t
// and, if Window is set, not before t − Window.
type Aggregate struct {
	Table  string
	Column string // for a mean
	Time   []string
	Window time.Duration // 0: of any age
	Where  *Filter
}

// Since is ⌊(t − event time of the named row) ÷ unit⌋.
type Since struct {
	Row  string
	Unit time.Duration
}

// Member is true when a row of the table holds at the cut-off, passes Where,
// and has Column equal to the referenced value.
type Member struct {
	Table  string
	Column string
	Equals Ref
	Where  *Filter
}

// LabelPart names a part of the label.
type LabelPart string

// The parts of the label.
const (
	LabelNone  LabelPart = ""
	LabelName  LabelPart = "name"  // the outcome's name
	LabelScore LabelPart = "score" // its score
	LabelGoal  LabelPart = "goal"  // 1 if it is the goal, else 0
)

// QualityPart names a property of the dataset row.
type QualityPart string

// The qualities.
const (
	QualityNone   QualityPart = ""
	QualityExact  QualityPart = "exact"  // nothing inexact was used (DESIGN §6.4)
	QualityWeight QualityPart = "weight" // weight that undoes the negative sampling
	// QualityCensored: the example's label window passes the as-of moment, so that
	// an outcome that is not there may still come.
	QualityCensored QualityPart = "censored"
)

// Pseudonym is the hex HMAC-SHA-256 of an id under a key derived for the
// column's name, cut to Length hex digits (0: all 64).
type Pseudonym struct {
	Of     Ref
	Length int
}

// Filter is a CEL expression. In a Where the variable row holds the columns of
// the table's row; in a column, the named rows and example hold theirs.
type Filter struct {
	Source string
	// Line is where it stands in the file.
	Line int `json:"-"`

	program *program
}

// Labels says what an example's outcome is worth: the first Outcome that holds.
type Labels struct {
	Status   string // column of the example
	Outcomes []Outcome
	Goal     string // name of the outcome that is the goal
	Sampled  string // name of the outcome that negative sampling thins out
	// Window is W: an outcome counts only if it comes at or before t + W. 0 is no
	// limit.
	Window time.Duration `json:",omitempty"`
	// DropCensored leaves out the examples whose window passes the as-of moment.
	DropCensored bool
	// Latest takes, of the outcomes that hold, the one with the latest moment
	// rather than the first.
	Latest bool
	// Recall are the lengths of time within which the share of all final goals is
	// measured, ascending. Load sets DefaultRecall if the file names none.
	Recall []time.Duration
}

// Outcome holds when the status is one of Statuses or Moment is not null, and
// the status is none of Unless. The last outcome has none of them and always
// holds.
type Outcome struct {
	Name     string
	Score    float64
	Statuses []string
	Moment   string
	Unless   []string
}

// DefaultMaturity is the maturity of a definition that names none.
const DefaultMaturity = 7 * 24 * time.Hour

// DefaultRecall are the lengths of time of Labels.Recall if none are named.
func DefaultRecall() []time.Duration {
	const day = 24 * time.Hour
	return []time.Duration{day, 7 * day, 14 * day, 30 * day}
}

// Privacy is how the dataset is anonymised.
type Privacy struct {
	// MinUsers is the number of distinct users below which a value of a quasi
	// string column is rare, and below which a cell of a report is masked.
	MinUsers int
	Other    string // what a rare value becomes
	// Groups are the quasi columns whose combination must be shared by at least
	// GroupMinUsers distinct users; rows of smaller groups are suppressed.
	// GroupMinUsers 0 measures without suppressing.
	Groups        []string
	GroupMinUsers int
}

// Statistic is a figure of the metadata's labels block, for train and test.
type Statistic struct {
	Name string
	// Of is "distribution" or "mean".
	Of     string
	Column string
}

// Chart is a picture in the report.
type Chart struct {
	Title  string
	Kind   string // bars (counts by value), histogram (numeric), rate (mean by split)
	Column string
}

// Gates are the limits beyond which the report warns.
type Gates struct {
	TrainBytes, TestBytes int64
	// Rate is the share of the goal outcome that is expected.
	Rate [2]float64
	// ClassShare is the largest share of one outcome, Inexact of inexact rows,
	// UserOverlap of test users that are also in train, OutlierClass the factor
	// by which an outlier rule may take a class over its overall share.
	ClassShare, Inexact, UserOverlap, OutlierClass float64
	// Uniform are things that should have one value among all examples.
	Uniform []Uniform
}

// Uniform warns when the values of any of the references differ among each other.
type Uniform struct {
	Name string
	Of   []Path
}

// Path is a column, or a field of a JSON object in it.
type Path struct {
	Ref   Ref
	Field string
}

// String renders the path as the file writes it.
func (p Path) String() string {
	if p.Field == "" {
		return p.Ref.String()
	}
	return p.Ref.String() + "." + p.Field
}

// Defaults are defaults of flags that belong to the feature set.
type Defaults struct {
	Window time.Duration
}

// Table returns the table with the name, nil if there is none.
func (d *Definition) Table(name string) *Table {
	for i := range d.Tables {
		if d.Tables[i].Name == name {
			return &d.Tables[i]
		}
	}
	return nil
}

// Row returns the named row, nil if there is none.
func (d *Definition) Row(name string) *Row {
	for i := range d.Rows {
		if d.Rows[i].Name == name {
			return &d.Rows[i]
		}
	}
	return nil
}

// Column returns the dataset column or value with the name, nil if there is none.
func (d *Definition) Column(name string) *Column {
	for _, list := range [][]Column{d.Columns, d.Values} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}
