package cdc

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// oldestServer is the oldest major version of PostgreSQL that has column lists
// in publications.
const oldestServer = 15

// Fault is something about the source that keeps the feed from working, or
// will, and what mends it.
type Fault struct {
	// Object is what is at fault: a setting, a role, a table, a column.
	Object string
	// Problem is one sentence without its stop.
	Problem string
	// Mend is the SQL, or the setting, that mends it.
	Mend string
	// Fatal says that the feed cannot start so.
	Fatal bool
}

// String renders the fault in one line.
func (f Fault) String() string {
	if f.Mend == "" {
		return f.Object + ": " + f.Problem
	}
	return f.Object + ": " + f.Problem + ": " + f.Mend
}

// FaultsError holds the fatal faults that Check found.
type FaultsError struct {
	Faults []Fault
}

// Error lists the faults, one a line.
func (e *FaultsError) Error() string {
	var b strings.Builder
	b.WriteString("the source is not ready")
	for _, f := range e.Faults {
		b.WriteString("\n  " + f.String())
	}
	return b.String()
}

// Check looks at everything that the source must have for the feed to work:
// server, role, tables, columns, replica identities, publication and slot. It
// changes nothing. Faults that Run mends itself (a publication that differs) are
// not fatal. Of cfg it needs the database, the definition and the names of
// publication and slot. The error says that the source could not be asked.
func Check(ctx context.Context, cfg Config) ([]Fault, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validSource(); err != nil {
		return nil, err
	}
	conn, err := connect(ctx, cfg.DatabaseURL)
	if err != nil {
		return nil, err
	}
	defer closeConn(conn.PgConn())
	found, err := inspect(ctx, conn, cfg)
	if err != nil {
		return nil, err
	}
	return append(found.Faults, found.slotFaults(cfg)...), nil
}

// inspection is what one look at the source found.
type inspection struct {
	Faults      []Fault // without those of the slot
	Tables      []*sourceTable
	Publication *publicationState
	Slot        *slotState
	Database    string
	Role        string
}

// fatal returns the fatal faults as an error, nil if there are none.
func (in *inspection) fatal() error {
	var fatal []Fault
	for _, f := range in.Faults {
		if f.Fatal {
			fatal = append(fatal, f)
		}
	}
	if fatal == nil {
		return nil
	}
	return &FaultsError{Faults: fatal}
}

// inspect asks the source about everything.
func inspect(ctx context.Context, conn *pgx.Conn, cfg Config) (*inspection, error) {
	in := new(inspection)
	var err error
	if in.Slot, err = readSlot(ctx, conn, cfg.Slot); err != nil {
		return nil, err
	}
	old, err := in.checkServer(ctx, conn)
	if err != nil || old {
		return in, err
	}
	if err := in.checkRights(ctx, conn); err != nil {
		return nil, err
	}
	if in.Tables, err = readCatalogue(ctx, conn, cfg.Definition); err != nil {
		return nil, err
	}
	missing, err := in.checkNames(ctx, conn, cfg.Definition)
	if err != nil {
		return nil, err
	}
	for _, t := range in.Tables {
		in.checkTable(t)
	}
	if in.Publication, err = readPublication(ctx, conn, cfg.Publication); err != nil {
		return nil, err
	}
	if missing || in.fatal() != nil {
		// What the publication should be is not known.
		return in, nil //nolint:nilerr // what is fatal is in the faults; it is the caller who refuses
	}
	return in, in.checkPublication(ctx, conn, &cfg)
}

func (in *inspection) fault(object, problem, mend string) {
	in.Faults = append(in.Faults, Fault{Object: object, Problem: problem, Mend: mend, Fatal: true})
}

// checkServer checks version, settings and role. old says that nothing more
// can be asked.
func (in *inspection) checkServer(ctx context.Context, conn *pgx.Conn) (old bool, err error) {
	const sql = `
SELECT current_setting('server_version_num')::int / 10000, current_setting('server_version'),
  current_database()::text, current_user::text, pg_catalog.pg_is_in_recovery(), current_setting('wal_level'),
  current_setting('max_replication_slots')::int, (SELECT count(*)::int FROM pg_catalog.pg_replication_slots),
  current_setting('max_wal_senders')::int, (SELECT count(*)::int FROM pg_catalog.pg_stat_replication),
  r.rolsuper OR r.rolreplication OR EXISTS (SELECT FROM pg_catalog.pg_roles m
    WHERE m.rolname = 'rds_replication' AND pg_catalog.pg_has_role(m.oid, 'MEMBER'))
FROM pg_catalog.pg_roles r WHERE r.rolname = current_user`
	var version, slotsMax, slots, sendersMax, senders int
	var versionText, walLevel string
	var recovery, replication bool
	if err := conn.QueryRow(ctx, sql).Scan(&version, &versionText, &in.Database, &in.Role, &recovery, &walLevel,
		&slotsMax, &slots, &sendersMax, &senders, &replication); err != nil {
		return false, fmt.Errorf("check the server: %w", err)
	}
	if version < oldestServer {
		in.fault("server", fmt.Sprintf("PostgreSQL %s has no column lists in publications", versionText),
			fmt.Sprintf("upgrade to PostgreSQL %d or newer", oldestServer))
		return true, nil
	}
	if recovery {
		in.fault("server", "it is a standby", "give the URL of the primary server")
	}
	if walLevel != "logical" {
		in.fault("wal_level", "it is "+walLevel+" instead of logical",
			"ALTER SYSTEM SET wal_level = 'logical'; -- then restart PostgreSQL")
	}
	if in.Slot == nil && slots >= slotsMax {
		in.fault("max_replication_slots", fmt.Sprintf("all %d slots are taken", slotsMax),
			fmt.Sprintf("ALTER SYSTEM SET max_replication_slots = '%d'; -- then restart PostgreSQL", slotsMax+4))
	}
	if (in.Slot == nil || !in.Slot.Active) && senders >= sendersMax {
		in.fault("max_wal_senders", fmt.Sprintf("all %d senders are in use", sendersMax),
			fmt.Sprintf("ALTER SYSTEM SET max_wal_senders = '%d'; -- then restart PostgreSQL", sendersMax+4))
	}
	if !replication {
		in.fault("role "+in.Role, "it has no right to replicate", "ALTER ROLE "+quoteIdent(in.Role)+" REPLICATION")
	}
	return false, nil
}

// checkPublication compares the publication with what the tables need, and the
// role's rights with what it takes to mend it.
func (in *inspection) checkPublication(ctx context.Context, conn *pgx.Conn, cfg *Config) error {
	name := cfg.Publication
	object := "publication " + name
	role := quoteIdent(in.Role)
	if in.Publication == nil {
		if t := in.foreign(); t != nil {
			in.fault(object, "it does not exist, and role "+in.Role+" may not publish table "+t.String()+", which "+t.Owner+" owns: let the owner or a superuser run this",
				createPublicationSQL(name, in.Tables))
			return nil
		}
		var create bool
		if err := conn.QueryRow(ctx, `SELECT pg_catalog.has_database_privilege(current_database(), 'CREATE')`).Scan(&create); err != nil {
			return fmt.Errorf("check the role: %w", err)
		}
		if !create {
			in.fault(object, "it does not exist, and role "+in.Role+" may not create one in database "+in.Database,
				"GRANT CREATE ON DATABASE "+quoteIdent(in.Database)+" TO "+role)
		}
		return nil
	}
	reason, ok := in.Publication.matches(in.Tables)
	if ok {
		return nil
	}
	if lacks := in.Publication.lacks(cfg.filled(in.Tables)); lacks != "" && in.Slot != nil {
		// A feed has begun: to widen its publication would hide what it lacks, but
		// of tables that are refilled. A first backfill that is not complete widens it
		// itself.
		problem := lacks + ", and the feed has begun without it"
		if cfg.Log == nil && (!in.Publication.Owned || in.foreign() != nil) {
			in.fault(object, problem+", and role "+in.Role+" may not change it: if the definition has gained it, let the owner or a superuser run this, "+
				"then start ingest, which fills it; otherwise "+beginAnew, strings.Join(alterPublicationSQL(name, in.Publication, in.Tables), "; "))
			return nil
		}
		in.Faults = append(in.Faults, Fault{
			Object: object, Problem: problem,
			Mend: "if the definition has gained it, start ingest, which takes it in; otherwise " + beginAnew,
		})
		return nil
	}
	mend := strings.Join(alterPublicationSQL(name, in.Publication, in.Tables), "; ")
	switch {
	case in.Publication.AllTables:
		in.fault(object, reason, mend)
	case !in.Publication.Owned:
		in.fault(object, reason+", and role "+in.Role+" does not own it: let the owner or a superuser run this", mend)
	case in.foreign() != nil:
		in.fault(object, reason+", and role "+in.Role+" does not own all tables: let a superuser run this", mend)
	default:
		in.Faults = append(in.Faults, Fault{Object: object, Problem: reason, Mend: mend})
	}
	return nil
}

// foreign is the first table that the role may not put into a publication, since
// another role owns it; nil if there is none.
func (in *inspection) foreign() *sourceTable {
	for _, t := range in.Tables {
		if !t.Owned {
			return t
		}
	}
	return nil
}

// slotFaults are the faults of the slot that can be told without the stream.
func (in *inspection) slotFaults(cfg Config) []Fault {
	slot := in.Slot
	if slot == nil {
		return nil
	}
	object := "replication slot " + slot.Name
	drop := dropSlotSQL(slot.Name)
	var faults []Fault
	add := func(problem, mend string) {
		faults = append(faults, Fault{Object: object, Problem: problem, Mend: mend, Fatal: true})
	}
	switch {
	case slot.Type != "logical" || slot.Plugin != outputPlugin || slot.Temporary || slot.TwoPhase:
		add("it is not a permanent logical slot with plugin "+outputPlugin+" and without two_phase", drop)
	case slot.Database != in.Database:
		add("it belongs to database "+slot.Database, drop)
	case slot.Active:
		pid := strconv.FormatUint(uint64(slot.ActivePID), 10)
		add("server process "+pid+" uses it", "SELECT pg_terminate_backend("+pid+")")
	}
	if reason := slot.lost(); reason != "" {
		add("the server has given it up ("+reason+"), and with it the changes that were not read yet", beginAnew)
	}
	if in.Publication == nil {
		add(fmt.Sprintf("it exists, confirmed up to %s, but publication %s does not", slot.confirmed, cfg.Publication), beginAnew)
	}
	return faults
}
