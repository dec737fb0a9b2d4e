//go:build unix

package dbtest

import (
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(mcptest.Settled(Servers(m))) }

func TestPostgresRunsAsSomebodyElseThanRoot(t *testing.T) {
	s := Postgres(t)
	if s != Postgres(t) {
		t.Error("a second server was started")
	}
	got := s.Exec(t, "postgres", "COPY (SELECT 1) TO PROGRAM 'id -u > who'; SELECT 6*7, 'a'")
	if got != "42|a\n" {
		t.Errorf("got %q", got)
	}
	if who, err := os.ReadFile(s.data() + "/who"); err != nil || strings.TrimSpace(string(who)) == "0" {
		t.Errorf("it runs as %s (%v)", who, err)
	}
}

func TestPostgresStartsAgain(t *testing.T) {
	s := OwnPostgres(t)
	s.Exec(t, "postgres", "CREATE TABLE t AS SELECT 1 AS a")
	s.Restart(t)
	if got := s.Exec(t, "postgres", "TABLE t"); got != "1\n" {
		t.Errorf("got %q", got)
	}
	s.Stop()
	s.Stop()
	s.Start(t)
	s.Start(t)
}
