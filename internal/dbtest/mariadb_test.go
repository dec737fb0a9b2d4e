//go:build unix

package dbtest

import (
	"os"
	"strings"
	"syscall"
	"testing"
)

func TestMariaDBRunsAsSomebodyElseThanRoot(t *testing.T) {
	s := MariaDB(t)
	if s != MariaDB(t) {
		t.Error("a second server was started")
	}
	if got := s.Exec(t, "", "SELECT 6*7, 'a' INTO OUTFILE '"+s.Dir()+"/written';\nSELECT 6*7, 'a'"); got != "42|a\n" {
		t.Errorf("got %q", got)
	}
	info, err := os.Stat(s.Dir() + "/written")
	if err != nil {
		t.Fatal(err)
	}
	if owner := info.Sys().(*syscall.Stat_t).Uid; owner == 0 {
		t.Error("it runs as root")
	}
}

func TestMariaDBStartsAgain(t *testing.T) {
	s := OwnMariaDB(t, "--max-allowed-packet=32M")
	s.Database(t, "d")
	s.Exec(t, "d", "CREATE TABLE t AS SELECT 1 AS a")
	s.Restart(t)
	if got := s.Exec(t, "d", "SELECT a, @@max_allowed_packet FROM t"); strings.TrimSpace(got) != "1|33554432" {
		t.Errorf("got %q", got)
	}
	s.Stop()
	s.Stop()
	s.Start(t)
	s.Start(t)
}
