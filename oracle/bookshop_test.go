package oracle_test

import (
	_ "embed"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"dreamfeed/internal/pgtest"
	"dreamfeed/internal/workload/bookshop"
)

//go:embed sql/bookshop.sql
var bookshopSQL string

const bookshopColumns = `
	reader_hash string required pseudonym=reader_hash
	offer_hash string required pseudonym=offer_hash digits=24
	shown timestamp required
	generation string quasi
	city string quasi
	visits int zero
	offers_before int zero
	mean_relevance float zero computed
	hours_since_visit int null
	shelf string
	isbn string null
	pages int
	offered_before bool
	hour int
	long_read bool
	relevance float required
	weighted_pages float null computed
	channel string
	outcome string
	worth float required
	taken int required
	hours_to_reaction int null
	exact bool
	weight float computed
	rating float required alias=worth
`

// TestOtherTeam runs another definition over another schema from end to end.
func TestOtherTeam(t *testing.T) {
	definition, err := filepath.Abs("../internal/definition/testdata/bookshop.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(definition); err != nil {
		t.Fatal(err)
	}
	url := pgtest.New(t).NewDatabase(t)
	conn := connect(t, url)
	execute(t, conn, bookshop.Schema())
	if err := bookshop.Populate(t.Context(), conn, 5, time.Now()); err != nil {
		t.Fatal(err)
	}
	dataDir, output := t.TempDir(), t.TempDir()
	catchUp(t, url, dataDir, "--definition", definition)
	run(t, []string{"ANONYMIZATION_KEY=" + secretKey}, "snapshot", "--version", "3.0", "--data-dir", dataDir,
		"--definition", definition, "--output", output, "--negative-ratio", "0.6", "--test-size", "0.25", "--seed", "9")
	made := openRelease(t, output, "3.0")

	execute(t, conn, functionsSQL)
	set(t, conn, settings{asOf: made.moment(t, "as_of"), window: 30 * 24 * time.Hour, ratio: "0.6", seed: "9"})
	execute(t, conn, bookshopSQL)
	var rows []row
	for _, m := range rowsOf(t, conn, "SELECT * FROM clean") {
		rows = append(rows, row{
			id: m["id"].(string), user: m["user_id"].(string), class: m["worth"].(float64),
			split: m["split"].([]byte), values: m,
		})
	}
	f := finish{
		columns: columnsOf(t, bookshopColumns), version: "3.0", key: key(t, secretKey),
		user: "reader_hash", id: "offer_hash", time: "shown", minUsers: 5, other: "REST", testSize: big.NewRat(1, 4),
	}
	want := f.do(t, rows)
	if len(want.train) < 50 || len(want.test) < 10 {
		t.Fatalf("%d train and %d test rows: too few to show anything", len(want.train), len(want.test))
	}
	made.compare(t, f, want)
	made.compareFunnel(t, funnelOf(t, conn), want)
}
