package main

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/parquet-go/parquet-go"

	"dreamfeed/deploy"
	"dreamfeed/internal/change"
	"dreamfeed/internal/definition"
	"dreamfeed/internal/history"
	"dreamfeed/internal/row"
)

func TestTheRowsGivenToParquetGoAreThoseOfTheDefinition(t *testing.T) {
	d, err := definition.Load(deploy.Dreamscape, "dreamscape.yaml")
	if err != nil {
		t.Fatal(err)
	}
	types := map[definition.OutputType]string{"string": "STRING", "float32": "FLOAT", "int32": "INT(32,true)", "bool": "BOOLEAN", "timestamp": "TIMESTAMP(isAdjustedToUTC=true,unit=MICROS)"}
	var want []string
	for i := range d.Columns {
		c := &d.Columns[i]
		repetition := "required"
		if c.Missing == definition.MissingNull && !c.Required {
			repetition = "optional"
		}
		want = append(want, repetition+" "+c.Name+" "+types[c.Type])
	}
	var got []string
	for _, f := range parquet.SchemaOf(datasetRow{}).Fields() {
		repetition := "required"
		if f.Optional() {
			repetition = "optional"
		}
		got = append(got, repetition+" "+f.Name()+" "+f.Type().String())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// storedView is a view of users alone, in memory.
type storedView struct {
	info  history.Info
	users []history.Entity
}

func (v *storedView) Info() history.Info { return v.info }

func (v *storedView) Ranges(context.Context, string, int) ([]history.Range, error) {
	return []history.Range{{}}, nil
}

func (v *storedView) Scan(_ context.Context, entity string, _ history.Range, fn func(*history.Entity) error) error {
	if entity != "user" {
		return nil
	}
	for i := range v.users {
		if err := fn(&v.users[i]); err != nil {
			return err
		}
	}
	return nil
}

// newStoredView has the tables of the definition, without rows.
func newStoredView(t *testing.T) *storedView {
	t.Helper()
	d, err := definition.Load(deploy.Dreamscape, "dreamscape.yaml")
	if err != nil {
		t.Fatal(err)
	}
	v := &storedView{}
	for i, table := range d.Tables {
		h := history.Table{ID: uint16(i + 1), Name: table.Name, Entity: table.Entity}
		for _, c := range table.Columns {
			h.Columns = append(h.Columns, c.Name)
		}
		v.info.Tables = append(v.info.Tables, h)
	}
	return v
}

// version is one of a row with some columns, as texts.
func (v *storedView) version(at change.Version, table string, columns map[string]string) history.Version {
	h := v.info.Table(table)
	oids := map[string]uint32{"segmentConfidence": 701, "createdAt": 1114}
	cells := make([]row.Cell, len(h.Columns))
	for name, text := range columns {
		cells[h.Slot(name)] = row.Parse(oids[name], []byte(text))
	}
	return history.Version{Version: at, Known: int64(at) - 1, Data: row.Append(nil, cells)}
}

func TestHistoryIsExportedAsTypedVersions(t *testing.T) {
	v := newStoredView(t)
	const table = "user_vectors"
	first := v.version(10, table, map[string]string{"id": "v1", "vector": "[0.5, 1, 2, 3, 4, 5, 6, null]", "primarySegment": "foodie", "segmentConfidence": "0.25"})
	first.Backfilled = true
	within := v.version(20, table, map[string]string{"id": "v1", "vector": "[1]", "primarySegment": "never seen"})
	last := v.version(20, table, map[string]string{"id": "v1", "vector": "[1]"})
	last.Ordinal = 1
	v.users = []history.Entity{{ID: "u1", Rows: []history.Row{{
		Table:    v.info.Table(table).ID,
		Versions: []history.Version{{Version: 30, Known: 30, Deleted: true}, last, within, first},
	}}}}
	dir := t.TempDir()
	if err := exportHistory(t.Context(), v, dir); err != nil {
		t.Fatal(err)
	}
	// Read as a struct of its own: parquet-go reads zeros for missing values of
	// structs that are embedded, though it writes them rightly.
	type read struct {
		ID         string   `parquet:"id"`
		Entity     string   `parquet:"entity"`
		V          int64    `parquet:"v"`
		Known      int64    `parquet:"known"`
		Backfilled bool     `parquet:"backfilled"`
		Deleted    bool     `parquet:"deleted"`
		E0         *float32 `parquet:"e0"`
		E6         *float32 `parquet:"e6"`
		E7         *float32 `parquet:"e7"`
		Segment    *string  `parquet:"segment"`
		Confidence *float64 `parquet:"confidence"`
	}
	got, err := parquet.ReadFile[read](filepath.Join(dir, table+".parquet"))
	if err != nil {
		t.Fatal(err)
	}
	half, six, segment, confidence := float32(0.5), float32(6), "foodie", 0.25
	want := []read{
		{ID: "v1", Entity: "u1", V: 10, Known: 9, Backfilled: true, E0: &half, E6: &six, Segment: &segment, Confidence: &confidence},
		{ID: "v1", Entity: "u1", V: 20, Known: 19},
		{ID: "v1", Entity: "u1", V: 30, Known: 30, Deleted: true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAValueOfAnotherTypeIsNotExported(t *testing.T) {
	v := newStoredView(t)
	const table = "recommendations"
	// What is no timestamp is stored as the text that it came as.
	infinite := v.version(10, table, map[string]string{"id": "r1", "createdAt": "infinity"})
	v.users = []history.Entity{{ID: "u1", Rows: []history.Row{{Table: v.info.Table(table).ID, Versions: []history.Version{infinite}}}}}
	err := exportHistory(t.Context(), v, t.TempDir())
	if err == nil || !strings.Contains(err.Error(), "column createdAt is no moment") {
		t.Errorf("error %v, want one that names the column", err)
	}
}
