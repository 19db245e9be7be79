package snapshot_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dreamfeed/snapshot"
	"dreamfeed/snapshot/pit"
)

func TestRareValues(t *testing.T) {
	tests := map[string]struct {
		column int
		users  map[string]int // by value, "" is missing
		want   map[string]int
	}{
		"a value of ten users stays, of nine goes": {
			colSegment, map[string]int{"A": 10, "B": 9, "C": 9}, map[string]int{"A": 10, "OTHER": 18},
		},
		"too small an OTHER takes the next rarest": {
			colSegment, map[string]int{"A": 25, "B": 12, "C": 3}, map[string]int{"A": 25, "OTHER": 15},
		},
		"of two next rarest the first by bytes goes": {
			colSegment, map[string]int{"B": 12, "A": 12, "C": 3}, map[string]int{"B": 12, "OTHER": 15},
		},
		"a value that reads OTHER belongs to it": {
			colSegment, map[string]int{"A": 25, "OTHER": 7, "C": 3}, map[string]int{"A": 25, "OTHER": 10},
		},
		"a small OTHER of the source takes the next rarest": {
			colSegment, map[string]int{"A": 25, "B": 12, "OTHER": 7}, map[string]int{"A": 25, "OTHER": 19},
		},
		"missing ones are a value": {
			colSegment, map[string]int{"A": 25, "": 4, "C": 8}, map[string]int{"A": 25, "OTHER": 12},
		},
		"enough missing ones stay": {
			colSegment, map[string]int{"A": 25, "": 10}, map[string]int{"A": 25, "UNKNOWN": 10},
		},
		"when nothing else is left all is OTHER": {
			colSegment, map[string]int{"A": 4, "B": 3}, map[string]int{"OTHER": 7},
		},
		"rare elements go before rare lists, and lists stay distinct and sorted": {
			colTypes,
			map[string]int{"A,B": 10, "B": 12, "X,Y": 5, "B,X": 5, "Y,Z": 5},
			// Y has 10 users, X 10, Z 5: Z alone is too small, A (10 users) joins it.
			// Lists then: B,OTHER 10; B 12; X,Y 5; B,X 5; OTHER,Y 5.
			map[string]int{"B,OTHER": 10, "B": 12, "OTHER": 15},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			def := testDefinition()
			c := config(t, def)
			c.NegativeRatio = "100"
			var list []pit.Example
			user := 0
			for value, n := range test.users {
				for range n {
					user++
					e := pit.Example{
						ID: fmt.Sprint("offer-", user), EntityID: fmt.Sprint("reader-", user), Outcome: 0, Time: asOf.UnixMicro() - day,
						Columns: make([]pit.Value, colsN), Values: []pit.Value{{}}, Uniform: [][]pit.Value{{{}}},
					}
					e.Columns[colTime], e.Columns[colV0] = number(e.Time), float(0.5)
					e.Columns[colName], e.Columns[colScore], e.Columns[colGoal] = text("BORROWED"), float(5), number(1)
					e.Columns[test.column] = text(value)
					list = append(list, e)
				}
			}
			got, err := snapshot.BuildFrom(context.Background(), c, source(rand.New(rand.NewPCG(1, 1)), list, 4))
			if err != nil {
				t.Fatal(err)
			}
			counts := map[string]int{}
			for _, path := range []string{got.Train, got.Test} {
				_, rows := readParquet(t, path)
				for _, row := range rows {
					counts[row[test.column].(string)]++
				}
			}
			if d := cmp.Diff(test.want, counts); d != "" {
				t.Errorf("rows by value (-want +got):\n%s", d)
			}
		})
	}
}
