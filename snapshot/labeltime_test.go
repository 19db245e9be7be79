package snapshot_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/internal/change"
	"dreamfeed/internal/definition"
	"dreamfeed/internal/history"
	"dreamfeed/snapshot"
	"dreamfeed/snapshot/pit"
)

const hour = day / 24

// step is a change of an offer, so long after it was made.
type step struct {
	after  int64
	values map[string]int64 // moments, after the offer was made
	state  string
}

// stories are what may become of an offer of the library, with what its label
// is once two weeks have passed, and when the book was borrowed in the end (−1:
// never) for the recall.
var stories = []struct {
	name     string
	steps    []step
	want     string
	borrowed int64
}{
	{"nothing", nil, "IGNORED", -1},
	{"borrowed soon", []step{{3 * day, map[string]int64{"borrowed_at": 3 * day}, "BORROWED"}}, "BORROWED", 3 * day},
	{"borrowed at once", []step{{6 * hour, map[string]int64{"borrowed_at": 6 * hour}, "BORROWED"}}, "BORROWED", 6 * hour},
	{"borrowed after the window", []step{{16 * day, map[string]int64{"borrowed_at": 16 * day}, "BORROWED"}}, "IGNORED", 16 * day},
	{"borrowed without a moment", []step{{day, nil, "BORROWED"}}, "BORROWED", day},
	{"cancelled within the window", []step{{2 * day, map[string]int64{"borrowed_at": 2 * day}, "BORROWED"}, {5 * day, nil, "CANCELLED"}}, "IGNORED", -1},
	{"cancelled after the window", []step{{2 * day, map[string]int64{"borrowed_at": 2 * day}, "BORROWED"}, {20 * day, nil, "CANCELLED"}}, "BORROWED", -1},
	{"expired after it was opened", []step{{day, map[string]int64{"opened_at": day}, "OPENED"}, {6 * day, nil, "EXPIRED"}}, "IGNORED", -1},
	{"refused, then borrowed", []step{{day, map[string]int64{"refused_at": day}, "REFUSED"}, {4 * day, map[string]int64{"borrowed_at": 4 * day}, "BORROWED"}}, "BORROWED", 4 * day},
	{"borrowed, then refused", []step{{day, map[string]int64{"borrowed_at": day}, "BORROWED"}, {4 * day, map[string]int64{"refused_at": 4 * day}, "REFUSED"}}, "REFUSED", -1},
	{"asked for", []step{{10 * day, nil, "ASKED"}}, "ASKED", -1},
	{"asked for too late", []step{{15 * day, nil, "ASKED"}}, "IGNORED", -1},
}

// loan is an offer of the world below.
type loan struct {
	id    string
	made  int64
	story int
}

// libraryWorld has readers with offers of every story, over 59 days before T.
func libraryWorld(t *testing.T, readers int) (*memoryView, *definition.Definition, []loan) {
	t.Helper()
	data, err := os.ReadFile("../internal/definition/testdata/library.yaml")
	if err != nil {
		t.Fatal(err)
	}
	def, err := definition.Load(data, "library.yaml")
	if err != nil {
		t.Fatal(err)
	}
	to := asOf.UnixMicro()
	birth := to - 200*day
	v := &memoryView{def: def, entities: map[string][]history.Entity{}, info: history.Info{
		AsOf: change.Version(to), Applied: change.Version(to + 7), Birth: change.Version(birth), Floor: change.Version(birth),
	}}
	for i, d := range def.Tables {
		h := history.Table{ID: uint16(i + 1), Name: d.Name, Entity: d.Entity, Key: d.Key}
		for _, c := range d.Columns {
			h.Columns = append(h.Columns, c.Name)
		}
		v.info.Tables = append(v.info.Tables, h)
	}
	r := rand.New(rand.NewPCG(11, 5))
	var loans []loan
	for n := range readers {
		id := fmt.Sprintf("reader-%03d", n)
		v.add(id, "readers", birth, true, map[string]string{"id": id, "branch": "north"})
		for k := range 24 {
			// PostgreSQL writes no closing zeros, and no text with one is read as a moment.
			made := to - r.Int64N(59*day)/10*10 - 1
			l := loan{id: fmt.Sprintf("%s-offer-%02d", id, k), made: made, story: (n + k) % len(stories)}
			loans = append(loans, l)
			values := map[string]string{"id": l.id, "reader": id, "state": "NEW", "made_at": pgTime(l.made)}
			v.add(id, "offers", l.made, false, values)
			for _, s := range stories[l.story].steps {
				values["state"] = s.state
				for column, after := range s.values {
					values[column] = pgTime(l.made + after)
				}
				if l.made+s.after <= to {
					v.add(id, "offers", l.made+s.after, false, values)
				}
			}
		}
	}
	return v, def, loans
}

type labelMetadata struct {
	Maturity struct {
		Immature int64
		Dropped  bool
	}
	LabelWindow *struct {
		Seconds, Censored, Examples int64
		Dropped                     bool
	} `json:"label_window"`
	GoalRecall *struct {
		Goal     string
		Age      int64 `json:"age_seconds"`
		Examples any
		Within   []struct {
			Seconds         int64
			Examples, Share any
		}
	} `json:"goal_recall"`
}

func labelsOf(t *testing.T, got *snapshot.Result) labelMetadata {
	t.Helper()
	data, err := os.ReadFile(got.Metadata)
	if err != nil {
		t.Fatal(err)
	}
	var m labelMetadata
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// rowsOf are the rows of both files by the pseudonym of their offer.
func rowsOf(t *testing.T, def *definition.Definition, got *snapshot.Result) map[string]map[string]any {
	t.Helper()
	rows := map[string]map[string]any{}
	for _, path := range []string{got.Train, got.Test} {
		_, list := readParquet(t, path)
		for _, values := range list {
			row := map[string]any{}
			for i := range def.Columns {
				row[def.Columns[i].Name] = values[i]
			}
			rows[row["offer_hash"].(string)] = row
		}
	}
	return rows
}

// TestLabelsInTimeReachTheParquetFiles builds the library, whose definition uses
// every key that says when an outcome counts.
func TestLabelsInTimeReachTheParquetFiles(t *testing.T) {
	view, def, loans := libraryWorld(t, 40)
	to := asOf.UnixMicro()
	want := map[string]string{}
	funnel := map[string]int64{}
	var borrowed, half, two, twenty float64
	for _, l := range loans {
		age := to - l.made
		s := stories[l.story]
		if age >= 20*day && s.borrowed >= 0 {
			borrowed++
			for _, c := range []struct {
				within int64
				n      *float64
			}{{12 * hour, &half}, {2 * day, &two}, {20 * day, &twenty}} {
				if s.borrowed <= c.within {
					*c.n++
				}
			}
		}
		switch {
		case age < 2*day:
			funnel["immature"]++
		case age < 14*day:
			funnel["censored"]++
		default:
			want[pseudonym("offer_hash", "1.0", l.id)] = s.want
		}
	}
	var files []string
	for _, workers := range []int{1, 4} {
		c := config(t, def)
		c.View, c.NegativeRatio, c.Workers = view, "1000", workers
		got, err := snapshot.Build(context.Background(), c)
		if err != nil {
			t.Fatal(err)
		}
		rows := rowsOf(t, def, got)
		if len(rows) != len(want) {
			t.Errorf("%d rows, want %d", len(rows), len(want))
		}
		for id, outcome := range want {
			switch row := rows[id]; {
			case row == nil:
				t.Errorf("an offer with outcome %s is missing", outcome)
			case row["outcome"] != outcome || row["censored"] != false:
				t.Errorf("an offer that should be %s is %v, censored %v", outcome, row["outcome"], row["censored"])
			}
		}
		var keys []string
		for _, s := range got.Funnel {
			keys = append(keys, s.Key)
			if n, ok := funnel[s.Key]; ok && s.Removed != n {
				t.Errorf("%s takes %d, want %d", s.Key, s.Removed, n)
			}
		}
		if i := slices.Index(keys, "censored"); i < 1 || keys[i-1] != "immature" || keys[i+1] != "not_sampled" {
			t.Errorf("funnel %v", keys)
		}
		m := labelsOf(t, got)
		if w := m.LabelWindow; w == nil || w.Seconds != 14*86400 || w.Censored != funnel["immature"]+funnel["censored"] || w.Examples != int64(len(loans)) || !w.Dropped {
			t.Errorf("label window %+v", w)
		}
		if m.Maturity.Immature != funnel["immature"] || !m.Maturity.Dropped {
			t.Errorf("maturity %+v", m.Maturity)
		}
		r := m.GoalRecall
		if r == nil || r.Goal != "BORROWED" || r.Age != 20*86400 || r.Examples != borrowed || len(r.Within) != 3 {
			t.Fatalf("recall %+v, want %v examples", r, borrowed)
		}
		for i, n := range []float64{half, two, twenty} {
			if w := r.Within[i]; w.Examples != n || w.Share != n/borrowed || w.Seconds != []int64{12 * 3600, 2 * 86400, 20 * 86400}[i] {
				t.Errorf("recall %+v, want %v of %v", w, n, borrowed)
			}
		}
		var all strings.Builder
		for _, path := range []string{got.Train, got.Test, got.Metadata, got.Report} {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			all.Write(data)
		}
		files = append(files, all.String())
		if page := all.String(); !strings.Contains(page, "How soon the goal comes") || !strings.Contains(page, "Label window") {
			t.Error("the report shows neither the window nor the recall")
		}
	}
	if files[0] != files[1] { // I6
		t.Error("files depend on the number of workers")
	}
}

// TestCensoredExamplesAreKeptAndMarkedUnlessTheyAreDropped holds that the step
// is not in the funnel then.
func TestCensoredExamplesAreKeptAndMarkedUnlessTheyAreDropped(t *testing.T) {
	view, def, loans := libraryWorld(t, 20)
	def.Labels.DropCensored, def.Example.DropImmature = false, false
	c := config(t, def)
	c.View, c.NegativeRatio = view, "1000"
	got, err := snapshot.Build(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range got.Funnel {
		if s.Key == "censored" || s.Removed > 0 {
			t.Errorf("step %s takes %d", s.Key, s.Removed)
		}
	}
	rows := rowsOf(t, def, got)
	marked := int64(0)
	for _, l := range loans {
		row := rows[pseudonym("offer_hash", "1.0", l.id)]
		young := l.made+14*day > asOf.UnixMicro()
		if row == nil || row["censored"] != young {
			t.Fatalf("an offer of %d days is %v", (asOf.UnixMicro()-l.made)/day, row)
		}
		if young {
			marked++
		}
	}
	if m := labelsOf(t, got); m.LabelWindow.Censored != marked || m.LabelWindow.Dropped || m.Maturity.Dropped {
		t.Errorf("metadata %+v, %d rows are marked", m, marked)
	}
}

// recallOf builds a dataset of goals that came so many days after their
// examples, by reader, and returns the figures of the recall.
func recallOf(t *testing.T, days map[int][]int) []any {
	t.Helper()
	def := testDefinition()
	r := rand.New(rand.NewPCG(8, 8))
	list := randomExamples(r, 100, def) // so that there is something to publish
	for i := range list {
		list[i].Goal = false
	}
	readers := make([]int, 0, len(days))
	for reader := range days {
		readers = append(readers, reader)
	}
	slices.Sort(readers)
	for _, reader := range readers {
		for k, d := range days[reader] {
			e := list[0]
			e.EntityID, e.ID = fmt.Sprint("goal-", reader), fmt.Sprint("goal-", reader, "-", k)
			e.Goal, e.GoalAfter, e.Outcome = true, int64(d)*day, 0
			e.Columns = slices.Clone(e.Columns)
			e.Columns[colName], e.Columns[colScore], e.Columns[colGoal] = text("BORROWED"), float(5), number(1)
			list = append(list, e)
		}
	}
	got, err := snapshot.BuildFrom(context.Background(), config(t, def), source(r, list, 5))
	if err != nil {
		t.Fatal(err)
	}
	m := labelsOf(t, got)
	figures := []any{m.GoalRecall.Examples}
	for _, w := range m.GoalRecall.Within {
		if (w.Examples == "masked") != (w.Share == "masked") {
			t.Errorf("within %d s: %v and %v", w.Seconds, w.Examples, w.Share)
		}
		figures = append(figures, w.Examples)
	}
	return figures
}

func TestRecallOfFewUsersIsMasked(t *testing.T) {
	// users(n, d...) are n readers, each with goals after so many days.
	type group struct {
		readers int
		days    []int
	}
	const masked = "masked"
	for _, c := range []struct {
		name   string
		groups []group
		want   []any // all, then within 1, 7, 14 and 30 days
	}{
		{"nobody reached the goal", nil, []any{0.0, 0.0, 0.0, 0.0, 0.0}},
		{"enough users in every step", []group{{10, []int{1}}, {10, []int{7}}, {10, []int{14}}, {10, []int{30}}, {10, []int{31}}}, []any{50.0, 10.0, 20.0, 30.0, 40.0}},
		{"steps without anybody", []group{{12, []int{3}}}, []any{12.0, 0.0, 12.0, 12.0, 12.0}},
		{"too few altogether, however many rows", []group{{9, []int{0, 0, 0, 8}}}, []any{masked, masked, masked, masked, masked}},
		{"too few within the first length", []group{{9, []int{1}}, {12, []int{7}}}, []any{21.0, masked, 21.0, 21.0, 21.0}},
		{"too few between two lengths", []group{{20, []int{1}}, {3, []int{5}}, {15, []int{10}}}, []any{38.0, 20.0, masked, 38.0, 38.0}},
		{"too few beyond the last", []group{{20, []int{1}}, {20, []int{20}}, {3, []int{40}}}, []any{43.0, 20.0, 20.0, 20.0, masked}},
		{"two steps of too few that are enough together", []group{{20, []int{1}}, {5, []int{5}}, {5, []int{10}}}, []any{30.0, 20.0, masked, 30.0, 30.0}},
		{"the same few in two steps are no more", []group{{20, []int{1}}, {5, []int{5, 10}}}, []any{30.0, masked, masked, masked, masked}},
	} {
		t.Run(c.name, func(t *testing.T) {
			days := map[int][]int{}
			for _, g := range c.groups {
				for range g.readers {
					days[len(days)] = g.days
				}
			}
			if diff := cmp.Diff(c.want, recallOf(t, days)); diff != "" {
				t.Errorf("examples that reached the goal (-want +got):\n%s", diff)
			}
		})
	}
}

// TestRecallEqualsACountOverRandomGoals holds the figures, and that the parts of
// the work have no part in them.
func TestRecallEqualsACountOverRandomGoals(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("repeat with seed %d", seed)
	for i := range uint64(6) {
		r := rand.New(rand.NewPCG(seed+i, 2))
		def := testDefinition()
		def.Privacy.MinUsers = 1
		def.Privacy.Groups = nil
		def.Example.DropImmature = i%2 == 0
		list := randomExamples(r, 300, def)
		want := make([]any, 5)
		for k, d := range []int64{1 << 40, 1, 7, 14, 30} {
			n := 0.0
			for _, e := range list {
				if e.Goal && e.GoalAfter/day < d || e.Goal && e.GoalAfter == d*day {
					n++
				}
			}
			want[k] = n
		}
		c := config(t, def)
		c.Workers = 1 + r.IntN(4)
		c.Inexact = snapshot.Drop // what is dropped has its part in the recall
		got, err := snapshot.BuildFrom(context.Background(), c, source(r, list, 1+r.IntN(9)))
		if err != nil {
			t.Fatal(err)
		}
		m := labelsOf(t, got)
		figures := []any{m.GoalRecall.Examples}
		for _, w := range m.GoalRecall.Within {
			figures = append(figures, w.Examples)
		}
		if diff := cmp.Diff(want, figures); diff != "" {
			t.Errorf("case %d (-want +got):\n%s", i, diff)
		}
	}
}

func TestAWindowInWhichAllExamplesAreTooYoungIsRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*definition.Definition)
		window time.Duration
		want   string // "" is accepted
	}{
		{"as long as the label window", nil, 14 * 24 * time.Hour, "--window-days: the definition drops every example whose label window passes the as-of moment, which is all of the last 14 days: choose more than that"},
		{"longer than the label window", nil, 14*24*time.Hour + time.Hour, ""},
		{"as long as a censored window that is kept", func(d *definition.Definition) { d.Labels.DropCensored = false }, 14 * 24 * time.Hour, ""},
		{"as long as the maturity", func(d *definition.Definition) { d.Labels.DropCensored = false }, 48 * time.Hour, "--window-days: the definition drops every example that is immature, which is all of the last 2 days: choose more than that"},
		{"as long as a maturity that is kept", func(d *definition.Definition) { d.Labels.DropCensored, d.Example.DropImmature = false, false }, 48 * time.Hour, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, def, _ := libraryWorld(t, 1)
			if c.change != nil {
				c.change(def)
			}
			k := config(t, def)
			k.Window, k.View = c.window, nil
			err := k.Validate()
			if c.want == "" && err != nil || c.want != "" && (err == nil || err.Error() != c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
			var wrong *snapshot.ConfigError
			if c.want != "" && (!errors.As(err, &wrong) || wrong.Setting != "window-days") {
				t.Errorf("error %v is no fault of --window-days", err)
			}
		})
	}
}

// TestADefinitionWhoseGoalNothingReachesHasNoRecall has a goal that is what is
// left when nothing happened.
func TestADefinitionWhoseGoalNothingReachesHasNoRecall(t *testing.T) {
	def := testDefinition()
	def.Labels.Goal, def.Labels.Sampled = "IGNORED", ""
	list := randomExamples(rand.New(rand.NewPCG(1, 9)), 100, def)
	for i := range list {
		list[i].Goal = false
		c := list[i].Columns
		c[colGoal] = pit.Value{Valid: true}
		if list[i].Outcome == 3 {
			c[colGoal].Int = 1
		}
	}
	got, err := snapshot.BuildFrom(context.Background(), config(t, def), source(rand.New(rand.NewPCG(1, 1)), list, 2))
	if err != nil {
		t.Fatal(err)
	}
	if m := labelsOf(t, got); m.GoalRecall != nil || m.LabelWindow != nil {
		t.Errorf("metadata %+v", m)
	}
}
