package cdc

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	goflag "flag"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/internal/change"
)

var updateStream = goflag.Bool("update", false, "write the golden files anew")

func TestEqualRelationMessagesGiveTheSameRelation(t *testing.T) {
	r := newStreamRand(t)
	events := frameHistory(r, 60)
	var messages []frameMessage
	writeEvents(t, mustWriter(t, frameConfig(&messages)), events)
	var d Decoder
	var batch change.Batch
	seen := map[string]*change.Relation{}
	for i, m := range messages {
		if _, err := d.Decode(uint64(i), m.data, &batch); err != nil {
			t.Fatal(err)
		}
		for _, e := range batch.Entries {
			if e.Transaction == nil {
				continue
			}
			for _, row := range e.Transaction.Rows {
				key := string(appendRelation(nil, row.Relation))
				if seen[key] == nil {
					seen[key] = row.Relation
				}
				if seen[key] != row.Relation {
					t.Fatalf("table %s has two relations for one description", row.Relation.Name)
				}
			}
		}
	}
}

func TestDamagedMessageIsRefused(t *testing.T) {
	r := newStreamRand(t)
	var messages []frameMessage
	writeEvents(t, mustWriter(t, frameConfig(&messages)), frameHistory(r, 10))
	var d Decoder
	var batch change.Batch
	refused := func(data []byte) bool {
		var want *CorruptMessageError
		_, err := d.Decode(9, data, &batch)
		return errors.As(err, &want) && want.Sequence == 9
	}
	// A carrier of row fragments holds no records that its header could contradict, and
	// the message behind it is refused without it.
	first := slices.IndexFunc(messages, func(m frameMessage) bool {
		var alone Decoder
		whole, err := alone.Decode(9, m.data, &batch)
		return whole && err == nil
	})
	if first < 0 {
		t.Fatal("no message holds records")
	}
	data := messages[first].data
	for i := range data {
		damaged := append([]byte(nil), data...)
		damaged[i] ^= 1 << r.IntN(8)
		if !refused(damaged) {
			t.Errorf("byte %d of %d can be changed", i, len(data))
		}
		if !refused(data[:i]) {
			t.Errorf("%d bytes of %d are accepted", i, len(data))
		}
	}
	// With the checksum made anew, a changed header still contradicts the records.
	for _, at := range []int{0, 4, 5, 6, 7, 24, 32, 48, 56, 72, 76, 80, 84} {
		damaged := append([]byte(nil), data...)
		damaged[at] ^= 0x40
		if !refused(seal(damaged)) {
			t.Errorf("byte %d of the header can be changed under a right checksum", at)
		}
	}
}

// seal writes the checksum of a message anew.
func seal(data []byte) []byte {
	if len(data) >= trailerBytes {
		end := len(data) - trailerBytes
		binary.LittleEndian.PutUint32(data[end:], crc32.Checksum(data[:end], castagnoli))
	}
	return data
}

// A scope stands right behind the beginning of a backfill or refill, once.
func TestMalformedScopeIsRefused(t *testing.T) {
	ctx := t.Context()
	rel := &change.Relation{ID: 1, Schema: "s", Name: "t", Columns: []change.Column{{Name: "a"}}}
	scope := change.Scope{Low: 9, Tables: []change.Table{{Schema: "s", Name: "t"}, {Schema: "", Name: "u"}}}
	payload := appendScope(nil, scope)
	record := append([]byte{recordScope, byte(len(payload))}, payload...)
	message := func(kind change.Kind) []byte {
		var messages []frameMessage
		w := mustWriter(t, frameConfig(&messages))
		steps := []error{w.relation(appendRelation(nil, rel)), w.begin(ctx, kind, 10, 1, 10, 1)}
		if kind != change.Live {
			steps = append(steps, w.scope(ctx, scope))
		}
		steps = append(steps, w.row(ctx, appendInsert(nil, 1, []change.Value{{Kind: change.Null}})), w.commit(ctx, 12), w.flush(ctx))
		if err := errors.Join(steps...); err != nil {
			t.Fatal(err)
		}
		return messages[0].data
	}
	refill, live := message(change.Refill), message(change.Live)
	if !bytes.Contains(refill, record) {
		t.Fatal("the refill does not hold the scope's record as it is known here")
	}
	with := func(payload ...byte) []byte {
		return bytes.Replace(refill, record, append([]byte{recordScope, byte(len(payload))}, payload...), 1)
	}
	low := binary.LittleEndian.AppendUint64(nil, 9)
	behindBegin := headerBytes + 2 + beginBytes
	var d Decoder
	var batch change.Batch
	if _, err := d.Decode(1, seal(with(payload...)), &batch); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&scope, batch.Entries[0].Transaction.Scope); diff != "" {
		t.Errorf("scope written (-) and read (+) differ:\n%s", diff)
	}
	for name, data := range map[string][]byte{
		"nothing":                    with(),
		"a cut version":              with(low[:7]...),
		"no number of tables":        with(low...),
		"no table":                   with(append(low, 0)...),
		"more tables than bytes":     with(append(low, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1)...),
		"a number without end":       with(append(low, 0x80)...),
		"a name that is cut":         with(append(low, 1, 1, 's', 2, 't')...),
		"a name that is missing":     with(append(low, 1, 1, 's')...),
		"bytes left over":            with(append(low, 1, 1, 's', 1, 't', 0)...),
		"a version not below it":     with(append(binary.LittleEndian.AppendUint64(nil, 10), payload[8:]...)...),
		"none at all":                bytes.Replace(refill, record, nil, 1),
		"one too many":               bytes.Replace(refill, record, append(record, record...), 1),
		"one in a live transaction":  append(append(append([]byte(nil), live[:behindBegin]...), record...), live[behindBegin:]...),
		"one before its transaction": append(append(append([]byte(nil), refill[:headerBytes]...), record...), refill[headerBytes:]...),
	} {
		var corrupt *CorruptMessageError
		if _, err := d.Decode(1, seal(data), &batch); !errors.As(err, &corrupt) {
			t.Errorf("%s: got %v, want a *CorruptMessageError", name, err)
		}
	}
}

func TestMissingFragmentOfALargeRowIsSeen(t *testing.T) {
	ctx := t.Context()
	rel := &change.Relation{ID: 1, Schema: "public", Name: "t", Columns: []change.Column{{Name: "a"}}}
	var messages []frameMessage
	w := mustWriter(t, frameConfig(&messages))
	wide := appendInsert(nil, 1, []change.Value{{Kind: change.Text, Text: bytes.Repeat([]byte("wide"), 1000)}})
	if err := errors.Join(w.relation(appendRelation(nil, rel)), w.begin(ctx, change.Live, 10, 1, 10, 1), w.row(ctx, wide), w.commit(ctx, 12), w.flush(ctx)); err != nil {
		t.Fatal(err)
	}
	if len(messages) != 4 {
		t.Fatalf("the row makes %d messages, want three carriers and its own", len(messages))
	}
	for missing := range 3 {
		var d Decoder
		var batch change.Batch
		var err error
		for i, m := range messages {
			if i != missing && err == nil {
				_, err = d.Decode(uint64(i+1), m.data, &batch)
			}
		}
		var want *CorruptMessageError
		if !errors.As(err, &want) {
			t.Errorf("without carrier %d: got %v, want a *CorruptMessageError", missing+1, err)
		}
	}
	d := Decoder{MaxRowBytes: 3000}
	if _, err := d.Decode(1, messages[0].data, new(change.Batch)); err == nil {
		t.Error("a row above the reader's limit is accepted")
	}
}

func TestChain(t *testing.T) {
	base := change.Header{Origin: change.Origin{System: 1, Timeline: 1}, Epoch: 2, First: 10, Last: 20, Previous: 9, CommitLSN: 100, EndLSN: 108, Resume: 108}
	next := change.Header{Origin: base.Origin, Epoch: 2, First: 21, Last: 30, Previous: 20, CommitLSN: 200, EndLSN: 208, Resume: 208}
	open := base
	open.Part, open.Open, open.OpenKind, open.NextOrdinal = 3, true, change.Live, 50
	part := change.Header{
		Origin: base.Origin, Epoch: 2, First: 20, Last: 20, Previous: 20, CommitLSN: 100, Resume: 108,
		Part: 4, Open: true, OpenKind: change.Live, FirstOrdinal: 50, NextOrdinal: 60,
	}
	abandon := change.Header{Origin: base.Origin, Epoch: 2, First: 20, Last: 20, Previous: 20, Resume: 108}
	first := change.Header{Origin: base.Origin, Epoch: 1, First: 5, Last: 9}
	with := func(h change.Header, set func(*change.Header)) change.Header { set(&h); return h }
	for name, tc := range map[string]struct {
		prev, next change.Header
		ok         bool
	}{
		"the next transaction follows":            {base, next, true},
		"a feed begins":                           {change.Header{}, first, true},
		"a feed begins with a first part":         {change.Header{}, with(first, func(h *change.Header) { h.Open, h.OpenKind, h.NextOrdinal = true, change.Backfill, 3 }), true},
		"a part follows its transaction":          {open, part, true},
		"the last part follows":                   {open, with(part, func(h *change.Header) { h.Open, h.OpenKind = false, 0 }), true},
		"an open transaction is abandoned":        {open, abandon, true},
		"it is abandoned by a new epoch":          {open, with(abandon, func(h *change.Header) { h.Epoch, h.Origin.System, h.Resume = 3, 5, 0 }), true},
		"a new epoch from another source follows": {base, with(next, func(h *change.Header) { h.Epoch, h.Origin.System, h.Resume = 3, 5, 1 }), true},
		"a message is missing":                    {base, with(next, func(h *change.Header) { h.Previous = 21 }), false},
		"a message comes twice":                   {base, base, false},
		"a feed does not begin at its start":      {change.Header{}, base, false},
		"a feed begins with a later part":         {change.Header{}, with(first, func(h *change.Header) { h.Part = 1; h.Last = 5 }), false},
		"another source without a new epoch":      {base, with(next, func(h *change.Header) { h.Origin.System = 5 }), false},
		"another timeline without a new epoch":    {base, with(next, func(h *change.Header) { h.Origin.Timeline = 2 }), false},
		"an epoch is skipped":                     {base, with(next, func(h *change.Header) { h.Epoch = 4 }), false},
		"an epoch goes backwards":                 {base, with(next, func(h *change.Header) { h.Epoch = 1 }), false},
		"no epoch":                                {base, with(next, func(h *change.Header) { h.Epoch = 0 }), false},
		"the resume position goes backwards":      {base, with(next, func(h *change.Header) { h.Resume = 107 }), false},
		"versions go backwards":                   {base, with(next, func(h *change.Header) { h.Last = 20 }), false},
		"no new version":                          {base, with(next, func(h *change.Header) { h.First = 20 }), false},
		"an open transaction is left":             {open, next, false},
		"a part is missing":                       {open, with(part, func(h *change.Header) { h.Part = 5 }), false},
		"rows are missing":                        {open, with(part, func(h *change.Header) { h.FirstOrdinal = 51 }), false},
		"a part of another commit":                {open, with(part, func(h *change.Header) { h.CommitLSN = 101 }), false},
		"a part of another kind":                  {open, with(part, func(h *change.Header) { h.OpenKind = change.Refill }), false},
		"a part in another epoch":                 {open, with(part, func(h *change.Header) { h.Epoch = 3 }), false},
		"a part with another transaction":         {open, with(part, func(h *change.Header) { h.Last = 21 }), false},
		"a part of what is not open":              {base, part, false},
		"what is not open is abandoned":           {base, abandon, false},
		"a transaction begins in the middle":      {base, with(next, func(h *change.Header) { h.FirstOrdinal = 1 }), false},
		"the message before has lost its epoch":   {with(base, func(h *change.Header) { h.Epoch = 0 }), next, false},
	} {
		err := CheckChain(tc.prev, tc.next)
		var want *ChainError
		if tc.ok && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !tc.ok && (!errors.As(err, &want) || want.Next != tc.next || want.Previous != tc.prev) {
			t.Errorf("%s: got %v, want a *ChainError", name, err)
		}
	}
}

// The bytes of messages are pinned: a change of them is a change of the format.
func TestGoldenMessages(t *testing.T) {
	ctx := t.Context()
	rel := &change.Relation{ID: 16385, Schema: "public", Name: "author", Replica: 'd', Columns: []change.Column{
		{Name: "id", Type: 23, Modifier: -1, Key: true}, {Name: "name", Type: 25, Modifier: -1},
	}}
	wide := &change.Relation{ID: 16390, Schema: "public", Name: "page", Replica: 'd', Columns: []change.Column{{Name: "body", Type: 25, Modifier: -1}}}
	insert := func(id, name string) []byte { return appendInsert(nil, rel.ID, []change.Value{text(id), text(name)}) }
	var messages []frameMessage
	cfg := frameConfig(&messages)
	w := mustWriter(t, cfg)
	const at = 1_700_000_000_000_000
	step := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	step(w.relation(appendRelation(nil, rel)))
	step(w.relation(appendRelation(nil, wide)))
	step(w.begin(ctx, change.Live, at, at-5, 0x1000, 730))
	step(w.row(ctx, insert("1", "Ursula")))
	step(w.row(ctx, []byte("U\x00\x00\x40\x01N\x00\x02t\x00\x00\x00\x011u")))
	step(w.row(ctx, []byte("D\x00\x00\x40\x01K\x00\x02t\x00\x00\x00\x011n")))
	step(w.row(ctx, append(binary.BigEndian.AppendUint32([]byte{'T', 0, 0, 0, 2, 1}, rel.ID), 0, 0, 0x40, 0x06)))
	step(w.commit(ctx, 0x1030))
	step(w.tick(ctx, at+1_000_000, 0x2000))
	step(w.flush(ctx))
	step(w.begin(ctx, change.Refill, at+2_000_000, at+1_999_000, 0x2100, 731))
	step(w.scope(ctx, change.Scope{Low: at + 1_000_000, Tables: []change.Table{{Schema: rel.Schema, Name: rel.Name}}}))
	step(w.row(ctx, insert("2", "Octavia")))
	step(w.flush(ctx))
	step(w.row(ctx, insert("3", "Samuel")))
	step(w.flush(ctx))
	step(w.abandon(ctx))
	step(w.begin(ctx, change.Live, at+3_000_000, at+3_000_000, 0x2200, 732))
	step(w.row(ctx, appendInsert(nil, wide.ID, []change.Value{{Kind: change.Text, Text: bytes.Repeat([]byte("a"), 1500)}})))
	step(w.commit(ctx, 0x2240))
	step(w.flush(ctx))

	var got bytes.Buffer
	for i, m := range messages {
		fmt.Fprintf(&got, "message %d, %d bytes: %+v\n%s\n", i+1, len(m.data), m.header, hex.Dump(m.data))
	}
	const file = "testdata/messages.golden"
	if *updateStream {
		if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v: write it with: go test ./cdc -run TestGoldenMessages -update", err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("messages have other bytes than %s:\n%s", file, diff)
	}
}

func FuzzDecodeFrame(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	var messages []frameMessage
	events := frameHistory(r, 30)
	if !slices.ContainsFunc(events, func(e frameEvent) bool { return e.scope != nil }) {
		f.Fatal("no seed holds a scope")
	}
	writeEvents(f, mustWriter(f, frameConfig(&messages)), events)
	for _, m := range messages {
		f.Add(m.data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d := Decoder{MaxRowBytes: 1 << 16}
		var batch change.Batch
		data = seal(append([]byte(nil), data...))
		if _, err := d.Decode(1, data, &batch); err != nil {
			var want *CorruptMessageError
			if !errors.As(err, &want) || want.Offset > len(data) {
				t.Fatalf("error %v", err)
			}
			return
		}
		for _, e := range batch.Entries {
			if e.Transaction != nil && e.Transaction.Version < batch.Header.First {
				t.Fatalf("version %d is outside the header's", e.Transaction.Version)
			}
		}
	})
}
