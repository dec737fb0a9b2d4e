package engine

import (
	"cmp"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
)

// maxNear is how many near names an error has.
const maxNear = 3

// Near returns the names that are most like name, nearest first: those that
// differ in few letters, and those that contain it or are contained in it.
func Near(name string, names []string) []string {
	type candidate struct {
		name     string
		distance int
	}
	var found []candidate
	const longest = 64 // bytes: longer names are no slips of the pen
	wanted := strings.ToLower(name[:min(len(name), longest)])
	for _, n := range names {
		lower := strings.ToLower(n)
		most := (max(len(wanted), len(lower)) + 1) / 3
		if len(wanted) >= 3 && len(lower) >= 3 && (strings.Contains(lower, wanted) || strings.Contains(wanted, lower)) {
			found = append(found, candidate{n, min(most, 1)})
		} else if d := levenshtein.ComputeDistance(wanted, lower); d <= most {
			found = append(found, candidate{n, d})
		}
	}
	slices.SortStableFunc(found, func(a, b candidate) int { return cmp.Compare(a.distance, b.distance) })
	var best []string
	for _, c := range found[:min(len(found), maxNear)] {
		best = append(best, c.name)
	}
	return best
}
