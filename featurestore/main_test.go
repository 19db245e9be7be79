package featurestore_test

import (
	"flag"
	"os"
	"testing"

	"go.uber.org/goleak"

	"dreamfeed/snapshot/pit"

	"dreamfeed/featurestore"
)

var update = flag.Bool("update", false, "write the golden files anew")

// What pit reads is what the store offers, near and far.
var (
	_ pit.View = (*featurestore.View)(nil)
	_ pit.View = (*featurestore.RemoteView)(nil)
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		child(dir)
		return
	}
	goleak.VerifyTestMain(m)
}
