//go:build unix

package dbserver

import (
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool/internal/dbtest"
)

func TestListedNamesAreDescribedByPostgres(t *testing.T) {
	p := dbtest.OwnPostgres(t)
	sql := ""
	for _, name := range unusual {
		sql += `CREATE TABLE "` + strings.ReplaceAll(name, `"`, `""`) + `" (a int);`
	}
	p.Exec(t, "postgres", sql)
	describesAll(t, serve(t, Database{DSN: p.Superuser("postgres"), AllowUnsafeRole: true}), "public")
}

func TestListedNamesAreDescribedByMariaDB(t *testing.T) {
	m := dbtest.OwnMariaDB(t)
	m.Database(t, "d")
	for _, name := range unusual {
		m.Exec(t, "d", "CREATE TABLE `"+name+"` (a INT)")
	}
	describesAll(t, serve(t, Database{DSN: m.Root("d"), AllowUnsafeRole: true}), "d")
}
