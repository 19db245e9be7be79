package cdc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"dreamfeed/internal/change"
)

// outputPlugin is the one decoder of PostgreSQL that the package reads.
const outputPlugin = "pgoutput"

// slotState is a row of pg_replication_slots, as far as the server's version
// has the columns.
type slotState struct {
	Name               string  `json:"slot_name"`
	Plugin             string  `json:"plugin"`
	Type               string  `json:"slot_type"`
	Database           string  `json:"database"`
	Temporary          bool    `json:"temporary"`
	TwoPhase           bool    `json:"two_phase"`
	Active             bool    `json:"active"`
	ActivePID          uint32  `json:"active_pid"`
	RestartLSN         string  `json:"restart_lsn"`
	ConfirmedFlushLSN  string  `json:"confirmed_flush_lsn"`
	WALStatus          string  `json:"wal_status"`
	Conflicting        bool    `json:"conflicting"`         // 16 and newer
	InvalidationReason *string `json:"invalidation_reason"` // 17 and newer

	confirmed, restart change.LSN
}

// queryer is what both a session and its transaction offer.
type queryer interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// readSlot reads the state of a slot, nil if there is none.
func readSlot(ctx context.Context, conn queryer, name string) (*slotState, error) {
	// As JSON, because the view has other columns in each server version.
	const sql = `SELECT to_jsonb(s)::text FROM pg_catalog.pg_replication_slots s WHERE slot_name = $1`
	var text string
	err := conn.QueryRow(ctx, sql, name).Scan(&text)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read replication slot %s: %w", name, err)
	}
	s := new(slotState)
	if err := json.Unmarshal([]byte(text), s); err != nil {
		return nil, fmt.Errorf("read replication slot %s: %w", name, err)
	}
	if s.ConfirmedFlushLSN != "" {
		if s.confirmed, err = change.ParseLSN(s.ConfirmedFlushLSN); err != nil {
			return nil, fmt.Errorf("read replication slot %s: %w", name, err)
		}
	}
	if s.RestartLSN != "" {
		if s.restart, err = change.ParseLSN(s.RestartLSN); err != nil {
			return nil, fmt.Errorf("read replication slot %s: %w", name, err)
		}
	}
	return s, nil
}

// lost says why the server can no longer serve the slot, "" if it can.
func (s *slotState) lost() string {
	switch {
	case s.InvalidationReason != nil && *s.InvalidationReason != "":
		return *s.InvalidationReason
	case s.WALStatus == "lost":
		return "wal_status is lost"
	case s.Conflicting:
		return "it conflicts with recovery"
	}
	return ""
}

// usable returns nil if the slot is of the kind that we make, in our database,
// and used by nobody; else it is a *SlotForeignError or a *SlotHeldError.
func (s *slotState) usable(database string) error {
	switch {
	case s.Type != "logical" || s.Plugin != outputPlugin || s.Temporary || s.TwoPhase:
		kind := s.Type
		if s.Plugin != "" {
			kind += " with plugin " + s.Plugin
		}
		if s.Temporary {
			kind = "temporary " + kind
		}
		if s.TwoPhase {
			kind += " and two_phase"
		}
		return &SlotForeignError{Slot: s.Name, Kind: kind}
	case s.Database != database:
		return &SlotForeignError{Slot: s.Name, Kind: "in database " + s.Database}
	case s.Active:
		return &SlotHeldError{Slot: s.Name, PID: s.ActivePID}
	}
	return nil
}

// dropSlotSQL is the command that drops a slot.
func dropSlotSQL(name string) string {
	return "SELECT pg_drop_replication_slot(" + quoteLiteral(name) + ")"
}

// validSlotName says whether PostgreSQL takes a slot name; such a name needs
// no quotes in a replication command.
func validSlotName(name string) bool {
	return name != "" && len(name) <= 63 && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == ""
}

// system is what IDENTIFY_SYSTEM says.
type system struct {
	Origin   change.Origin
	LSN      change.LSN // end of the flushed log
	Database string
}

func identify(ctx context.Context, conn *pgconn.PgConn) (system, error) {
	id, err := pglogrepl.IdentifySystem(ctx, conn)
	if err != nil {
		return system{}, fmt.Errorf("identify the source: %w", err)
	}
	var number uint64
	if _, err := fmt.Sscan(id.SystemID, &number); err != nil {
		return system{}, fmt.Errorf("identify the source: system identifier %q: %w", id.SystemID, err)
	}
	return system{
		Origin:   change.Origin{System: number, Timeline: uint32(id.Timeline)},
		LSN:      change.LSN(id.XLogPos),
		Database: id.DBName,
	}, nil
}

// start is how a connection begins.
type start int

const (
	// startFresh begins a feed in an empty stream.
	startFresh start = iota + 1
	// startAgain drops the slot of a first backfill that was never completed,
	// abandons what the stream holds of it, and backfills again.
	startAgain
	// startResume goes on where the stream ends.
	startResume
)

// decide compares the server with the stream (DESIGN §3). last is the header
// of the stream's last message, found whether there is one; slot is nil when
// the slot does not exist.
//
// The first message of a feed is a tick at LSN 0, written before the slot is
// made. So Header.Resume is 0 until the first backfill is complete, and a slot
// found then is ours: whoever begins a feed checks first that there is none.
func decide(last change.Header, found bool, sys system, slot *slotState, name string, publication bool, publicationName string) (start, error) {
	if !found {
		if slot != nil {
			return 0, &SlotOrphanError{Slot: name}
		}
		return startFresh, nil
	}
	if last.Origin != sys.Origin {
		return 0, &OriginError{Stream: last.Origin, Server: sys.Origin}
	}
	if last.Resume == 0 {
		if slot != nil {
			if err := slot.usable(sys.Database); err != nil {
				return 0, err
			}
		}
		return startAgain, nil
	}
	if sys.LSN < last.Resume {
		return 0, &BehindError{Server: sys.LSN, Resume: last.Resume}
	}
	if slot == nil {
		return 0, &SlotGoneError{Slot: name, Resume: last.Resume}
	}
	if reason := slot.lost(); reason != "" {
		return 0, &SlotLostError{Slot: name, Reason: reason}
	}
	if err := slot.usable(sys.Database); err != nil {
		return 0, err
	}
	if slot.confirmed > last.Resume {
		return 0, &SlotAheadError{Slot: name, Confirmed: slot.confirmed, Resume: last.Resume}
	}
	if !publication {
		return 0, &PublicationMissingError{Publication: publicationName}
	}
	return startResume, nil
}

// verifySlot looks at the slot once the server streams to us, so that nobody
// else can change it: between the decision and that moment it may have been made
// again or advanced, and the server passes silently over what it was told to
// forget.
func (s *Source) verifySlot(ctx context.Context, conn queryer, resume change.LSN) error {
	slot, err := readSlot(ctx, conn, s.cfg.Slot)
	if err != nil {
		return err
	}
	if slot != nil && slot.confirmed > resume {
		return &SlotAheadError{Slot: s.cfg.Slot, Confirmed: slot.confirmed, Resume: resume}
	}
	return nil
}

// createSlot makes a slot, which ends with its session if it is temporary, and
// exports its snapshot, which lives until the next command on the connection.
func createSlot(ctx context.Context, conn *pgconn.PgConn, name string, temporary bool) (consistent change.LSN, snapshot string, err error) {
	made, err := pglogrepl.CreateReplicationSlot(ctx, conn, name, outputPlugin, pglogrepl.CreateReplicationSlotOptions{
		Temporary: temporary, Mode: pglogrepl.LogicalReplication, SnapshotAction: "(SNAPSHOT 'export')",
	})
	if sqlState(err) == stateDuplicateObject && !temporary {
		return 0, "", &SlotForeignError{Slot: name, Kind: "made by somebody else at this moment"}
	}
	if err != nil {
		return 0, "", fmt.Errorf("create replication slot %s: %w", name, err)
	}
	if consistent, err = change.ParseLSN(made.ConsistentPoint); err != nil {
		return 0, "", fmt.Errorf("create replication slot %s: %w", name, err)
	}
	return consistent, made.SnapshotName, nil
}
