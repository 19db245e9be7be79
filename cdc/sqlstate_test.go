package cdc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"dreamfeed/internal/change"
)

func TestSQLStateDecidesWhetherAFaultPasses(t *testing.T) {
	for state, c := range map[string]struct {
		what   string
		passes bool
	}{
		"08000": {"the connection broke", true},
		"08001": {"the connection could not be made", true},
		"08003": {"the connection does not exist", true},
		"08006": {"the connection failed", true},
		"08P01": {"protocol violation, as of a stream cut short", true},
		"22023": {"a setting has a wrong value", false},
		"25006": {"read-only: a standby", false},
		"25P02": {"the transaction has failed before", false},
		"25P03": {"the session was idle in a transaction", true},
		"28000": {"pg_hba.conf refuses us", false},
		"28P01": {"wrong password, also after it was right once", false},
		"3D000": {"no such database, also after there was one", false},
		"40001": {"serialisation", true},
		"40P01": {"deadlock", true},
		"42501": {"no privilege", false},
		"42704": {"the publication is gone", false},
		"42P01": {"the table is gone", false},
		"53000": {"resources", true},
		"53100": {"the server's disk is full", true},
		"53200": {"the server is out of memory", true},
		"53300": {"too many connections", true},
		"53400": {"all replication slots are in use", false},
		"54000": {"a limit of the program", false},
		"55000": {"the slot cannot be used", false},
		"55006": {"the slot is in use", false},
		"55P03": {"a lock could not be had", false},
		"57014": {"cancelled by an administrator", true},
		"57P01": {"an administrator ends us, or the server stops", true},
		"57P02": {"another process of the server crashed", true},
		"57P03": {"the server is starting up or shutting down", true},
		"57P04": {"the database was dropped", false},
		"57P05": {"the session was idle", true},
		"58000": {"an error of the server's system", false},
		"58030": {"an I/O error of the server's disk", false},
		"58P01": {"a file of the server is missing, such as a WAL segment", false},
		"F0000": {"the server's configuration file", false},
		"P0001": {"raised by a function", false},
		"XX000": {"internal error", false},
		"XX001": {"the server's data is corrupted", false},
		"5":     {"not an SQLSTATE", false},
	} {
		for wrapping, err := range map[string]error{
			"":            &pgconn.PgError{Code: state},
			"connecting ": &ConnectError{Err: &pgconn.PgError{Code: state}},
			"wrapped ":    fmt.Errorf("receive changes: %w", &pgconn.PgError{Code: state}),
		} {
			t.Run(wrapping+state+" "+c.what, func(t *testing.T) {
				if got := passing(err); got != c.passes {
					t.Errorf("passing(%v) = %t", err, got)
				}
			})
		}
	}
}

func TestErrorsWithoutSQLStateThatPass(t *testing.T) {
	for name, c := range map[string]struct {
		err    error
		passes bool
	}{
		"connection refused":               {&ConnectError{Err: syscall.ECONNREFUSED}, true},
		"connection reset":                 {fmt.Errorf("read: %w", syscall.ECONNRESET), true},
		"broken pipe":                      {syscall.EPIPE, true},
		"the connection ended in a row":    {io.ErrUnexpectedEOF, true},
		"a deadline":                       {os.ErrDeadlineExceeded, true},
		"no such host":                     {&ConnectError{Err: &net.DNSError{Name: "x"}}, true},
		"closed by ourselves":              {net.ErrClosed, true},
		"nothing":                          {nil, false},
		"we were told to stop":             {context.Canceled, false},
		"the stream's own failure":         {&streamError{io.EOF}, false},
		"the stream's failure about 57P01": {&streamError{&pgconn.PgError{Code: "57P01"}}, false},
		"the server is going down":         {&goingDownError{&ConnectError{Err: &pgconn.PgError{Code: "57P03"}}}, true},
		"what is to be begun again":        {&retryError{errors.New("x")}, true},
		"the slot is gone":                 {&SlotGoneError{}, false},
		"the slot is held":                 {&SlotHeldError{}, false},
		"a row too large":                  {&RowTooLargeError{}, false},
		"a message that does not decode":   {&MessageError{}, false},
		"a clock":                          {&ClockError{Moment: time.Now(), CommitLSN: change.LSN(1)}, false},
		"anything else":                    {errors.New("x"), false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := passing(c.err); got != c.passes {
				t.Errorf("passing(%v) = %t", c.err, got)
			}
		})
	}
}

func TestFirstConnectionIsHopelessOnlyWithoutAnAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		err       error
		connected bool
		hopeless  bool
	}{
		"refused":                    {&ConnectError{Err: syscall.ECONNREFUSED}, false, true},
		"a pooler's refusal":         {&ConnectError{Err: &pgconn.PgError{Code: "08P01"}}, false, true},
		"starting up":                {&ConnectError{Err: &pgconn.PgError{Code: "57P03"}}, false, false},
		"too many connections":       {&ConnectError{Err: &pgconn.PgError{Code: "53300"}}, false, false},
		"the second session refused": {&ConnectError{Err: syscall.ECONNREFUSED}, true, false},
		"lost later":                 {io.ErrUnexpectedEOF, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := new(Source)
			s.status.init()
			if got := s.hopeless(c.err, c.connected); got != c.hopeless {
				t.Errorf("before a connection: %t", got)
			}
			s.status.connected()
			if s.hopeless(c.err, c.connected) {
				t.Error("it is hopeless although there was a connection")
			}
		})
	}
}

func TestPausesGrowToTheirBoundAndDiffer(t *testing.T) {
	var b backoff
	want := reconnectFirst
	seen := map[time.Duration]bool{}
	for i := range 200 {
		got := b.next()
		if got < want/2 || got > want*3/2 {
			t.Fatalf("pause %d is %s, want %s to %s", i, got, want/2, want*3/2)
		}
		seen[got] = true
		want = min(2*want, reconnectMost)
	}
	if len(seen) < 100 {
		t.Errorf("200 pauses have only %d lengths", len(seen))
	}
}
