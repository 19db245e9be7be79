package cdc

import (
	"context"
	"strconv"
	"testing"

	"dreamfeed/internal/change"
)

// benchRow is an Insert of ten columns and about 230 bytes.
func benchRow(b *testing.B) (*change.Relation, []byte) {
	rel := &change.Relation{ID: 7, Schema: "public", Name: "event", Replica: 'd'}
	var values []change.Value
	for i := range 10 {
		rel.Columns = append(rel.Columns, change.Column{Name: "column" + strconv.Itoa(i), Type: 25, Modifier: -1, Key: i == 0})
		values = append(values, text("value of a column"))
	}
	return rel, appendInsert(nil, rel.ID, values)
}

// benchTransactions writes n transactions of rows rows.
func benchTransactions(b *testing.B, w *messageWriter, version *change.Version, n, rows int, raw []byte) {
	ctx := b.Context()
	for range n {
		*version++
		if err := w.begin(ctx, change.Live, *version, 1, change.LSN(*version), 1); err != nil {
			b.Fatal(err)
		}
		for range rows {
			if err := w.row(ctx, raw); err != nil {
				b.Fatal(err)
			}
		}
		if err := w.commit(ctx, change.LSN(*version)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFrameWrite(b *testing.B) {
	rel, raw := benchRow(b)
	buf := make([]byte, 0, DefaultTargetBytes)
	w, err := newMessageWriter(messageWriterConfig{
		Epoch: 1, Buffer: func() []byte { return buf },
		Emit: func(context.Context, change.Header, []byte) error { return nil },
	})
	if err != nil {
		b.Fatal(err)
	}
	if err := w.relation(appendRelation(nil, rel)); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	var version change.Version
	for b.Loop() {
		benchTransactions(b, w, &version, 100, 10, raw)
	}
	b.ReportMetric(float64(b.N)*1000/b.Elapsed().Seconds(), "rows/s")
}

func BenchmarkFrameDecode(b *testing.B) {
	rel, raw := benchRow(b)
	var messages [][]byte
	w, err := newMessageWriter(messageWriterConfig{Epoch: 1, Emit: func(_ context.Context, _ change.Header, data []byte) error {
		messages = append(messages, data)
		return nil
	}})
	if err != nil {
		b.Fatal(err)
	}
	if err := w.relation(appendRelation(nil, rel)); err != nil {
		b.Fatal(err)
	}
	var version change.Version
	benchTransactions(b, w, &version, 1000, 10, raw)
	if err := w.flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	var d Decoder
	var batch change.Batch
	b.ReportAllocs()
	for b.Loop() {
		for i, data := range messages {
			if _, err := d.Decode(uint64(i+1), data, &batch); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.N)*10_000/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkPublish frames and publishes with a sync for every message.
func BenchmarkPublish(b *testing.B) {
	for name, flush := range map[string]bool{"packed": false, "a message for each 1000 rows": true} {
		b.Run(name, func(b *testing.B) {
			rel, raw := benchRow(b)
			l := openTestLog(b, LogConfig{MaxBytes: 8 << 30})
			p := l.Publisher(b.Context(), 0, func(uint64, change.Header) {})
			defer p.Close()
			w, err := newMessageWriter(messageWriterConfig{Epoch: 1, MaxBytes: l.MaxMessage(), Buffer: p.Buffer, Emit: p.Publish})
			if err != nil {
				b.Fatal(err)
			}
			if err := w.relation(appendRelation(nil, rel)); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			var version change.Version
			for b.Loop() {
				benchTransactions(b, w, &version, 100, 10, raw)
				if flush {
					if err := w.flush(b.Context()); err != nil {
						b.Fatal(err)
					}
				}
			}
			if err := w.flush(b.Context()); err != nil {
				b.Fatal(err)
			}
			if err := p.Flush(b.Context()); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(b.N)*1000/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
