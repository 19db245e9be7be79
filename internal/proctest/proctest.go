// Package proctest is for tests that run a program as a process of its own.
package proctest

import (
	"bytes"
	"sync"
)

// Output collects what a process writes, while a test may read it. The zero
// value is empty and ready for use.
type Output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write appends what the process has written.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

// String returns what was written so far.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}
