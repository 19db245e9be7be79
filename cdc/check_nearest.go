package cdc

import (
	"cmp"
	"slices"
	"strings"
)

// nearest returns up to three of the names that are most like the wanted one:
// those that differ in letter case or by few letters, nearest first.
func nearest(want string, names []string) []string {
	type candidate struct {
		name     string
		distance int
	}
	lower := strings.ToLower(want)
	limit := max(2, len(want)/3)
	var near []candidate
	for _, name := range names {
		if d := distance(lower, strings.ToLower(name)); d <= limit {
			near = append(near, candidate{name, d})
		}
	}
	slices.SortFunc(near, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.distance, b.distance), cmp.Compare(a.name, b.name))
	})
	result := make([]string, 0, 3)
	for _, c := range near[:min(3, len(near))] {
		result = append(result, c.name)
	}
	return result
}

// distance is the number of bytes to insert, delete or replace to make a of b
// (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
