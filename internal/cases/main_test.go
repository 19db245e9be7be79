package cases_test

import (
	"flag"
	"os"
	"testing"
	"time"

	"dreamfeed/internal/pgtest"
)

// Sizes of the large cases; make soak raises them.
var (
	largeRows  = flag.Int("large.rows", defaultLargeRows, "rows of the large transaction")
	largeValue = flag.Int("large.value", 40<<20, "bytes of the large value")
)

// patience bounds every wait: generous, since the machine may be slow.
func patience() time.Duration {
	return 90*time.Second + time.Duration(*largeRows)*100*time.Microsecond
}

// shared is the server of all cases that do not stop or configure theirs.
var shared = pgtest.Shared{Settings: map[string]string{
	"max_prepared_transactions": "10",
	"max_replication_slots":     "100",
	"max_wal_senders":           "100",
	"max_connections":           "300",
}}

func TestMain(m *testing.M) {
	if os.Getenv(asChild) != "" {
		os.Exit(childMain())
	}
	os.Exit(shared.Main(m))
}

// parallel runs a case beside others.
func parallel(t *testing.T, claim string, fn func(*testing.T)) {
	t.Run(claim, func(t *testing.T) {
		t.Parallel()
		fn(t)
	})
}
