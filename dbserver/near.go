package dbserver

import (
	"cmp"
	"context"
	"database/sql/driver"
	"slices"
	"strings"
)

// maxNear is how many near names an error has.
const maxNear = 3

// near returns the names that are most like name, nearest first: those that
// differ in few letters, and those that contain it or are contained in it.
func near(name string, names []string) []string {
	type candidate struct {
		name     string
		distance int
	}
	var found []candidate
	wanted := strings.ToLower(name)
	for _, n := range names {
		lower := strings.ToLower(n)
		most := (max(len(wanted), len(lower)) + 1) / 3
		if len(wanted) >= 3 && len(lower) >= 3 && (strings.Contains(lower, wanted) || strings.Contains(wanted, lower)) {
			found = append(found, candidate{n, min(most, 1)})
		} else if d := distance(wanted, lower, most); d <= most {
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

// distance returns the Levenshtein distance of two texts in bytes, or more
// than most if it is more.
func distance(a, b string, most int) int {
	if abs := len(a) - len(b); abs > most || -abs > most {
		return most + 1
	}
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
			row[j+1] = min(cost, diagonal+1, row[j]+1)
		}
	}
	return row[len(b)]
}

// similar returns names of tables, or of all columns, that are like name. It
// helps with an error, so an error of its own is none.
func (q *session) similar(ctx context.Context, name string, columns bool) []string {
	statement := "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type <> 'shadow'"
	if columns {
		statement = `SELECT DISTINCT c.name FROM pragma_table_list l JOIN pragma_table_xinfo(l.name) c
			WHERE l.schema = 'main' AND l.type <> 'shadow'`
	}
	var names []string
	_ = q.each(ctx, statement, func(row []driver.Value) error {
		names = append(names, text(row[0]))
		return nil
	})
	return near(name, names)
}
