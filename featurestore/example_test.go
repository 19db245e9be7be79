package featurestore_test

import (
	"context"
	"fmt"
	"os"

	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
	"dreamfeed/internal/history"
)

// A store is opened with a definition, applies batches, and hands out views as
// of any closed moment.
func ExampleStore_View() {
	dir, err := os.MkdirTemp("", "dreamfeed-example-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	store, err := featurestore.Open(dir, featurestore.Options{Definition: testDefinition()})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close()

	users, f := relations()["users"], newFeed()
	f.transaction(change.Backfill, 1_000_000, []change.Row{insert(users, 0, map[string]string{"id": "u1", "name": "Ann"})}, 1, false)
	f.transaction(change.Live, 2_000_000, []change.Row{{Relation: users, Op: change.Delete, Old: values(users, map[string]string{"id": "u1"})}}, 1, false)
	if err := store.Apply(context.Background(), f.batches...); err != nil {
		fmt.Println(err)
		return
	}

	view, err := store.View(0) // 0 is the newest closed moment
	if err != nil {
		fmt.Println(err)
		return
	}
	defer view.Close()
	ranges, err := view.Ranges(context.Background(), "user", 4)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, r := range ranges {
		err := view.Scan(context.Background(), "user", r, func(e *history.Entity) error {
			for _, v := range e.Rows[0].Versions {
				fmt.Println(e.ID, v.Version, "deleted:", v.Deleted)
			}
			return nil
		})
		if err != nil {
			fmt.Println(err)
			return
		}
	}
	// Output:
	// u1 1970-01-01T00:00:02.000000Z deleted: true
	// u1 1970-01-01T00:00:01.000000Z deleted: false
}
