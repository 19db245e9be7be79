package main

import (
	"time"

	"dreamfeed/cdc"
)

// walReport says how much of its log PostgreSQL keeps for us, and for how long.
type walReport struct {
	Kept uint64 `json:"kept_bytes"`
	// Limit and Safe are not set when there is no limit.
	Limit   *uint64 `json:"limit_bytes,omitempty"`
	Safe    *uint64 `json:"safe_bytes,omitempty"`
	PerHour uint64  `json:"growth_bytes_per_hour"`
	Left    string  `json:"left,omitempty"`
	Status  string  `json:"status"`
	Warning string  `json:"warning,omitempty"`
}

// reportWAL returns nil before the server was asked.
func reportWAL(p cdc.Pressure) *walReport {
	if p.Measured.IsZero() {
		return nil
	}
	out := &walReport{Kept: p.KeptBytes, PerHour: uint64(p.Growth * time.Hour.Seconds()), Status: p.WALStatus, Warning: p.Warning}
	if p.Limited {
		out.Limit, out.Safe = &p.LimitBytes, &p.SafeBytes
	}
	if p.Left > 0 {
		out.Left = p.Left.Round(time.Second).String()
	}
	return out
}
