package featurestore_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"dreamfeed/featurestore"
)

// What a daemon said about its store ends a question. What may be another program
// that has the address by now says that the daemon does not answer, or is tried
// otherwise.
func TestAnswersAreToldFromSilence(t *testing.T) {
	dir := t.TempDir()
	if _, err := featurestore.FindEndpoint(dir, "it is needed"); err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "it is needed") {
		t.Errorf("without a daemon: %v", err)
	}
	rebuilt := t.TempDir()
	if err := featurestore.WriteRebuilt(rebuilt, featurestore.Rebuilt{Until: 1}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := featurestore.FindEndpoint(rebuilt, "it is needed"); err == nil || strings.Contains(err.Error(), "start ingest") || !strings.Contains(err.Error(), "rebuilt as of") {
		t.Errorf("where none can be started: %v", err)
	}
	if err := featurestore.WriteEndpoint(dir, featurestore.Endpoint{PID: 7, Address: "127.0.0.1:1", Token: "x"}, nil); err != nil {
		t.Fatal(err)
	}
	endpoint, err := featurestore.FindEndpoint(dir, "it is needed")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		err              error
		answered, silent bool
	}{
		"a moment that is not closed":  {&featurestore.NotClosedError{AsOf: 2, Newest: 1}, true, false},
		"a moment that is too early":   {&featurestore.TooEarlyError{AsOf: 1, Earliest: 2}, true, false},
		"an empty store":               {featurestore.ErrEmpty, true, false},
		"a name that is taken":         {&featurestore.KeepError{Name: "1.0", What: "x"}, true, false},
		"a base that is not continued": {&featurestore.BackupBaseError{What: "x"}, true, false},
		"a sentence":                   {&featurestore.RemoteError{Message: "x"}, false, false},
		"another token":                {featurestore.ErrToken, false, false},
		"no connection":                {errors.New("connection refused"), false, true},
	} {
		t.Run(name, func(t *testing.T) {
			wrapped := fmt.Errorf("ask: %w", c.err)
			if got := featurestore.Answered(wrapped); got != c.answered {
				t.Errorf("answered: %v, want %v", got, c.answered)
			}
			told := endpoint.Unanswered(wrapped)
			if silent := strings.Contains(told.Error(), "does not answer") && strings.Contains(told.Error(), dir); silent != c.silent || !errors.Is(told, c.err) {
				t.Errorf("%v", told)
			}
		})
	}
	if featurestore.Answered(nil) {
		t.Error("nothing is an answer")
	}
}
