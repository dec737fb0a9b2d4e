//go:build unix

package mysql

import (
	"database/sql/driver"
	"testing"
)

// serverless is a connection whose server is gone.
type serverless struct{ driver.Conn }

func (serverless) Close() error { return driver.ErrBadConn }

func TestAConnectionWhoseServerIsGoneClosesWell(t *testing.T) {
	if err := (&conn{Conn: serverless{}}).Close(); err != nil {
		t.Error(err)
	}
}
