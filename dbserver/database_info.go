package dbserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"
)

// A databaseInfo is what database_info tells.
type databaseInfo struct {
	Database  string           `json:"database"`
	Engine    string           `json:"engine"`
	Version   string           `json:"version"`
	File      string           `json:"file,omitempty"`
	Size      int64            `json:"size_bytes,omitempty"`
	Mode      string           `json:"mode"`
	Status    string           `json:"status"` // ready, busy (no connection is free) or down
	LastError string           `json:"last_error,omitempty"`
	ReadOnly  *readOnlyInfo    `json:"read_only,omitempty"`
	Limits    map[string]int64 `json:"limits"`
	Pool      map[string]int64 `json:"pool"`
}

// A readOnlyInfo says what makes the database read-only.
type readOnlyInfo struct {
	// Verified is that a statement that writes was compiled on the connection
	// of this call and denied.
	Verified   bool     `json:"verified"`
	EnforcedBy []string `json:"enforced_by"`
}

var enforcedBy = []string{
	"SQLite authorizer: only SELECT, READ, RECURSIVE, functions and introspecting pragmas are allowed",
	"mode=ro", "PRAGMA query_only", "defensive mode", "no attached databases", "one statement a call",
}

// databaseInfo serves database_info. It does not fail because the database is
// down: that is what it then tells.
func (s *Server) databaseInfo(ctx context.Context) ([]byte, error) {
	info := databaseInfo{Database: s.options.Database, Engine: "sqlite", Version: lib.SQLITE_VERSION,
		Mode: "read_only", Status: "ready", Limits: s.limitInfo()}
	err := s.withSession(ctx, func(ctx context.Context, q *session) error {
		denied, err := q.deniesWriting(ctx)
		info.ReadOnly = &readOnlyInfo{Verified: denied, EnforcedBy: enforcedBy}
		return err
	})
	if ctx.Err() != nil {
		return nil, err
	}
	db := s.opened()
	if db != nil {
		info.File = db.file
		if stat, err := os.Stat(db.file); err == nil {
			info.Size = stat.Size()
		}
	}
	info.Pool = s.poolInfo(db)
	switch {
	case errors.Is(err, errExhausted):
		info.Status = "busy"
	case err != nil:
		info.Status, info.LastError = "down", engineMessage(err)
	}
	return marshalResult(info.text(), info)
}

// deniesWriting reports whether a statement that writes is denied. It is
// compiled and not run.
func (q *session) deniesWriting(ctx context.Context) (bool, error) {
	_, err := q.prepare(ctx, "CREATE TABLE mcpool_probe(x)")
	var e *sqlite.Error
	if errors.As(err, &e) && e.Code() == lib.SQLITE_AUTH {
		_, err = q.integer(ctx, "SELECT count(*) FROM sqlite_schema") // and reading works
		return true, err
	}
	return false, err
}

func (s *Server) limitInfo() map[string]int64 {
	return map[string]int64{
		"rows":                 int64(s.options.MaxRows),
		"default_rows":         int64(min(DefaultLimit, s.options.MaxRows)),
		"bytes":                int64(s.options.MaxBytes),
		"cell_bytes":           maxCellBytes,
		"blob_bytes":           maxBlobBytes,
		"value_bytes":          maxValueBytes,
		"statement_timeout_ms": s.options.Timeout.Milliseconds(),
	}
}

func (s *Server) poolInfo(db *database) map[string]int64 {
	pool := map[string]int64{"max_connections": int64(s.options.Connections)}
	if db != nil {
		stats := db.Stats()
		pool["open"] = int64(stats.OpenConnections)
		pool["in_use"] = int64(stats.InUse)
		pool["idle"] = int64(stats.Idle)
		pool["waited"] = stats.WaitCount
		pool["waited_ms"] = stats.WaitDuration.Milliseconds()
	}
	return pool
}

// text returns the information for a reader of text.
func (i *databaseInfo) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s %s, %s, %s\n", i.Database, i.Engine, i.Version, i.Mode, i.Status)
	if i.LastError != "" {
		fmt.Fprintf(&b, "last error: %s\n", i.LastError)
	}
	if i.File != "" {
		fmt.Fprintf(&b, "file: %s, %d bytes\n", i.File, i.Size)
	}
	if i.ReadOnly != nil {
		fmt.Fprintf(&b, "read-only by: %s (verified: %t)\n", strings.Join(i.ReadOnly.EnforcedBy, "; "), i.ReadOnly.Verified)
	}
	fmt.Fprintf(&b, "limits: %s\npool: %s\n", pairs(i.Limits), pairs(i.Pool))
	return b.String()
}

// pairs writes numbers with their names, in the order of these.
func pairs(m map[string]int64) string {
	var list []string
	for name, n := range m {
		list = append(list, fmt.Sprintf("%s %d", name, n))
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}
