package durable

// Step is a durable call.
type Step string

// The steps, in the order in which a change takes them.
const (
	// CreatePublication and CreateSlot change the source.
	CreatePublication Step = "create publication"
	CreateSlot        Step = "create slot"
	DropSlot          Step = "drop slot"
	// CreateStream makes the stream.
	CreateStream Step = "create stream"
	// Publish hands a message to the stream.
	Publish Step = "publish"
	// Acknowledge takes in that the stream has a message: it counts as durable
	// from then on.
	Acknowledge Step = "acknowledge"
	// Commit writes a group of the store, Show lets readers see it.
	Commit Step = "commit"
	Show   Step = "show"
	// Confirm tells PostgreSQL what it may forget.
	Confirm Step = "confirm"
	// Trim removes messages that are applied.
	Trim Step = "trim"
	// RaiseFloor notes the retention floor, Sweep removes history below it, and
	// KeepVersion notes a moment that is kept from that, or is not any more.
	RaiseFloor  Step = "raise floor"
	Sweep       Step = "sweep"
	KeepVersion Step = "keep version"
	// Fill writes what fills a memtable, so that it becomes a table.
	Fill Step = "fill"
	// WriteFile, SyncFile, RenameFile, RemoveFile and SyncDirectory are the steps of a
	// file that is replaced or removed.
	WriteFile     Step = "write file"
	SyncFile      Step = "sync file"
	RenameFile    Step = "rename file"
	RemoveFile    Step = "remove file"
	SyncDirectory Step = "sync directory"
)

// Hook is called before a step is taken. An error fails the step in its place.
// position is the end of what the step writes or tells of, as a position of the
// source: of the steps from Publish to Confirm; it is 0 for the others. A nil
// Hook lets everything pass.
//
// Steps of different goroutines may come at the same time.
type Hook func(s Step, position uint64) error

// Before calls the hook, if there is one, for a step without a position.
func (h Hook) Before(s Step) error { return h.At(s, 0) }

// At calls the hook, if there is one, for a step that has a position.
func (h Hook) At(s Step, position uint64) error {
	if h == nil {
		return nil
	}
	return h(s, position)
}
