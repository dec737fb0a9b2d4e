package sqlite

import (
	"database/sql/driver"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
	"modernc.org/sqlite"

	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

var testDir string // for the whole run

func TestMain(m *testing.M) {
	var err error
	if testDir, err = os.MkdirTemp("", "sqlite"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(mcptest.Settled(m), goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(testDir) // of a temporary directory nobody needs to know
		os.Exit(code)
	}))
}

// execute runs SQL on a file as another program would.
func execute(t testing.TB, file, sql string) {
	t.Helper()
	conn, err := (&sqlite.Driver{}).Open("file:" + file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.(driver.ExecerContext).ExecContext(t.Context(), sql, nil); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
}

func newDatabase(t testing.TB, sql string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "test.db")
	execute(t, file, sql)
	return file
}
