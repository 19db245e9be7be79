package history_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/internal/history"
)

func sample() *history.Entity {
	return &history.Entity{ID: "u1", Rows: []history.Row{
		{Table: 1, Key: []byte("k1"), Versions: []history.Version{
			{Version: 3, Ordinal: 1, Known: 3, Deleted: true, Moved: true},
			{Version: 2, Known: 2, Arrived: true, Data: []byte("second")},
			{Version: 1, Known: 1, Backfilled: true, Data: []byte{}},
		}},
		{Table: 2, Key: []byte{}, Versions: []history.Version{{Version: 2, Known: 1, Data: []byte("other")}}},
	}}
}

// A clone says the same, and goes on saying it when the memory of what it was made
// from is used again.
func TestCloneSharesNoMemory(t *testing.T) {
	e := sample()
	c := e.Clone()
	if diff := cmp.Diff(sample(), c); diff != "" {
		t.Errorf("clone differs (-want +got):\n%s", diff)
	}
	for i := range e.Rows {
		r := &e.Rows[i]
		clear(r.Key)
		for j := range r.Versions {
			clear(r.Versions[j].Data)
		}
		clear(r.Versions)
	}
	clear(e.Rows)
	if diff := cmp.Diff(sample(), c); diff != "" {
		t.Errorf("clone changed with what it was made from (-want +got):\n%s", diff)
	}
	// What is appended to one piece does not run into the next.
	_ = append(c.Rows[0].Key, '!')
	_ = append(c.Rows[0].Versions, history.Version{Version: 9})
	_ = append(c.Rows[0].Versions[1].Data, '!')
	if diff := cmp.Diff(sample(), c); diff != "" {
		t.Errorf("an append wrote over the clone (-want +got):\n%s", diff)
	}
}
