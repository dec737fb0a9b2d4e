package sqlserver

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"net/url"
	"strings"

	mssql "github.com/microsoft/go-mssqldb"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

var enforcedBy = []string{
	"words: the text begins with SELECT or WITH and has no word of a statement that does more",
	"SET SHOWPLAN_XML: the server's own plan is that of one SELECT of tables of this server",
	"a transaction that is always rolled back", "one statement a call",
}

// Info tells how the database is.
func (d *Database) Info(ctx context.Context, who engine.Caller) (engine.Info, error) {
	info := engine.Info{Engine: "sqlserver", Status: "ready", Place: place(d.options.DSN)}
	var f *facts
	err := d.use(ctx, d.read, who, 0, func(ctx context.Context, q *session) error {
		f = q.facts
		verified, err := q.deniesWriting(ctx)
		if err != nil {
			return err
		}
		info.Proof = d.proof(f, verified)
		return q.each(ctx, "SELECT SUM(CAST(size AS bigint)) * 8192 FROM sys.database_files", nil, func(row []driver.Value) bool {
			info.Size = num(row[0])
			return false
		})
	})
	if cause := context.Cause(ctx); cause != nil {
		return info, cause
	}
	info.Pool = map[string]int64{"max_connections": int64(d.options.Pool.MaxOpen)}
	stats := d.pool(d.read).Stats()
	info.Pool["open"] = int64(stats.OpenConnections)
	info.Pool["in_use"] = int64(stats.InUse)
	info.Pool["idle"] = int64(stats.Idle)
	info.Pool["waited"] = stats.WaitCount
	info.Pool["waited_ms"] = stats.WaitDuration.Milliseconds()
	var told *engine.Error
	switch {
	case errors.As(err, &told) && told.Code == engine.PoolExhausted:
		info.Status = "busy"
	case err != nil:
		info.Status, info.LastError = "down", d.read.scrub(err.Error())
	}
	if f == nil { // what was known when it was last reached
		d.mu.Lock()
		f = d.facts
		d.mu.Unlock()
	}
	if f != nil {
		info.Version = strings.TrimSpace(f.one(factVersion) + " " + f.one(factEdition))
		info.Findings = findings(f)
	}
	return info, nil
}

// proof says what makes the database read-only.
func (d *Database) proof(f *facts, verified bool) *engine.Proof {
	p := &engine.Proof{Verified: verified, EnforcedBy: enforcedBy, Role: f.checks()}
	if f.one(factUpdateability) == "READ_ONLY" {
		p.EnforcedBy = append([]string{"the database is READ_ONLY on this server"}, p.EnforcedBy...)
	}
	if bad := f.unsafe(); len(bad) > 0 {
		p.Warnings = append(p.Warnings, "the role may do more than read, and was let in by allow_unsafe_role: nothing but the words and the plan of a statement stand against it")
	} else {
		p.EnforcedBy = append([]string{"the role: it may read and nothing else"}, p.EnforcedBy...)
	}
	return p
}

// findings are what an operator should look at.
func findings(f *facts) []engine.Finding {
	var list []engine.Finding
	permitted := false
	for _, p := range f.list[factDatabasePermission] {
		permitted = permitted || p == "SHOWPLAN"
	}
	if !permitted {
		list = append(list, engine.Finding{Severity: "error", Message: "the role may not see plans, so nothing can be read", Fix: "GRANT SHOWPLAN TO the user of the database"})
	}
	if !f.snapshot && f.one(factUpdateability) != "READ_ONLY" {
		list = append(list, engine.Finding{Severity: "info", Message: "reading waits for those that write, and they for it: snapshots are not allowed",
			Fix: "ALTER DATABASE … SET ALLOW_SNAPSHOT_ISOLATION ON"})
	}
	return list
}

// deniesWriting tries to make a table in a transaction that is rolled back, and
// reports whether the server refused that. It is not tried with a role that is
// known to be unsafe.
func (s *session) deniesWriting(ctx context.Context) (bool, error) {
	if len(s.facts.unsafe()) > 0 {
		return false, nil
	}
	err := s.within(ctx, false, 0, func() (bool, error) {
		return false, s.exec(ctx, "CREATE TABLE mcpool_probe (x int)")
	})
	var refused mssql.Error
	if !errors.As(err, &refused) {
		return false, err
	}
	switch refused.Number {
	case 262, 2760, 3906: // permission on the database, on the schema; a database that is read-only
		return true, nil
	}
	return false, err
}

// place is where a database is, without credentials.
func place(dsn string) string {
	u, err := url.Parse(dsn)
	if err != nil || u.Host == "" {
		return ""
	}
	return strings.TrimSuffix(u.Host+u.Path, "/") + "/" + u.Query().Get("database")
}

// Open is how many connections are open.
func (d *Database) Open() int {
	d.mu.Lock()
	pools := []*sql.DB{d.readers, d.writers}
	d.mu.Unlock()
	open := 0
	for _, pool := range pools {
		if pool != nil {
			open += pool.Stats().OpenConnections
		}
	}
	return open
}
