package postgres

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

// A roleState is what was found about the role of the connections that read.
type roleState struct {
	checks   []engine.Check
	warnings []string
	version  string
	looked   time.Time
}

// roleKept is for how long what was found is taken to hold.
const roleKept = time.Minute

// roleQuery looks at what the role of the connection may do itself or by taking
// on another. Each row is a check: its name, what is wrong (NULL for nothing)
// and whether that is no more than a warning.
const roleQuery = `WITH reach AS (SELECT r.* FROM pg_catalog.pg_roles r WHERE pg_catalog.pg_has_role(session_user, r.oid, 'MEMBER')),
	granted AS (
		SELECT c.oid::regclass::text AS what, a.privilege_type AS p FROM pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) a
		WHERE c.relnamespace <> 'pg_catalog'::regnamespace AND (a.grantee = 0 OR a.grantee IN (SELECT oid FROM reach))
			AND (c.relkind <> 'S' AND a.privilege_type IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER', 'MAINTAIN')
				OR c.relkind = 'S' AND a.privilege_type IN ('UPDATE', 'USAGE'))
		UNION ALL SELECT t.attrelid::regclass::text, a.privilege_type FROM pg_catalog.pg_attribute t, pg_catalog.aclexplode(t.attacl) a
		WHERE t.attacl IS NOT NULL AND (a.grantee = 0 OR a.grantee IN (SELECT oid FROM reach)) AND a.privilege_type IN ('INSERT', 'UPDATE')
		UNION ALL SELECT c.oid::regclass::text, 'owner' FROM pg_catalog.pg_class c
		WHERE c.relowner IN (SELECT oid FROM reach) AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
		UNION ALL SELECT 'schema ' || n.nspname, 'CREATE' FROM pg_catalog.pg_namespace n
		WHERE n.nspname NOT LIKE 'pg\_%' AND (n.nspowner IN (SELECT oid FROM reach) OR pg_catalog.has_schema_privilege(n.oid, 'CREATE')
			OR EXISTS (SELECT FROM pg_catalog.aclexplode(n.nspacl) a WHERE a.privilege_type = 'CREATE' AND a.grantee IN (SELECT oid FROM reach)))
		UNION ALL SELECT 'database ' || d.datname, 'CREATE' FROM pg_catalog.pg_database d
		WHERE d.datname = current_database() AND (d.datdba IN (SELECT oid FROM reach) OR pg_catalog.has_database_privilege(d.oid, 'CREATE'))),
	checks (n, name, wrong, mild) AS (
	SELECT 1, 'not a superuser', (SELECT string_agg(rolname, ', ') FROM reach WHERE rolsuper), false
	UNION ALL SELECT 2, 'creates no roles, databases or replicas',
		(SELECT string_agg(rolname, ', ') FROM reach WHERE rolcreaterole OR rolcreatedb OR rolreplication), false
	UNION ALL SELECT 3, 'reaches no files, programs or sessions of the server', (SELECT string_agg(rolname, ', ') FROM reach WHERE rolname IN
		('pg_write_server_files', 'pg_read_server_files', 'pg_execute_server_program', 'pg_signal_backend', 'pg_checkpoint',
		'pg_create_subscription', 'pg_maintain', 'pg_signal_autovacuum_worker')), false
	UNION ALL SELECT 4, 'writes to no table', (SELECT string_agg(what || ': ' || p, ', ') FROM (
		SELECT 'all tables' AS what, rolname AS p FROM reach WHERE rolname = 'pg_write_all_data'
		UNION ALL (SELECT what, string_agg(DISTINCT p, '/') FROM granted GROUP BY what ORDER BY what LIMIT 5)) w), false
	UNION ALL SELECT 5, 'calls nothing that leaves the database', (SELECT string_agg(f, ', ') FROM (
		SELECT p.oid::regproc::text AS f FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang
		WHERE (p.proname LIKE 'dblink%' AND p.provolatile = 'v' OR NOT l.lanpltrusted AND l.lanname NOT IN ('internal', 'c', 'sql'))
			AND pg_catalog.has_function_privilege(p.oid, 'EXECUTE') AND NOT 2281 = ANY (p.proargtypes)
			AND p.prorettype <> 'pg_catalog.language_handler'::regtype LIMIT 5) q), false
	UNION ALL SELECT 6, 'is bound by row-level security', (SELECT string_agg(rolname, ', ') FROM reach WHERE rolbypassrls AND NOT rolsuper), $1::bool
	UNION ALL SELECT 7, 'makes no temporary tables', CASE WHEN pg_catalog.has_database_privilege(current_database(), 'TEMP')
		THEN 'PUBLIC or the role has TEMP on the database' END, true
	UNION ALL SELECT 8, 'calls no functions as their owner', (SELECT string_agg(f, ', ') FROM (
		SELECT p.oid::regproc::text AS f FROM pg_catalog.pg_proc p WHERE p.prosecdef AND p.provolatile = 'v'
			AND p.pronamespace <> 'pg_catalog'::regnamespace AND pg_catalog.has_function_privilege(p.oid, 'EXECUTE') LIMIT 5) q), true)
	SELECT name, wrong, mild, current_setting('server_version') FROM checks ORDER BY n`

// checkRole refuses a connection whose role may do more than read, unless that
// is allowed.
func (d *Database) checkRole(ctx context.Context, pg *pgconn.PgConn) error {
	d.mu.Lock()
	state := d.role
	d.mu.Unlock()
	if time.Since(state.looked) > roleKept {
		var err error
		if state, err = d.lookAtRole(ctx, pg); err != nil {
			return err
		}
		d.mu.Lock()
		d.role = state
		d.mu.Unlock()
	}
	if d.options.AllowUnsafeRole {
		return nil
	}
	var wrong []string
	for _, c := range state.checks {
		if !c.OK {
			wrong = append(wrong, fmt.Sprintf("%s: no (%s)", c.Name, c.Detail))
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return &engine.Error{Code: engine.RoleUnsafe, Layer: engine.LayerPolicy,
		Message: "the database's role may do more than read: " + strings.Join(wrong, "; "),
		Next:    "whoever runs the server has to use a role that only reads (mcpool db setup-sql prints one), or allow this one (allow_unsafe_role)"}
}

func (d *Database) lookAtRole(ctx context.Context, pg *pgconn.PgConn) (roleState, error) {
	state := roleState{looked: time.Now()}
	// Without an identity row-level security is the owner's own business.
	mild := d.options.Identity.Role == "" && d.options.Identity.Setting == ""
	// The planner takes the query for a long one, which compiling it would make
	// it.
	if err := pg.Exec(ctx, "SET jit = off").Close(); err != nil {
		return state, err
	}
	r := pg.ExecParams(ctx, roleQuery, [][]byte{fmt.Append(nil, mild)}, nil, nil, nil)
	for r.NextRow() {
		v := r.Values()
		name, mild := string(v[0]), string(v[2]) == "t"
		state.version = string(v[3])
		c := engine.Check{Name: name, OK: v[1] == nil || mild}
		if v[1] != nil {
			c.Detail = short(string(v[1]))
			if mild || d.options.AllowUnsafeRole {
				state.warnings = append(state.warnings, fmt.Sprintf("%s: no (%s)", name, c.Detail))
			}
		}
		state.checks = append(state.checks, c)
	}
	_, err := r.Close()
	if err == nil {
		err = pg.Exec(ctx, "RESET jit").Close()
	}
	if err == nil && d.options.AllowUnsafeRole && len(state.warnings) > 0 {
		d.options.Log.Warn("the database's role may do more than read, and is allowed to", "database", d.options.Name,
			"warnings", state.warnings)
	}
	return state, err
}

// Setup says what the role that [SetupSQL] makes may read.
type Setup struct {
	Schemas []string // those whose tables it reads; none for those of public
	Limit   int      // most connections; zero for any number
}

// SetupSQL returns the statements that make a role which only reads, for a
// superuser to run in the database. It asks for the password to be put in.
func SetupSQL(role, database string, s Setup) string {
	name := quoteName(role)
	schemas := s.Schemas
	if len(schemas) == 0 {
		schemas = []string{"public"}
	}
	limit := -1
	if s.Limit > 0 {
		limit = s.Limit + 2 // and those that are ending
	}
	var b strings.Builder
	fmt.Fprintf(&b, `-- A role for the database server that may only read. Run it in database %[2]s,
-- as a superuser, after you have put in a password.
CREATE ROLE %[1]s LOGIN PASSWORD 'put a password here' NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS CONNECTION LIMIT %[3]d;
ALTER ROLE %[1]s SET default_transaction_read_only = on;
ALTER ROLE %[1]s SET statement_timeout = '30s';
ALTER ROLE %[1]s SET lock_timeout = '2s';
ALTER ROLE %[1]s SET idle_in_transaction_session_timeout = '30s';
GRANT CONNECT ON DATABASE %[2]s TO %[1]s;
-- Everybody may make temporary tables, and before PostgreSQL 15 tables in
-- public, until that is taken back.
REVOKE TEMPORARY ON DATABASE %[2]s FROM PUBLIC;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
`, name, quoteName(database), limit)
	for _, schema := range schemas {
		fmt.Fprintf(&b, `GRANT USAGE ON SCHEMA %[2]s TO %[1]s;
GRANT SELECT ON ALL TABLES IN SCHEMA %[2]s TO %[1]s;
-- Tables that the role which runs this makes later:
ALTER DEFAULT PRIVILEGES IN SCHEMA %[2]s GRANT SELECT ON TABLES TO %[1]s;
`, name, quoteName(schema))
	}
	return b.String()
}
