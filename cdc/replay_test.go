package cdc

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/internal/change"
)

// wireMessages hand on messages through their records.
type wireMessages struct{ in Messages }

func (m wireMessages) Next(ctx context.Context) (Message, error) {
	got, err := m.in.Next(ctx)
	if err != nil {
		return Message{}, err
	}
	return ReadMessage(AppendMessage(nil, got))
}

func (m wireMessages) Ready() bool { return m.in.Ready() }

// A replay gives the batches that a reader gives, up to the message that was the
// last when it was asked for, with large rows that travel in fragments.
func TestReplayGivesWhatAReaderGives(t *testing.T) {
	noLeak(t)
	l := openTestLog(t, LogConfig{MaxMessage: 64 << 10})
	f := openFeed(t, l)
	for _, size := range []int{10, 300, 200_000, 40, 70_000, 5} {
		if err := f.add(t.Context(), size); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.publisher.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	passage, err := l.Follows(t.Context(), Place{})
	if err != nil {
		t.Fatal(err)
	}
	if passage, err = ReadPassage(AppendPassage(nil, passage)); err != nil {
		t.Fatal(err)
	}
	if err := f.add(t.Context(), 10); err != nil { // comes after it was asked
		t.Fatal(err)
	}
	if err := f.publisher.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	messages, err := l.Messages(t.Context(), passage)
	if err != nil {
		t.Fatal(err)
	}
	defer messages.Close()
	reader, err := l.Reader(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	replay := NewReplay(wireMessages{messages}, passage, 0)
	var last uint64
	for n := 0; ; n++ {
		got, err := replay.Next(t.Context())
		if errors.Is(err, io.EOF) {
			if n == 0 || last != passage.Last {
				t.Errorf("the replay ends behind message %d, want %d", last, passage.Last)
			}
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		want, err := reader.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("(-reader +replay):\n%s", diff)
		}
		last = got.Sequence
	}

	other := passage
	other.Incarnation++
	var anew *IncarnationError
	if _, err := l.Messages(t.Context(), other); !errors.As(err, &anew) {
		t.Errorf("a passage of another incarnation: %v", err)
	}
	if err := l.Trim(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Messages(t.Context(), passage); err == nil {
		t.Error("a passage that is trimmed is read")
	} else if first, missing := FirstMissing(err); !missing || first != 1 {
		t.Errorf("%v: message %d is named, want 1", err, first)
	}
}

// A stream that is opened to be read is not made, and keeps its limits.
func TestExistingStreamIsOpenedAsItIs(t *testing.T) {
	noLeak(t)
	var none *NoStreamError
	dir := filepath.Join(t.TempDir(), "stream")
	if _, err := OpenLog(t.Context(), LogConfig{Dir: dir, Existing: true, Logger: testLogger()}); !errors.As(err, &none) || none.Dir != dir {
		t.Errorf("without a directory: %v", err)
	}
	if matches, _ := filepath.Glob(dir); len(matches) > 0 {
		t.Error("the directory was made")
	}
	if _, err := OpenLog(t.Context(), LogConfig{Dir: t.TempDir(), Existing: true, Logger: testLogger()}); !errors.As(err, &none) {
		t.Errorf("without a stream: %v", err)
	}
	e := startExternal(t)
	if _, err := OpenLog(t.Context(), LogConfig{URL: e.s.ClientURL(), Existing: true, Logger: testLogger()}); !errors.As(err, &none) || none.Dir != "" {
		t.Errorf("of an external server: %v", err)
	}

	l := openTestLog(t, LogConfig{Dir: dir, MaxBytes: 32 << 20})
	closeLog(t, l)
	l = openTestLog(t, LogConfig{Dir: dir, MaxBytes: 96 << 20, Existing: true})
	if state, err := l.State(t.Context()); err != nil || state.MaxBytes != 32<<20 {
		t.Errorf("the limit is %d, %v: want what it was", state.MaxBytes, err)
	}
}

// Errors of a stream are the same in the process that asked.
func TestStreamFaultsCrossTheWire(t *testing.T) {
	for _, want := range []error{
		&GapError{Stream: "S", Want: 3, First: 9}, &LostTailError{Stream: "S", Want: 3, Last: 2},
		&OtherStreamError{Stream: "S", Empty: true, Applied: 7, Version: 8}, &IncarnationError{Stream: "S", Want: 1, Got: 2},
	} {
		record, ok := AppendFault(nil, errors.Join(want))
		if _, err := ReadMessage(record); !ok || err == nil || err.Error() != want.Error() {
			t.Errorf("%v became %v", want, err)
		}
		if _, err := ReadPassage(record); err == nil || err.Error() != want.Error() {
			t.Errorf("%v became %v", want, err)
		}
	}
	if _, ok := AppendFault(nil, io.EOF); ok {
		t.Error("any error crosses")
	}
}

// No record ends the program.
func FuzzStreamRecord(f *testing.F) {
	f.Add(AppendPassage(nil, Passage{Stream: "S", Incarnation: 1, Last: 3}))
	f.Add(AppendMessage(nil, Message{Sequence: 300, Data: []byte("x")}))
	fault, _ := AppendFault(nil, &GapError{Stream: "S", Want: 3, First: 9})
	f.Add(fault)
	f.Fuzz(func(t *testing.T, record []byte) {
		if m, err := ReadMessage(record); err == nil {
			if again, err := ReadMessage(AppendMessage(nil, m)); err != nil || !cmp.Equal(again, m) {
				t.Errorf("%v, %v became %v", m, err, again)
			}
			var batch change.Batch
			_, _ = new(Decoder).Decode(m.Sequence, m.Data, &batch)
		}
		if p, err := ReadPassage(record); err == nil {
			if again, err := ReadPassage(AppendPassage(nil, p)); err != nil || again != p {
				t.Errorf("%v, %v became %v", p, err, again)
			}
		}
	})
}
