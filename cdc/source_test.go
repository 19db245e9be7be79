package cdc_test

import (
	"testing"

	"go.uber.org/goleak"
)

const itemsSchema = `CREATE TABLE items (id text PRIMARY KEY, secret text, n int, v jsonb, at timestamptz DEFAULT now());`

const itemsColumns = "id:text|n:int,v:json,at:timestamp"

func TestBackfillAndLiveChangesGiveTheSource(t *testing.T) {
	r := newRig(t, shared.NewDatabase(t), itemsSchema, define(table("items", itemsColumns)))
	r.exec(`INSERT INTO items SELECT 'i' || g, 'hidden-' || g, g, jsonb_build_object('a', g, 'tab', E'x\ty\\z\nw'), now() FROM generate_series(1, 5000) g`)
	r.start()
	r.streaming()
	r.exec(`INSERT INTO items VALUES ('new', 'hidden-new', 1, NULL, 'infinity'); UPDATE items SET n = n + 1 WHERE n < 100; DELETE FROM items WHERE n > 4900; UPDATE items SET id = 'moved' WHERE id = 'i7'`)
	m := r.same()
	if m.counts.Backfilled != 5000 {
		t.Errorf("backfilled %d rows", m.counts.Backfilled)
	}
}

func TestStoppedSourceLeavesNothingBehind(t *testing.T) {
	url := shared.NewDatabase(t)
	before := goleak.IgnoreCurrent()
	r := newRig(t, url, itemsSchema, define(table("items", itemsColumns)))
	r.start()
	r.streaming()
	r.exec("INSERT INTO items (id) VALUES ('a')")
	r.catchUp()
	r.end()
	r.closeLog()
	goleak.VerifyNone(t, before)
}
