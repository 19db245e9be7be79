package cdc

import "context"

// NotedSlot is what the stream holds of the slot.
func NotedSlot(ctx context.Context, l *Log) (string, error) { return l.noted(ctx, slotKey) }
