package main

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"syscall"
	"testing"

	"dreamfeed/featurestore"
)

// A build that fails half-way says what to do, and that nothing was published.
func TestFailedBuildSaysWhatToDo(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"the daemon was killed between two questions": {&url.Error{Op: "Post", URL: "http://127.0.0.1:1/v1/view/scan", Err: io.EOF}, "build again when it runs"},
		"the daemon was killed within an answer":      {fmt.Errorf("%w: %w", featurestore.ErrCut, io.ErrUnexpectedEOF), "build again when it runs"},
		"the disk is full":                            {syscall.ENOSPC, "--output"},
		"a file may not be so large":                  {syscall.EFBIG, "ulimit"},
	} {
		t.Run(name, func(t *testing.T) {
			told := explain(fmt.Errorf("join the examples: %w", c.err))
			for _, want := range []string{c.want, "nothing was published", "join the examples"} {
				if !strings.Contains(told.Error(), want) {
					t.Errorf("%q does not say %q", told, want)
				}
			}
			if !errors.Is(told, c.err) {
				t.Errorf("%v hides its cause", told)
			}
		})
	}
}
