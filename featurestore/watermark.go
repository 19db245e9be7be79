package featurestore

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"

	"dreamfeed/internal/change"
)

// Watermark is how far the store has applied the stream.
type Watermark struct {
	// Incarnation and Sequence name the last message applied; the next one to
	// read is Sequence + 1.
	Incarnation uint64        `json:"incarnation"`
	Sequence    uint64        `json:"sequence"`
	Epoch       change.Epoch  `json:"epoch"`
	Origin      change.Origin `json:"origin"`
	// Last is the highest version begun: the Previous of the next message.
	Last change.Version `json:"last"`
	// Version is the newest closed moment: everything at or before it is
	// applied whole. Views reach up to it.
	Version change.Version `json:"version"`
	// EndLSN is the end of the newest complete transaction or tick.
	EndLSN change.LSN `json:"end_lsn"`
	// Birth is the version of the first complete backfill, 0 before it.
	Birth change.Version `json:"birth"`
	// OpenVersion is the version of a transaction of which parts are applied,
	// 0 if there is none; the next part is Part + 1, its rows begin at or after
	// NextOrdinal.
	OpenVersion change.Version `json:"open_version,omitempty"`
	OpenKind    change.Kind    `json:"open_kind,omitempty"`
	Part        uint32         `json:"part,omitempty"`
	NextOrdinal uint32         `json:"next_ordinal,omitempty"`
}

// Counters add up over the life of a store.
type Counters struct {
	Messages     uint64 `json:"messages"`
	Transactions uint64 `json:"transactions"`
	Ticks        uint64 `json:"ticks"`
	Abandoned    uint64 `json:"abandoned"`
	// Changes are row changes of tables that the definition names.
	Changes uint64 `json:"changes"`
	// UnknownDeletes are deletes of keys that the store did not hold.
	UnknownDeletes uint64 `json:"unknown_deletes"`
	// ForeignChanges are changes of tables that the definition does not name.
	ForeignChanges uint64 `json:"foreign_changes"`
	// Erased are changes of erased entities, which were left out.
	Erased uint64 `json:"erased,omitempty"`
}

// state is the record that is written with every group.
type state struct {
	Watermark
	Counters Counters `json:"counters"`
	// Live is the number of rows by table number, Open what the open
	// transaction will add to it.
	Live map[uint16]int64 `json:"live,omitempty"`
	Open map[uint16]int64 `json:"open,omitempty"`
	// Emptied are the tables that the open transaction truncated: their Live
	// count starts from 0 when it completes.
	Emptied map[uint16]bool `json:"emptied,omitempty"`
	// Sampled is the version of the newest position sample.
	Sampled change.Version `json:"sampled,omitempty"`
	// Scope is what the open backfill or refill reads.
	Scope *scope `json:"scope,omitempty"`
	// Gaps are the times without changes, oldest first; the last may be open.
	Gaps []gap `json:"gaps,omitempty"`
	// Unfilled says by table number what a wider definition still lacks.
	Unfilled map[uint16]unfilled `json:"unfilled,omitempty"`
	// Until is the moment that a store was rebuilt as of, 0 of any other: what it
	// holds behind it is of the last message that was applied whole, or of the
	// base, and no view shows it. The next batch that is applied ends it.
	Until change.Version `json:"until,omitempty"`
	// Restored says that the store was made of backups and has applied nothing
	// since. The next batch that is applied ends it.
	Restored bool `json:"restored,omitempty"`
	// Ahead is a timestamp of Badger's behind which there are entries of the batch
	// that comes next, applied in part; 0 if there are none. See removeAhead.
	Ahead uint64 `json:"ahead,omitempty"`
}

// closed is the newest closed moment that views may show.
func (s *state) closed() change.Version {
	if s.Until != 0 {
		return min(s.Version, s.Until)
	}
	return s.Version
}

func (s *state) clone() state {
	c := *s
	c.Live, c.Open, c.Emptied = maps.Clone(s.Live), maps.Clone(s.Open), maps.Clone(s.Emptied)
	return c
}

func (s *state) encode() ([]byte, error) { return json.Marshal(s) }

func decodeState(data []byte) (state, error) {
	var s state
	if err := json.Unmarshal(data, &s); err != nil {
		return state{}, fmt.Errorf("read the store's watermark: %w", err)
	}
	return s, nil
}

// count adds to the number of rows that the open transaction leaves.
func (s *state) count(table uint16, n int64) {
	if s.Open == nil {
		s.Open = map[uint16]int64{}
	}
	s.Open[table] += n
}

// empty notes a TRUNCATE in the open transaction.
func (s *state) empty(table uint16) {
	s.count(table, 0)
	s.Open[table] = 0
	if s.Emptied == nil {
		s.Emptied = map[uint16]bool{}
	}
	s.Emptied[table] = true
}

// recount notes how many rows the open transaction leaves in a table.
func (s *state) recount(table uint16, n int64) {
	s.empty(table)
	s.Open[table] = n
}

// settle ends the open transaction; its counts hold if it was completed.
func (s *state) settle(completed bool) {
	if completed && len(s.Open) > 0 {
		if s.Live == nil {
			s.Live = map[uint16]int64{}
		}
		for t, n := range s.Open {
			if s.Emptied[t] {
				s.Live[t] = 0
			}
			s.Live[t] += n
		}
	}
	clear(s.Open)
	clear(s.Emptied)
	s.OpenVersion, s.OpenKind, s.Part, s.NextOrdinal, s.Scope = 0, 0, 0, 0, nil
}

// Watermark returns how far the store has applied the stream.
func (s *Store) Watermark() Watermark { return s.published.Load().state.Watermark }

// DurableLSN is the end of the newest transaction or tick that is on disk in
// the store: what an external stream lets PostgreSQL be confirmed (I1).
func (s *Store) DurableLSN() change.LSN { return s.Durable().EndLSN }

// Wait blocks until everything up to lsn is applied, and returns
// the newest closed moment then. It fails when ctx ends or the store closes.
func (s *Store) Wait(ctx context.Context, lsn change.LSN) (change.Version, error) {
	for {
		p := s.published.Load()
		if p.state.EndLSN >= lsn && p.state.Version > 0 {
			return p.state.Version, nil
		}
		select {
		case <-p.superseded:
		case <-s.closing:
			return 0, ErrClosed
		case <-ctx.Done():
			return 0, fmt.Errorf("wait for LSN %s to be applied: %w", lsn, context.Cause(ctx))
		}
	}
}

// published is the state as readers see it; superseded is closed when
// a newer one takes its place.
type published struct {
	state      *state
	voids      map[change.Version]struct{} // never changed after publication
	superseded chan struct{}
}

func (s *Store) publish(st state, voids map[change.Version]struct{}) {
	old := s.published.Swap(&published{state: &st, voids: voids, superseded: make(chan struct{})})
	if old != nil {
		close(old.superseded)
	}
}
