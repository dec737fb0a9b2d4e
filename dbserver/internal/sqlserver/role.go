package sqlserver

import (
	"context"
	"database/sql/driver"
	"fmt"
	"slices"
	"strings"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

// serverRoles and databaseRoles are fixed roles whose members may do more than
// read.
var (
	serverRoles   = []string{"sysadmin", "securityadmin", "serveradmin", "setupadmin", "processadmin", "diskadmin", "dbcreator", "bulkadmin"}
	databaseRoles = []string{"db_owner", "db_datawriter", "db_ddladmin", "db_securityadmin", "db_accessadmin", "db_backupoperator"}
)

// Kinds of facts.
const (
	factVersion            = "version"
	factEdition            = "edition"
	factDatabase           = "database"
	factSchema             = "schema"
	factUpdateability      = "updateability"
	factSnapshot           = "snapshot"
	factServerRole         = "server role"
	factDatabaseRole       = "database role"
	factServerPermission   = "server permission"
	factDatabasePermission = "database permission"
	factObjectPermission   = "object permission"
	factOwned              = "owned schema"
)

// factsQuery asks for all of them at once, as rows of a kind and a text. Schemas
// from 16384 on are those of the fixed roles, which own them.
var factsQuery = `
SELECT 'version' AS kind, CAST(SERVERPROPERTY('ProductVersion') AS nvarchar(256)) COLLATE DATABASE_DEFAULT AS fact
UNION ALL SELECT 'edition', CAST(SERVERPROPERTY('Edition') AS nvarchar(256)) COLLATE DATABASE_DEFAULT
UNION ALL SELECT 'database', DB_NAME() COLLATE DATABASE_DEFAULT
UNION ALL SELECT 'schema', SCHEMA_NAME() COLLATE DATABASE_DEFAULT
UNION ALL SELECT 'updateability', CAST(DATABASEPROPERTYEX(DB_NAME(), 'Updateability') AS nvarchar(256)) COLLATE DATABASE_DEFAULT
UNION ALL SELECT 'snapshot', CAST(snapshot_isolation_state AS nvarchar(256)) COLLATE DATABASE_DEFAULT FROM sys.databases WHERE database_id = DB_ID()
UNION ALL SELECT 'server role', name FROM (VALUES ` + valuesOf(serverRoles) + `) AS r (name) WHERE IS_SRVROLEMEMBER(name) = 1
UNION ALL SELECT 'database role', name FROM (VALUES ` + valuesOf(databaseRoles) + `) AS r (name) WHERE IS_ROLEMEMBER(name) = 1
UNION ALL SELECT 'server permission', permission_name COLLATE DATABASE_DEFAULT FROM sys.fn_my_permissions(NULL, 'SERVER')
UNION ALL SELECT 'database permission', permission_name COLLATE DATABASE_DEFAULT FROM sys.fn_my_permissions(NULL, 'DATABASE')
UNION ALL SELECT 'object permission', permission_name COLLATE DATABASE_DEFAULT FROM sys.database_permissions
	WHERE state IN ('G', 'W') AND class IN (1, 3) AND major_id > 0
	AND permission_name IN ('INSERT', 'UPDATE', 'DELETE', 'ALTER', 'CONTROL', 'TAKE OWNERSHIP', 'RECEIVE', 'CREATE SEQUENCE')
	AND (grantee_principal_id = DATABASE_PRINCIPAL_ID() OR IS_ROLEMEMBER(USER_NAME(grantee_principal_id)) = 1)
UNION ALL SELECT 'owned schema', name COLLATE DATABASE_DEFAULT FROM sys.schemas
	WHERE schema_id < 16384 AND (principal_id = DATABASE_PRINCIPAL_ID() OR principal_id > 4 AND IS_ROLEMEMBER(USER_NAME(principal_id)) = 1)`

func valuesOf(names []string) string {
	return "('" + strings.Join(names, "'), ('") + "')"
}

// facts are what a connection says of its server and its role.
type facts struct {
	list     map[string][]string
	database string
	snapshot bool // reading may see one state of the database, and wait for nobody
}

func (s *session) ask(ctx context.Context) (*facts, error) {
	f := &facts{list: map[string][]string{}}
	err := s.each(ctx, factsQuery, nil, func(row []driver.Value) bool {
		if kind, fact := str(row[0]), str(row[1]); fact != "" {
			f.list[kind] = append(f.list[kind], fact)
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	f.database = f.one(factDatabase)
	f.snapshot = f.one(factSnapshot) == "1"
	if f.database == "" || f.one(factVersion) == "" {
		return nil, fmt.Errorf("the server did not say what it is")
	}
	return f, nil
}

func (f *facts) one(kind string) string {
	if len(f.list[kind]) == 0 {
		return ""
	}
	return f.list[kind][0]
}

// harmless reports whether a permission on the server or database lets its
// holder do nothing but read.
func harmless(permission string) bool {
	switch permission {
	case "SELECT", "SHOWPLAN", "REFERENCES", "UNMASK", "SUBSCRIBE QUERY NOTIFICATIONS", "SELECT ALL USER SECURABLES":
		return true
	}
	return strings.HasPrefix(permission, "CONNECT") || strings.HasPrefix(permission, "VIEW ")
}

// checks says what was looked at in the role.
func (f *facts) checks() []engine.Check {
	return []engine.Check{
		none("no server role that may do more than read", f.list[factServerRole]),
		none("no database role that may do more than read", f.list[factDatabaseRole]),
		none("no permission on the server but to connect and view", slices.DeleteFunc(slices.Clone(f.list[factServerPermission]), harmless)),
		none("no permission on the database but to read", slices.DeleteFunc(slices.Clone(f.list[factDatabasePermission]), harmless)),
		none("no permission on tables or schemas but to read", f.list[factObjectPermission]),
		none("no schema of its own", f.list[factOwned]),
	}
}

// none is a check that nothing was found.
func none(name string, found []string) engine.Check {
	found = slices.Compact(slices.Sorted(slices.Values(found)))
	return engine.Check{Name: name, OK: len(found) == 0, Detail: strings.Join(found, ", ")}
}

// unsafe returns the checks that failed.
func (f *facts) unsafe() []engine.Check {
	return slices.DeleteFunc(f.checks(), func(c engine.Check) bool { return c.OK })
}

func unsafeRole(bad []engine.Check) *engine.Error {
	var found []string
	for _, c := range bad {
		found = append(found, c.Detail)
	}
	return &engine.Error{Code: engine.RoleUnsafe, Layer: engine.LayerPolicy,
		Message: "the role of the connection may do more than read: " + strings.Join(found, ", "),
		Next:    "an operator has to give the database a role that only reads (mcpool db setup-sql), or set allow_unsafe_role"}
}

// SetupSQL returns the statements that make a login, and a user of a database
// with its name, that may read and do nothing else. They are for an
// administrator, who puts a password in. Denials stand beside the lack of
// grants, so that a grant to a role that the user gets later does not count.
// EXECUTE is denied on a schema and not on the database, where it would take in
// procedures of the system. Azure SQL Database has no USE: there the first two
// statements are for master, and the rest for the database.
func SetupSQL(role, database string) string {
	user := quoteName(role)
	return strings.Join([]string{
		"USE [master];",
		"CREATE LOGIN " + user + " WITH PASSWORD = N'<password>', CHECK_POLICY = ON;",
		"USE " + quoteName(database) + ";",
		"CREATE USER " + user + " FOR LOGIN " + user + ";",
		"ALTER ROLE db_datareader ADD MEMBER " + user + ";",
		"ALTER ROLE db_denydatawriter ADD MEMBER " + user + ";",
		"GRANT SHOWPLAN TO " + user + "; -- plans tell what a statement would do",
		"DENY EXECUTE ON SCHEMA::[dbo] TO " + user + "; -- also for other schemas; leave it out for functions that are allowed",
		"DENY ALTER TO " + user + ";",
		"DENY CREATE TABLE, CREATE VIEW, CREATE PROCEDURE, CREATE FUNCTION, CREATE SYNONYM, CREATE TYPE, CREATE SCHEMA TO " + user + ";",
		"DENY BACKUP DATABASE, BACKUP LOG, CHECKPOINT, TAKE OWNERSHIP TO " + user + ";",
		"",
	}, "\n")
}

// quoteName quotes a name as QUOTENAME does.
func quoteName(name string) string { return "[" + strings.ReplaceAll(name, "]", "]]") + "]" }
