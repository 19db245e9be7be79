package featurestore

import (
	"fmt"

	"dreamfeed/internal/change"
)

// position names a place in a batch for an error.
func position(b *change.Batch, v change.Version, ordinal uint32) Position {
	return Position{Sequence: b.Sequence, Version: v, Ordinal: ordinal, LSN: b.Header.CommitLSN}
}

func broken(b *change.Batch, field string, want, have any) error {
	return &ChainError{
		Field: field, Want: fmt.Sprint(want), Have: fmt.Sprint(have),
		Position: position(b, b.Header.Last, b.Header.FirstOrdinal),
	}
}

// admit says whether a batch is the next one (true), one that is applied
// already (false), or a break of the chain. A sequence may be skipped: carriers
// of large rows have numbers of their own. What proves that nothing is missing
// is the version before, and for an open transaction part and ordinal.
func (s *state) admit(b *change.Batch) (bool, error) {
	h := &b.Header
	fresh := s.Sequence == 0 && s.Incarnation == 0
	if fresh {
		if h.Previous != 0 {
			return false, broken(b, "the version before", "none, since the store is empty", h.Previous)
		}
		return true, nil
	}
	switch {
	case b.Incarnation == s.Incarnation && b.Sequence <= s.Sequence:
		return false, nil
	case b.Incarnation != s.Incarnation && h.Previous == 0 && s.Last != 0:
		// A stream created anew that does not know the store.
		return false, broken(b, "the stream's incarnation", s.Incarnation, b.Incarnation)
	case h.Epoch != s.Epoch && h.Epoch != s.Epoch+1:
		return false, broken(b, "the epoch", s.Epoch, h.Epoch)
	case h.Epoch == s.Epoch && h.Origin != s.Origin:
		return false, broken(b, "the source's origin", s.Origin, h.Origin)
	case h.Previous != s.Last:
		return false, broken(b, "the version before", s.Last, h.Previous)
	case h.Epoch != s.Epoch && s.OpenVersion != 0 && (len(b.Entries) == 0 || b.Entries[0].Abandoned != s.OpenVersion):
		return false, broken(b, "the first entry of the epoch", "the abandoned version "+s.OpenVersion.String(), "another")
	}
	return true, nil
}

// begin checks that a transaction or part continues the state, and opens it.
func (s *state) begin(b *change.Batch, t *change.Transaction) error {
	if s.OpenVersion != 0 {
		switch {
		case t.Version != s.OpenVersion:
			return broken(b, "the open transaction's version", s.OpenVersion, t.Version)
		case t.Part != s.Part+1:
			return broken(b, "the part", s.Part+1, t.Part)
		case b.Header.FirstOrdinal != s.NextOrdinal:
			return broken(b, "the first ordinal", s.NextOrdinal, b.Header.FirstOrdinal)
		case t.Kind != s.OpenKind:
			return broken(b, "the kind of the open transaction", s.OpenKind, t.Kind)
		}
		s.Part = t.Part
		return nil
	}
	switch {
	case t.Part != 0:
		return broken(b, "the part", 0, t.Part)
	case t.Version <= s.Last:
		return broken(b, "the version", "one above "+s.Last.String(), t.Version)
	}
	if err := s.expects(b, t); err != nil {
		return err
	}
	s.OpenVersion, s.OpenKind, s.Part, s.NextOrdinal = t.Version, t.Kind, 0, 0
	s.Last = t.Version
	return nil
}

// expects checks that a transaction of the kind may begin here: an open gap is
// closed by the backfill of its epoch and by nothing else, since what is held
// may be out of date; a store has one backfill an epoch; and what is compared
// with rows that are held says what it saw.
func (s *state) expects(b *change.Batch, t *change.Transaction) error {
	want, ok := "live or refill", t.Kind == change.Live || t.Kind == change.Refill
	switch {
	case s.openGap() != nil:
		want, ok = "backfill", t.Kind == change.Backfill
	case s.Birth == 0:
		want, ok = "live or backfill", t.Kind == change.Live || t.Kind == change.Backfill
	}
	switch {
	case !ok:
		return broken(b, "the kind of the transaction", want, kindName(t.Kind))
	case t.Kind == change.Live && t.Scope != nil:
		return broken(b, "the scope of a live transaction", "none", "one")
	case t.Kind != change.Live && s.Birth != 0 && t.Scope == nil:
		return broken(b, "the scope of a "+kindName(t.Kind), "one", "none")
	case t.Scope != nil && t.Scope.Low >= t.Version:
		return broken(b, "the low version of a "+kindName(t.Kind), "one below "+t.Version.String(), t.Scope.Low)
	}
	return nil
}

func kindName(k change.Kind) string {
	switch k {
	case change.Live:
		return "live"
	case change.Backfill:
		return "backfill"
	case change.Refill:
		return "refill"
	}
	return fmt.Sprintf("%d", k)
}

// step checks the ordinal of a row. Ordinals rise; gaps are rows that were
// filtered out. The tables of one TRUNCATE may share an ordinal.
func (s *state) step(b *change.Batch, r *change.Row) error {
	shared := r.Op == change.Truncate && r.Ordinal+1 == s.NextOrdinal
	if r.Ordinal < s.NextOrdinal && !shared {
		return broken(b, "the ordinal of a row", fmt.Sprintf("at least %d", s.NextOrdinal), r.Ordinal)
	}
	s.NextOrdinal = r.Ordinal + 1
	return nil
}

// complete makes the open transaction visible.
func (s *state) complete(t *change.Transaction) {
	s.Version, s.EndLSN = t.Version, t.EndLSN
	if t.Kind == change.Backfill {
		if s.Birth == 0 {
			s.Birth = t.Version
		}
		s.closeGap(t.Version)
	}
	s.Counters.Transactions++
	s.settle(true)
}

func (s *state) tick(b *change.Batch, t *change.Tick) error {
	switch {
	case s.OpenVersion != 0:
		return broken(b, "the next entry", "a part of transaction "+s.OpenVersion.String(), "a tick")
	case t.Moment <= s.Last:
		return broken(b, "the tick's moment", "one above "+s.Last.String(), t.Moment)
	}
	s.Last, s.Version, s.EndLSN = t.Moment, t.Moment, t.LSN
	s.Counters.Ticks++
	return nil
}

// abandon gives the open transaction up.
func (s *state) abandon(b *change.Batch, v change.Version) error {
	if s.OpenVersion != v {
		return broken(b, "the abandoned version", s.OpenVersion, v)
	}
	s.Counters.Abandoned++
	s.settle(false)
	return nil
}

// end checks what the header says of the batch against what was in it, and
// notes the batch as applied.
func (s *state) end(b *change.Batch) error {
	h := &b.Header
	switch {
	case h.Last != s.Last:
		return broken(b, "the header's last version", s.Last, h.Last)
	case h.Open != (s.OpenVersion != 0):
		return broken(b, "the header's open mark", s.OpenVersion != 0, h.Open)
	case h.Open && h.NextOrdinal < s.NextOrdinal:
		return broken(b, "the header's next ordinal", fmt.Sprintf("at least %d", s.NextOrdinal), h.NextOrdinal)
	}
	if h.Open {
		s.NextOrdinal = h.NextOrdinal
	}
	s.Incarnation, s.Sequence, s.Epoch, s.Origin = b.Incarnation, b.Sequence, h.Epoch, h.Origin
	s.Counters.Messages++
	return nil
}
