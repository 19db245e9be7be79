package report

import "time"

// Data is all that a report shows. It is plain: no value is formatted, no
// share is in per cent. Order is the order of the page. Empty parts leave
// their section out, except identity, gates and funnel, which every dataset has.
type Data struct {
	Identity Identity `json:"identity"`
	Gates    []Gate   `json:"gates"`
	// Warnings are sentences on what no gate measures: a column that has no
	// median to be filled with, a gap in the history.
	Warnings    []string     `json:"warnings,omitempty"`
	Funnel      []Step       `json:"funnel"`
	Classes     []Class      `json:"classes,omitempty"`
	Labels      []Label      `json:"labels,omitempty"`
	Maturity    *Maturity    `json:"maturity,omitempty"`
	LabelWindow *LabelWindow `json:"label_window,omitempty"`
	GoalRecall  *GoalRecall  `json:"goal_recall,omitempty"`
	Charts      []Chart      `json:"charts,omitempty"`
	Columns     []Column     `json:"columns,omitempty"`
	PointInTime PointInTime  `json:"point_in_time"`
	Lateness    []Lateness   `json:"lateness,omitempty"`
	Faults      []Fault      `json:"faults,omitempty"`
	Outliers    []Outlier    `json:"outliers,omitempty"`
	Privacy     Privacy      `json:"privacy"`
	Reproduce   Reproduce    `json:"reproduce"`
}

// Identity says which dataset this is and what it was made from.
type Identity struct {
	Dataset        string `json:"dataset"` // name of the definition
	Doc            string `json:"doc"`     // what one row is, one or two sentences
	Version        string `json:"version"`
	DefinitionHash string `json:"definition_hash"` // hex SHA-256
	LogicalDigest  string `json:"logical_digest"`  // hex SHA-256 of schema and rows

	AsOf       time.Time `json:"as_of"`
	WindowFrom time.Time `json:"window_from"` // inclusive
	WindowTo   time.Time `json:"window_to"`   // exclusive
	CreatedAt  time.Time `json:"created_at"`
	// Watermark is the store's applied version, a moment; LSN its position in
	// the source's log, as PostgreSQL writes it (16/B374D848).
	Watermark time.Time `json:"watermark"`
	LSN       string    `json:"lsn"`

	Seed     int64     `json:"seed"`
	Settings []Setting `json:"settings"` // every other setting, in order of the flags
	Program  string    `json:"program"`  // name and version of the program

	TrainRows int64 `json:"train_rows"`
	TestRows  int64 `json:"test_rows"`
	// TrainUsers and TestUsers count distinct entities; ColumnCount all columns.
	TrainUsers  int64 `json:"train_users"`
	TestUsers   int64 `json:"test_users"`
	ColumnCount int   `json:"column_count"`
}

// Setting is a setting by its flag's name without dashes.
type Setting struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Unit is what a number counts or measures, and so how it is written.
type Unit string

// The units.
const (
	Plain   Unit = ""        // a bare number: mean, ratio, bits
	Rows    Unit = "rows"    // whole numbers
	Users   Unit = "users"   // whole numbers
	Values  Unit = "values"  // whole numbers: distinct values
	Columns Unit = "columns" // whole numbers
	Bytes   Unit = "bytes"   // shown in kB, MB, GB of powers of ten
	Share   Unit = "share"   // 0 to 1, shown in per cent
	Times   Unit = "times"   // a factor, shown as 2.0 ×
	Seconds Unit = "seconds" // shown in s, min, h or d
)

// Verdict is the outcome of a gate, and of all of them together.
type Verdict string

// The verdicts, from best to worst.
const (
	Pass Verdict = "pass"
	Warn Verdict = "warn"
	Fail Verdict = "fail"
)

// Gate is one measured condition on the dataset.
type Gate struct {
	Name      string    `json:"name"` // a short phrase: "Largest class"
	Figure    Figure    `json:"figure"`
	Unit      Unit      `json:"unit,omitempty"` // of the figure and the threshold
	Threshold Threshold `json:"threshold"`
	Verdict   Verdict   `json:"verdict"`
	// Sentence says what was found, in one sentence, and, unless it passed,
	// what to do about it.
	Sentence string `json:"sentence"`
}

// Threshold is the range that passes. A nil end is open; equal ends mean exactly.
type Threshold struct {
	Low  *float64 `json:"low,omitempty"`
	High *float64 `json:"high,omitempty"`
}

// AtLeast, AtMost and Within make thresholds, ends included.
func AtLeast(low float64) Threshold      { return Threshold{Low: &low} }
func AtMost(high float64) Threshold      { return Threshold{High: &high} }
func Within(low, high float64) Threshold { return Threshold{Low: &low, High: &high} }

// Step is a step of the funnel. The first is where the rows come from (Removed
// 0), then come steps that remove rows, and last the splits they went to, which
// have Split set: their counts add up to the count of the last step before them.
type Step struct {
	Key     string  `json:"key"`     // as CONTRACT names it: "no_vector"
	Count   int64   `json:"count"`   // rows left after the step; of a split, its rows
	Removed int64   `json:"removed"` // rows the step took
	Share   float64 `json:"share"`   // Count ÷ the first step's count
	Split   bool    `json:"split,omitempty"`
	Note    string  `json:"note,omitempty"` // why, in a few words
}

// Class is how often an outcome of the label occurs.
type Class struct {
	Name       string `json:"name"`
	Score      Figure `json:"score"` // the outcome's score
	Train      Figure `json:"train"` // rows
	Test       Figure `json:"test"`
	TrainShare Figure `json:"train_share"` // of the split's rows
	TestShare  Figure `json:"test_share"`
}

// Label is a figure of the labels, for instance the mean of a column.
type Label struct {
	Name  string `json:"name"`
	Unit  Unit   `json:"unit,omitempty"`
	Doc   string `json:"doc,omitempty"`
	Train Figure `json:"train"`
	Test  Figure `json:"test"`
}

// Maturity says how many examples are too young for their label to be final.
type Maturity struct {
	AfterSeconds int64   `json:"after_seconds"` // an example younger than this is immature
	Immature     int64   `json:"immature"`      // rows
	Examples     int64   `json:"examples"`      // rows that Immature is counted among
	Share        float64 `json:"share"`
	Dropped      bool    `json:"dropped"` // whether they were left out
}

// LabelWindow says how long after its example an outcome counts, and how many
// examples are too young for all of that time to have passed.
type LabelWindow struct {
	Seconds  int64   `json:"seconds"`
	Censored int64   `json:"censored"` // rows
	Examples int64   `json:"examples"` // rows that Censored is counted among
	Share    float64 `json:"share"`
	Dropped  bool    `json:"dropped"` // whether they were left out
}

// GoalRecall says how much of the goal a label window would see: of the examples
// that are old enough and reached the goal in the end, the shares that did so
// soon. A label window has no part in it.
type GoalRecall struct {
	Goal       string `json:"goal"`
	AgeSeconds int64  `json:"age_seconds"` // examples younger than this are not looked at
	Examples   Figure `json:"examples"`    // rows that reached the goal
	// Within rises by its lengths.
	Within []Reached `json:"within"`
}

// Reached is how many examples reached the goal within a length of time.
type Reached struct {
	Seconds  int64  `json:"seconds"`
	Examples Figure `json:"examples"` // rows
	Share    Figure `json:"share"`    // of all that reached it
}

// ChartKind is how a chart of the definition is drawn.
type ChartKind string

// The kinds of charts.
const (
	// Bars counts rows by value. A cell has a Label; Train and Test are rows.
	Bars ChartKind = "bars"
	// Histogram counts rows by range. A cell has From and To: [From, To), the
	// last one closed. Cells follow each other without gap or overlap.
	Histogram ChartKind = "histogram"
	// Rate shows a mean between 0 and 1, over all rows (one cell) or by a
	// group, for instance the week. A cell has a Label; Train and Test are means.
	Rate ChartKind = "rate"
)

// Chart is a picture that the definition asks for. In bars and histograms
// bar lengths are shares of the split's rows.
type Chart struct {
	Title  string    `json:"title"`
	Kind   ChartKind `json:"kind"`
	Column string    `json:"column"`
	Doc    string    `json:"doc,omitempty"` // what the column means
	Cells  []Cell    `json:"cells"`
	// Expected is the range that a rate's gate allows.
	Expected *Threshold `json:"expected,omitempty"`
}

// Cell is one place of a chart. A cell of too few users is masked in both
// splits, or whoever knows the total could work it out.
type Cell struct {
	Label string  `json:"label,omitempty"`
	From  float64 `json:"from,omitempty"`
	To    float64 `json:"to,omitempty"`
	Train Figure  `json:"train"`
	Test  Figure  `json:"test"`
}

// Column describes a dataset column and its values in both splits.
type Column struct {
	Name    string `json:"name"`
	Type    string `json:"type"`
	Class   string `json:"class"` // privacy class
	Role    string `json:"role"`
	Doc     string `json:"doc,omitempty"`
	Missing string `json:"missing,omitempty"` // rule: null, UNKNOWN, false, zero, median
	// Fill is what gaps were filled with, "" if they stay null or none was.
	Fill  string  `json:"fill,omitempty"`
	Train Summary `json:"train"`
	Test  Summary `json:"test"`
	// Shift is how far test lies from train (Shift, below); none for columns
	// that have no mean.
	Shift Figure `json:"shift"`
}

// Summary is of a column in one split, before gaps were filled.
type Summary struct {
	Count        Figure `json:"count"`         // rows with a value
	Missing      Figure `json:"missing"`       // rows without
	MissingShare Figure `json:"missing_share"` // of the split's rows
	Distinct     Figure `json:"distinct"`      // distinct values
	Mean         Figure `json:"mean"`          // none for texts and moments
	SD           Figure `json:"sd"`            // sample standard deviation (n − 1)
	Min          Figure `json:"min"`           // none where the class is quasi
	Max          Figure `json:"max"`
}

// Shift is the standardised difference of means, (test − train) ÷ the train
// rows' standard deviation (Glass's Δ). It is none if a part of it is, or if
// the deviation is 0.
func Shift(train, test Summary) Figure {
	switch {
	case train.Mean.Hidden == Masked || train.SD.Hidden == Masked || test.Mean.Hidden == Masked:
		return Figure{Hidden: Masked}
	case train.Mean.Hidden != Shown || train.SD.Hidden != Shown || test.Mean.Hidden != Shown || train.SD.Value == 0:
		return Figure{Hidden: None}
	}
	return Of((test.Mean.Value - train.Mean.Value) / train.SD.Value)
}

// PointInTime counts the rows of both splits by how their features were known,
// from best to worst; a row counts where its worst feature does.
type PointInTime struct {
	Live    int64 `json:"live"`    // only versions received as they happened
	Trusted int64 `json:"trusted"` // also backfilled ones, dated by a trusted column
	Inexact int64 `json:"inexact"` // a first version was used though known later
	Older   int64 `json:"older"`   // the same, and older than the backfill
	// The same as shares of their sum.
	LiveShare    float64 `json:"live_share"`
	TrustedShare float64 `json:"trusted_share"`
	InexactShare float64 `json:"inexact_share"`
	OlderShare   float64 `json:"older_share"`
}

// Lateness says how long after their own creation column the rows of a table
// became known, of those that came as they happened.
type Lateness struct {
	Table string `json:"table"`
	Rows  int64  `json:"rows"`
	P50   Figure `json:"p50"`   // seconds
	P99   Figure `json:"p99"`   // seconds
	Max   Figure `json:"max"`   // seconds
	Ahead int64  `json:"ahead"` // rows known before they say they were made
	Lead  Figure `json:"lead"`  // seconds, the most that one of those was ahead
}

// Fault counts values that a column's rule made missing.
type Fault struct {
	Column string `json:"column"`
	Reason string `json:"reason"`
	Count  int64  `json:"count"` // candidates
}

// Outlier is a rule that drops extremes, and what it did. A rule without a
// bound (too few values, no deviation) has Low and High none.
type Outlier struct {
	Column  string  `json:"column"`
	Low     Figure  `json:"low"`
	High    Figure  `json:"high"`
	Outside int64   `json:"outside"` // rows outside the bounds
	Share   float64 `json:"share"`   // of the rows the rule looked at
	Dropped bool    `json:"dropped"` // false when outliers are kept
	// Classes are the shares of each outcome's rows that lie outside.
	Classes []ClassShare `json:"classes,omitempty"`
}

// ClassShare is a share of an outcome's rows.
type ClassShare struct {
	Name  string `json:"name"`
	Share Figure `json:"share"`
}

// Privacy says what was done and measured so that persons are protected, and
// what was not.
type Privacy struct {
	Claim    string    `json:"claim"`          // "pseudonymised"
	Sentence string    `json:"sentence"`       // what the claim means, and what it does not
	MinUsers int       `json:"min_users"`      // below it a value is rare and a cell is masked
	Measures []Measure `json:"measures"`       // figures on the released rows
	Rare     []Rare    `json:"rare,omitempty"` // merges of rare values
	// Limits are sentences on what is not protected.
	Limits []string `json:"limits,omitempty"`
}

// Measure is a figure of privacy.
type Measure struct {
	Name   string `json:"name"`
	Figure Figure `json:"figure"`
	Unit   Unit   `json:"unit,omitempty"`
	Doc    string `json:"doc,omitempty"`
}

// Rare says how many rare values of a column were merged. It names none of
// them: a rare value in a report is what the merge hides.
type Rare struct {
	Column string `json:"column"`
	Into   string `json:"into"`   // the value they became
	Values int64  `json:"values"` // distinct values (or elements of lists) merged
	Rows   Figure `json:"rows"`   // rows changed
}

// Reproduce says how to get the same dataset again and how to tell that one did.
type Reproduce struct {
	Command string `json:"command"` // one line for a shell
	Files   []File `json:"files"`
	// Notes are sentences on what else must be the same.
	Notes []string `json:"notes,omitempty"`
}

// File is a published file.
type File struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`
	Rows   int64  `json:"rows,omitempty"`
	SHA256 string `json:"sha256"` // hex
}

// Hidden says why a figure has no value to show.
type Hidden uint8

// The reasons. The zero value shows the figure.
const (
	Shown  Hidden = iota
	None          // there is no such value
	Masked        // it concerns too few users
)

// Figure is a number, or the reason why there is none. In JSON it is a number,
// null, or the text "masked".
type Figure struct {
	Value  float64
	Hidden Hidden
}

// Of is a figure that is shown.
func Of(value float64) Figure { return Figure{Value: value} }

// Count is a whole figure that is shown.
func Count(n int64) Figure { return Figure{Value: float64(n)} }

// Verdict is the worst verdict of the gates.
func (d *Data) Verdict() Verdict {
	worst := Pass
	for _, g := range d.Gates {
		switch g.Verdict {
		case Fail:
			return Fail
		case Warn:
			worst = Warn
		}
	}
	return worst
}
