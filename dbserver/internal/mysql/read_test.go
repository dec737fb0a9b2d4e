//go:build unix

package mysql

import (
	"testing"

	"github.com/mcpool-dev/mcpool/internal/dbtest"
)

func TestReadRows(t *testing.T) {
	s := dbtest.MariaDB(t)
	reader, _ := sample(t, s, "read_rows")
	d := open(t, options(reader))
	for _, test := range []struct {
		sql, want string
		params    []any
	}{
		{sql: "SELECT 1", want: `[[1]]`},
		{sql: "SELECT id, name FROM customers ORDER BY id", want: `[[1,"Ada"],[2,"Bob"],[3,"Grüße 🎉"]]`},
		{sql: "SELECT name FROM customers WHERE id = ?", params: []any{"2"}, want: `[["Bob"]]`},
	} {
		if got := mustRead(t, d, test.sql, test.params...); got != test.want {
			t.Errorf("%s: got %s, want %s", test.sql, got, test.want)
		}
	}
}
