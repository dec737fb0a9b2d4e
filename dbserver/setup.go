package dbserver

import (
	"errors"
	"fmt"

	"github.com/mcpool-dev/mcpool/dbserver/internal/mysql"
	"github.com/mcpool-dev/mcpool/dbserver/internal/postgres"
	"github.com/mcpool-dev/mcpool/dbserver/internal/sqlserver"
)

// A Setup says what a role for a database may do.
type Setup struct {
	Engine   string // Postgres, MySQL or SQLServer; a SQLite file has no roles
	Role     string // its name; empty means DefaultRole
	Database string
	// Schemas are those whose tables it may read, of PostgreSQL; empty means
	// public.
	Schemas []string
	// MaxConnections is how many connections it may have, of PostgreSQL and
	// MySQL; zero means DefaultMaxConnections.
	MaxConnections int
}

// DefaultRole is the name of a role that a [Setup] gives none.
const DefaultRole = "mcpool_ro"

// SetupSQL returns the statements that make a role which can read a database
// and nothing else, for its operator to run. A password is to be put in.
func SetupSQL(s Setup) (string, error) {
	if s.Database == "" {
		return "", errors.New("which database? A role is made for one")
	}
	orDefault(&s.Role, DefaultRole)
	orDefault(&s.MaxConnections, DefaultMaxConnections)
	switch s.Engine {
	case SQLite:
		return "", errors.New("a SQLite file has no roles: give the process a file that it may only read")
	case Postgres:
		return postgres.SetupSQL(s.Role, s.Database, postgres.Setup{Schemas: s.Schemas, Limit: s.MaxConnections}), nil
	case MySQL:
		return mysql.SetupSQL(s.Role, s.Database, s.MaxConnections), nil
	case SQLServer:
		return sqlserver.SetupSQL(s.Role, s.Database), nil
	}
	return "", fmt.Errorf("engine %q: want %s, %s or %s", s.Engine, Postgres, MySQL, SQLServer)
}
