package workload

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
)

// Traffic says which live traffic Run makes. Zero values stand for defaults.
type Traffic struct {
	// Seed decides the steps of every connection.
	Seed int64
	// Connections write concurrently (4). Each acts for its own part of the
	// users, so that what it does never depends on the others.
	Connections int
	// Rate is in transactions a second, over all connections; 0 means as many
	// as the server takes.
	Rate float64
	// Transactions ends Run after so many, rolled back ones included; 0 means
	// no such end.
	Transactions int
	// Duration ends Run after so long; 0 means no such end.
	Duration time.Duration
	// Dirt is the share of dirty values, as in Config.
	Dirt float64
	// Now is the application's clock (time.Now). Every moment that a
	// transaction writes is its answer at the transaction's beginning, in UTC
	// and cut to milliseconds.
	Now func() time.Time
}

func (t Traffic) withDefaults() Traffic {
	if t.Connections == 0 {
		t.Connections = 4
	}
	if t.Now == nil {
		t.Now = time.Now
	}
	t.Dirt = dirtShare(t.Dirt)
	return t
}

func (t Traffic) check() error {
	if t.Connections < 0 || t.Rate < 0 || t.Transactions < 0 || t.Duration < 0 || !(t.Dirt <= 1) {
		return fmt.Errorf("connections %d, rate %v, transactions %d, duration %s, dirt %v: out of range",
			t.Connections, t.Rate, t.Transactions, t.Duration, t.Dirt)
	}
	return nil
}

// Report counts what Run did.
type Report struct {
	// Committed and RolledBack count transactions.
	Committed, RolledBack int
	// Steps counts transactions by what they did.
	Steps map[string]int
}

func (r *Report) add(other Report) {
	r.Committed += other.Committed
	r.RolledBack += other.RolledBack
	for name, n := range other.Steps {
		r.Steps[name] += n
	}
}

// Run makes live traffic on a database with the tables of Schema, populated or
// empty, until its transactions are done, its duration has passed or ctx ends,
// none of which is an error: between two transactions if it can, and in the
// middle of one (which is rolled back) if ctx ends there. Only one Run may act
// on a database at a time, since each takes the users for its own.
//
// On an error the Report says what was done until then.
func Run(ctx context.Context, url string, traffic Traffic) (Report, error) {
	traffic = traffic.withDefaults()
	report := Report{Steps: map[string]int{}}
	if err := traffic.check(); err != nil {
		return report, fmt.Errorf("run traffic: %w", err)
	}
	limit := rate.Inf
	if traffic.Rate > 0 {
		limit = rate.Limit(traffic.Rate)
	}
	limiter := rate.NewLimiter(limit, 1)
	until := ctx
	if traffic.Duration > 0 {
		var cancel context.CancelFunc
		until, cancel = context.WithTimeout(ctx, traffic.Duration)
		defer cancel()
	}
	actors := make([]*actor, traffic.Connections)
	for i := range actors {
		a, err := newActor(ctx, url, traffic, i)
		if a != nil {
			defer a.close()
		}
		if err != nil {
			return report, fmt.Errorf("run traffic: connection %d: %w", i, err)
		}
		actors[i] = a
	}
	group, groupCtx := errgroup.WithContext(ctx)
	untilGroup, cancel := context.WithCancel(until)
	defer cancel()
	for i, a := range actors {
		quota := -1
		if traffic.Transactions > 0 {
			quota = traffic.Transactions / len(actors)
			if i < traffic.Transactions%len(actors) {
				quota++
			}
		}
		group.Go(func() error {
			for done := 0; done != quota; done++ {
				// Wait also refuses when the duration would end before its turn.
				if limiter.Wait(untilGroup) != nil || groupCtx.Err() != nil {
					return nil //nolint:nilerr // the end of the time is how it ends
				}
				if err := a.step(groupCtx); err != nil {
					cancel()
					return fmt.Errorf("connection %d: %w", i, err)
				}
			}
			return nil
		})
	}
	err := group.Wait()
	for _, a := range actors {
		report.add(a.report)
	}
	if err != nil && ctx.Err() == nil {
		return report, fmt.Errorf("run traffic: %w", err)
	}
	return report, nil
}

// errRollback is how a step says that its transaction is to be rolled back.
var errRollback = errors.New("rolled back on purpose")

// actor is one connection of the traffic, with the part of the world it acts
// for. It never reads from the database after its start: what it knows it keeps.
type actor struct {
	*draw
	conn   *pgx.Conn
	tx     pgx.Tx // the open transaction
	now    time.Time
	clock  func() time.Time
	sql    [tableCount]string
	report Report

	people    []*person
	items     []item   // everybody's; none of them is ever deleted
	own       []item   // this connection's alone
	itemCount int      // made by this connection
	anonymous []string // ids of searches of nobody
	buried    []grave  // deleted rows that will come back
}

// person is a user, as far as the actor knows.
type person struct {
	id        string
	vectorID  string // "" when there is none
	vector    [8]float64
	version   int
	profileID string
	prefsID   string
	consentID string
	requestID string // an open request to be deleted
	recs      []*recommendation
	favorites []favorite
	bookings  []booking
	searches  []row
	gone      bool
}

type favorite struct{ id, kind, entity string }

type booking struct{ id, status string }

// grave is a deleted search.
type grave struct {
	owner *person
	row   row
}

// Bounds of what an actor remembers of one user; older things are forgotten,
// and stay in the database as they are.
const (
	mostRecs     = 60
	mostBookings = 20
	mostSearches = 20
)

func newActor(ctx context.Context, url string, traffic Traffic, number int) (*actor, error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, err
	}
	a := &actor{
		draw: newDraw(traffic.Seed, "traffic", number, traffic.Dirt), conn: conn, clock: traffic.Now,
		report: Report{Steps: map[string]int{}},
	}
	for i, t := range tables {
		a.sql[i] = t.insertSQL()
	}
	return a, a.load(ctx, number, traffic.Connections)
}

// close ends the connection; what is lost when that goes wrong is nothing.
func (a *actor) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = a.conn.Close(ctx)
}

// step runs one transaction.
func (a *actor) step(ctx context.Context) error {
	chosen := a.choose()
	a.now = a.clock().UTC().Truncate(time.Millisecond)
	var err error
	if a.tx, err = a.conn.Begin(ctx); err != nil {
		return fmt.Errorf("%s: %w", chosen.name, err)
	}
	switch err = chosen.do(a, ctx); {
	case errors.Is(err, errRollback):
		err = a.tx.Rollback(ctx)
		a.report.RolledBack++
	case err != nil:
		err = errors.Join(err, a.tx.Rollback(context.WithoutCancel(ctx)))
	default:
		if err = a.tx.Commit(ctx); err == nil {
			a.report.Committed++
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", chosen.name, err)
	}
	a.report.Steps[chosen.name]++
	return nil
}

func (a *actor) insert(ctx context.Context, table int, rows ...row) error {
	var batch pgx.Batch
	for _, r := range rows {
		batch.Queue(a.sql[table], r.params()...)
	}
	if err := a.tx.SendBatch(ctx, &batch).Close(); err != nil {
		return fmt.Errorf("insert into %s: %w", tables[table].name, err)
	}
	return nil
}

// exec runs a statement whose parameters are values of a row.
func (a *actor) exec(ctx context.Context, sql string, values ...any) error {
	if _, err := a.tx.Exec(ctx, sql, row(values).params()...); err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	return nil
}

// Steps returns the names of everything that traffic does, as they stand in a
// Report.
func Steps() []string {
	names := make([]string, len(steps))
	for i, s := range steps {
		names[i] = s.name
	}
	return names
}
