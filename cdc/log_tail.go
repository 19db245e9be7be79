package cdc

import "sync"

// tailBytes bounds the messages that the tail holds. It is two blocks of the embedded
// server's: a reader that is further behind reads blocks that are not written any more,
// of which the server forgets its copy as soon as they are read. What is read while it is
// written stays in the server's memory for ten seconds (docs/adr/0023).
const tailBytes = 16 << 20

// tail holds the newest messages of the embedded stream, from their acknowledgement on,
// for the one reader that keeps up: it need not ask the server for what the process
// has just handed to it. A reader that falls behind reads the stream until it has come
// back to what is held here.
type tail struct {
	mu      sync.Mutex
	limit   int        // bytes
	next    uint64     // the sequence behind the newest acknowledged message, 0 without a publisher
	list    []received // not taken; sequences increase by one
	bytes   int
	changed chan struct{} // closed and replaced when next changes
	reader  *Reader       // who takes
}

func newTail() *tail { return &tail{limit: tailBytes, changed: make(chan struct{})} }

// begin says that there is a publisher, whose first message will follow the one at
// sequence after.
func (t *tail) begin(after uint64) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.list, t.bytes = nil, 0
	t.advance(after + 1)
}

// stop says that there is no publisher any more. What the stream took from it without
// its knowledge is read from the stream.
func (t *tail) stop() {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.advance(0)
}

// put takes in an acknowledged message. It returns memory that nobody needs any more:
// that of the message or of an older one, or nil.
func (t *tail) put(sequence uint64, data []byte) (free []byte) {
	if t == nil {
		return data
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	defer t.advance(sequence + 1)
	if t.reader == nil {
		t.list, t.bytes = nil, 0
		return data
	}
	t.list = append(t.list, received{sequence, data})
	t.bytes += len(data)
	for t.bytes > t.limit {
		free = t.drop().data
	}
	return free
}

func (t *tail) advance(next uint64) {
	t.next = next
	close(t.changed)
	t.changed = make(chan struct{})
}

// drop removes the oldest message.
func (t *tail) drop() received {
	m := t.list[0]
	t.list[0] = received{}
	t.list = t.list[1:]
	t.bytes -= len(m.data)
	return m
}

// take gives a reader the message at sequence, if it is held. Else later is set if it is
// still to be acknowledged to a publisher, and is closed when something was.
func (t *tail) take(r *Reader, sequence uint64) (m received, ok bool, later <-chan struct{}) {
	if t == nil {
		return received{}, false, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.reader != r {
		return received{}, false, nil
	}
	for len(t.list) > 0 && t.list[0].sequence < sequence {
		t.drop() // read from the stream meanwhile
	}
	switch {
	case len(t.list) > 0 && t.list[0].sequence == sequence:
		return t.drop(), true, nil
	case t.next != 0 && sequence >= t.next:
		return received{}, false, t.changed
	}
	return received{}, false, nil
}

// follow makes r the reader that takes, unless there is one.
func (t *tail) follow(r *Reader) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.reader == nil {
		t.reader = r
	}
}

// leave ends what follow began.
func (t *tail) leave(r *Reader) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.reader == r {
		t.reader, t.list, t.bytes = nil, nil, 0
	}
}
