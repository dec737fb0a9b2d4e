package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	lib "modernc.org/sqlite/lib"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

var enforcedBy = []string{
	"SQLite authorizer: only SELECT, READ, RECURSIVE, functions and introspecting pragmas are allowed",
	"mode=ro", "PRAGMA query_only", "defensive mode", "no attached databases", "one statement a call",
}

// What a policy adds.
const enforcedByPolicy = "temporary views before tables with masked columns and before tables that may not be read"

// Info tells how the database is. It opens it if nothing has yet, so that it
// can tell: the status is never idle.
func (d *Database) Info(ctx context.Context, _ engine.Caller) (engine.Info, error) {
	info := engine.Info{Engine: "sqlite", Version: lib.SQLITE_VERSION, Status: "ready"}
	err := d.read.with(ctx, 0, func(ctx context.Context, c *conn) error {
		denied, err := c.deniesWriting(ctx)
		info.Proof = &engine.Proof{Verified: denied, EnforcedBy: enforcedBy}
		if c.cover != nil {
			info.Proof.EnforcedBy = append(slices.Clone(enforcedBy), enforcedByPolicy)
		}
		if err == nil {
			info.Findings, err = c.findings(ctx)
		}
		return err
	})
	if cause := context.Cause(ctx); cause != nil {
		return info, cause
	}
	info.Pool = map[string]int64{"max_connections": int64(d.options.Pool.MaxOpen)}
	if db := d.read.current(); db != nil {
		info.Place = db.file
		info.Findings = append(info.Findings, fileFindings(db.file)...)
		if stat, err := os.Stat(db.file); err == nil {
			info.Size = stat.Size()
		}
		stats := db.Stats()
		info.Pool["open"] = int64(stats.OpenConnections)
		info.Pool["in_use"] = int64(stats.InUse)
		info.Pool["idle"] = int64(stats.Idle)
		info.Pool["waited"] = stats.WaitCount
		info.Pool["waited_ms"] = stats.WaitDuration.Milliseconds()
	}
	switch {
	case errors.Is(err, engine.ErrExhausted):
		info.Status = "busy"
	case err != nil:
		info.Status, info.LastError = "down", engineMessage(err)
	}
	return info, nil
}

// deniesWriting reports whether a statement that writes is denied. It is
// compiled and not run.
func (c *conn) deniesWriting(ctx context.Context) (bool, error) {
	s, err := c.compile(ctx, "CREATE TABLE mcpool_probe(x)")
	if err == nil {
		s.close()
		return false, nil
	}
	if c.guard.denied == nil {
		return false, err
	}
	_, err = c.single(ctx, "SELECT count(*) FROM sqlite_schema") // and reading works
	return err == nil, err
}

// findings are what of the database makes statements slow.
func (c *conn) findings(ctx context.Context) ([]engine.Finding, error) {
	blind, err := c.single(ctx, `SELECT count(*) > 0 AND NOT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_stat1')
		FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL`)
	if err != nil || *blind == 0 {
		return nil, err
	}
	return []engine.Finding{{Severity: "info", Message: "there are indexes, and SQLite knows nothing of what is in them", Fix: "run ANALYZE once, as a program that may write"}}, nil
}

// largeLog is from which size on, in bytes, a write-ahead log is worth a word:
// SQLite writes it back at 1,000 pages, about 4 MB, if nobody reads meanwhile
// (https://www.sqlite.org/wal.html, section 6).
const largeLog = 64 << 20

// fileFindings are what lies beside the file.
func fileFindings(file string) []engine.Finding {
	var list []engine.Finding
	if log, err := os.Stat(file + "-wal"); err == nil && log.Size() > largeLog {
		list = append(list, engine.Finding{Severity: "warning", Message: fmt.Sprintf("the write-ahead log has %d bytes, and each read looks through it", log.Size()),
			Fix: "end transactions that read for long, and run PRAGMA wal_checkpoint(TRUNCATE) as a program that may write"})
	}
	if journal, err := os.Stat(file + "-journal"); err == nil && journal.Size() > 0 {
		list = append(list, engine.Finding{Severity: "info", Message: "there is a rollback journal: a program is writing, or did not end its transaction",
			Fix: "if no program writes, open the database once with one that may"})
	}
	return list
}

// Open is how many connections are open.
func (d *Database) Open() int {
	open := 0
	for _, a := range []*access{&d.read, &d.write} {
		if db := a.current(); db != nil {
			open += db.Stats().OpenConnections
		}
	}
	return open
}
