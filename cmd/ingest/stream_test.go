package main

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"dreamfeed/cdc"
	"dreamfeed/featurestore"
)

// A cut of the connection to the daemon is seen, and so is a message that is
// missing or damaged on the way.
func TestCutStreamOfADaemonIsSeen(t *testing.T) {
	passage := cdc.Passage{Stream: "S", Incarnation: 1, Last: 3}
	message := func(sequence uint64, data []byte) []byte {
		return cdc.AppendMessage(nil, cdc.Message{Sequence: sequence, Data: data})
	}
	gap, _ := cdc.AppendFault(nil, &cdc.GapError{Stream: "S", Want: 2, First: 9})
	begin := cdc.AppendPassage(nil, passage)
	for name, c := range map[string]struct {
		records [][]byte
		abort   bool
		want    string
	}{
		"cut":                     {[][]byte{begin, message(1, bytes.Repeat([]byte("x"), 300<<10))}, true, "was cut"},
		"cut before anything":     {nil, true, "process 7"},
		"an end before the last":  {[][]byte{begin}, false, "lacks messages 1 to 3"},
		"trimmed on the way":      {[][]byte{begin, gap}, false, "lacks messages 2 to 8"},
		"trimmed before":          {[][]byte{gap}, false, "lacks messages 2 to 8"},
		"a message is missing":    {[][]byte{begin, message(2, nil)}, false, "lacks messages 1 to 1"},
		"a message is no message": {[][]byte{begin, message(1, []byte("x"))}, false, "decode stream message 1"},
		"a malformed record":      {[][]byte{begin, {'M'}}, false, "malformed"},
		"no passage":              {[][]byte{message(1, nil)}, false, "malformed"},
		"a message comes again":   {[][]byte{cdc.AppendPassage(nil, cdc.Passage{Stream: "S", Incarnation: 1, After: 4, Last: 6}), message(4, nil)}, false, "comes where 5 was due"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				featurestore.ServeRecords(w, r, func(_ context.Context, send func([]byte) error) error {
					for _, record := range c.records {
						if err := send(record); err != nil {
							return err
						}
					}
					if c.abort {
						panic(http.ErrAbortHandler)
					}
					return nil
				})
			}))
			defer server.Close()
			dataDir := t.TempDir()
			err := featurestore.WriteEndpoint(dataDir, featurestore.Endpoint{PID: 7, Address: server.Listener.Addr().String(), Token: "x"}, nil)
			if err != nil {
				t.Fatal(err)
			}
			p, err := streamFlags{dataDir: dataDir, nats: &natsFlags{}}.open(t.Context(), cdc.Place{}, slog.New(slog.DiscardHandler))
			if err == nil {
				replay := cdc.NewReplay(p.messages, p.Passage, 0)
				for err == nil {
					_, err = replay.Next(t.Context())
				}
				_ = p.close()
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}
