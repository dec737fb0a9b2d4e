package sqlite

import (
	"context"
	"errors"
	"os"

	lib "modernc.org/sqlite/lib"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

var enforcedBy = []string{
	"SQLite authorizer: only SELECT, READ, RECURSIVE, functions and introspecting pragmas are allowed",
	"mode=ro", "PRAGMA query_only", "defensive mode", "no attached databases", "one statement a call",
}

// Info tells how the database is.
func (d *Database) Info(ctx context.Context, _ engine.Caller) (engine.Info, error) {
	info := engine.Info{Engine: "sqlite", Version: lib.SQLITE_VERSION, Status: "ready"}
	err := d.read.with(ctx, 0, func(ctx context.Context, c *conn) error {
		denied, err := c.deniesWriting(ctx)
		info.Proof = &engine.Proof{Verified: denied, EnforcedBy: enforcedBy}
		return err
	})
	if cause := context.Cause(ctx); cause != nil {
		return info, cause
	}
	info.Pool = map[string]int64{"max_connections": int64(d.options.Pool.MaxOpen)}
	if db := d.read.current(); db != nil {
		info.Place = db.file
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
