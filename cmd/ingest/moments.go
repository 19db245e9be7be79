package main

import (
	"time"

	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
	"dreamfeed/internal/history"
)

// momentsReport says which moments a dataset can be built of.
type momentsReport struct {
	// Earliest is the first moment that a dataset with the definition's window can
	// be built of: that of the backfill, until history was removed; then a window
	// after Floor.
	Earliest string `json:"earliest,omitempty"`
	// Newest is the newest closed moment.
	Newest string `json:"newest,omitempty"`
	// Birth is the moment of the first backfill, Floor the one from which on
	// history is whole.
	Birth string `json:"birth,omitempty"`
	Floor string `json:"floor,omitempty"`
	// Kept are the versions whose history is not removed (snapshot --keep).
	Kept []keptReport `json:"kept,omitempty"`
}

type keptReport struct {
	Version string `json:"version"`
	AsOf    string `json:"as_of"`
	From    string `json:"from"`
}

// reportMoments is empty until the backfill is complete.
func reportMoments(store *featurestore.Store, gaps []history.Gap, window time.Duration) (out momentsReport) {
	mark := store.Watermark()
	if mark.Birth == 0 {
		return out
	}
	floor, newest := store.Floor(), mark.Version
	earliest := mark.Birth
	if floor > mark.Birth {
		earliest = floor + change.Version(window.Microseconds())
	}
	for _, gap := range gaps {
		if gap.To == 0 {
			newest = gap.From
		} else if gap.Holds(earliest) {
			earliest = gap.To
		}
	}
	out.Earliest, out.Newest = earliest.String(), newest.String()
	out.Birth, out.Floor = mark.Birth.String(), floor.String()
	for _, kept := range store.Kept() {
		out.Kept = append(out.Kept, keptReport{Version: kept.Name, AsOf: kept.AsOf.String(), From: kept.From.String()})
	}
	return out
}
