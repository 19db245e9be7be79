package pit_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"dreamfeed/internal/definition"
	"dreamfeed/internal/history"
	"dreamfeed/snapshot/pit"
)

// examples prints how many examples a view holds, and how many were left out.
func examples(ctx context.Context, v pit.View, def *definition.Definition) (err error) {
	info := v.Info()
	program, err := pit.Compile(def, &info)
	if err != nil {
		return err
	}
	o := pit.Options{Window: 90 * 24 * time.Hour}
	related, err := pit.LoadRelated(ctx, v, def, o, os.TempDir(), 64<<20)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, related.Close()) }()
	joiner := program.NewJoiner(related, o)
	var tally pit.Tally
	ranges, err := v.Ranges(ctx, program.Entity(), 1)
	if err != nil {
		return err
	}
	for _, r := range ranges {
		err := v.Scan(ctx, program.Entity(), r, func(e *history.Entity) error {
			return joiner.Entity(e, &tally, func(x *pit.Example) error {
				fmt.Println("an example of entity", x.EntityID)
				return nil
			})
		})
		if err != nil {
			return err
		}
	}
	fmt.Println(tally.Candidates, "candidates, left out:", tally.Dropped)
	return nil
}

func ExampleCompile() {
	data, err := os.ReadFile("testdata/club.yaml")
	if err != nil {
		log.Fatal(err)
	}
	def, err := definition.Load(data, "club.yaml")
	if err != nil {
		log.Fatal(err)
	}
	if err := examples(context.Background(), &view{info: catalog(def, epoch, epoch)}, def); err != nil {
		log.Fatal(err)
	}
	// Output: 0 candidates, left out: map[]
}
