package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

const (
	// infoTime is how long the statements of Info may take.
	infoTime = 2 * time.Second
	// sizeTime is how long the files of a database are added up.
	sizeTime = time.Second
)

// Info tells how the database is, and opens it if nobody has.
func (d *Database) Info(ctx context.Context, who engine.Caller) (engine.Info, error) {
	info := engine.Info{Engine: "postgres", Pool: d.reads.stats()}
	var read string
	refused := false
	err := d.run(ctx, d.reads, who, infoTime, func(ctx context.Context, t *tx) error {
		err := t.rows(query{sql: `SELECT current_setting('transaction_read_only'),
			current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int`}, func(v [][]byte) (err error) {
			read = string(v[0])
			info.MaxConnections, err = strconv.Atoi(string(v[1]))
			return err
		})
		if err != nil {
			return err
		}
		refused, err = triesToWrite(t)
		return err
	})
	if err == nil { // without the size the database is still ready
		_ = d.run(ctx, d.reads, who, sizeTime, func(ctx context.Context, t *tx) error {
			return t.rows(query{sql: "SELECT pg_catalog.pg_database_size(current_database())"}, func(v [][]byte) error {
				info.Size, _ = strconv.ParseInt(string(v[0]), 10, 64)
				return nil
			})
		})
	}
	info.Pool = d.reads.stats()
	d.mu.Lock()
	info.Place = d.place
	role := d.role
	d.mu.Unlock()
	info.Version = role.version
	var told *engine.Error
	switch {
	case ctx.Err() != nil:
		return info, context.Cause(ctx)
	case errors.As(err, &told) && told.Code == engine.PoolExhausted:
		info.Status = "busy"
	case err != nil:
		info.Status, info.LastError = "down", err.Error()
		return info, nil
	default:
		info.Status = "ready"
	}
	info.Proof = &engine.Proof{
		Verified: refused && read == "on",
		EnforcedBy: []string{
			"the extended protocol carries one statement",
			"DECLARE CURSOR takes nothing but a query",
			"BEGIN READ ONLY, and ROLLBACK behind every call",
			"functions that do more than compute are refused by name",
			"DISCARD ALL between callers",
		},
		Role: role.checks, Warnings: role.warnings,
	}
	info.Findings = findings(role, d.options.AllowUnsafeRole)
	if !info.Proof.Verified && info.Status == "ready" {
		info.Findings = append(info.Findings, engine.Finding{Severity: "error", Message: "the database let a statement write that was tried",
			Fix: "do not use the database until it is known why"})
	}
	return info, nil
}

// triesToWrite reports whether the server refuses to make a table in a
// transaction as callers get it. If it did not, ROLLBACK would take it back.
func triesToWrite(t *tx) (refused bool, err error) {
	err = t.rows(query{sql: "CREATE TABLE mcpool_must_not_be ()"}, func([][]byte) error { return nil })
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code == "25006", nil
	}
	return false, err
}

func findings(role roleState, allowed bool) []engine.Finding {
	var list []engine.Finding
	severity := "info"
	if allowed {
		severity = "warning"
	}
	for _, w := range role.warnings {
		list = append(list, engine.Finding{Severity: severity, Message: fmt.Sprintf("the role: %s", w),
			Fix: "mcpool db setup-sql prints a role that may only read"})
	}
	return list
}

// Open is how many connections are open.
func (d *Database) Open() int {
	open := d.reads.stats()["open"] + d.catalog.stats()["open"]
	if d.writes != nil {
		open += d.writes.stats()["open"]
	}
	return int(open)
}
