package mysql

import (
	"context"
	"crypto/rand"
	"database/sql/driver"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

// Info tells how the database is.
func (d *Database) Info(ctx context.Context, who engine.Caller) (engine.Info, error) {
	info := engine.Info{Engine: "mysql", Place: d.place, Pool: d.reads.stats()}
	opened := d.reads.opened.Load()
	limited, cancel := within(ctx, infoTime, engine.ErrTimeout)
	defer cancel()
	err := d.run(limited, task{who: who}, nil, func(ctx context.Context, c *conn) error {
		info.Engine, info.Version = c.server.engine(), c.server.version
		info.Place = c.place
		info.Proof = d.prove(c)
		if most, err := c.one("SELECT @@max_connections"); err == nil { // and one more for operators
			info.MaxConnections, _ = strconv.Atoi(most)
		}
		var size *int64
		all, err := c.queryWithin(sizeTime, `SUM(data_length + index_length) FROM information_schema.tables
			WHERE table_schema = DATABASE() OR DATABASE() IS NULL AND table_schema NOT IN `+ownSchemas, nil, func(row []driver.Value) error {
			size = estimate(row[0])
			return nil
		})
		if all && size != nil {
			info.Size = *size
		}
		return err
	})
	if ctx.Err() != nil {
		return info, context.Cause(ctx)
	}
	var told *engine.Error
	switch {
	case err == nil:
		info.Status = "ready"
	case errors.As(err, &told) && told.Code == engine.PoolExhausted:
		info.Status = "busy"
	case info.Proof != nil: // it answers, and has much to add up
		info.Status = "ready"
	default:
		info.Status = "down"
		info.LastError = err.Error()
		if !opened {
			info.Findings = append(info.Findings, engine.Finding{Severity: "error", Message: "the database has never been reached",
				Fix: "check its address, account and password"})
		}
	}
	if info.Proof != nil {
		for _, w := range info.Proof.Warnings {
			info.Findings = append(info.Findings, engine.Finding{Severity: "warning", Message: w, Fix: "use an account of mcpool db setup-sql"})
		}
	}
	info.Pool = d.reads.stats()
	return info, nil
}

const (
	// infoTime is how long Info takes at most.
	infoTime = 2 * time.Second
	// sizeTime is how long sizes are added up, for which MariaDB opens all tables.
	sizeTime = time.Second
)

// prove tries a statement that writes and would harm nothing, if it ran: it
// drops a table that does not exist. The servers refuse it in a read-only
// transaction before they look for the table, or because the account may not.
func (d *Database) prove(c *conn) *engine.Proof {
	err := c.exec("DROP TABLE IF EXISTS " + quoteName("mcpool_"+strings.ToLower(rand.Text())))
	p := &engine.Proof{
		EnforcedBy: []string{"account", "one prepared statement", "allow-list of syntax and functions", c.server.readOnly(), "read-only transaction", "session reset"},
		Role:       c.checks,
	}
	switch numberOf(err) {
	case erReadOnly, 1142, 1044:
		p.Verified = true
	default:
		p.Warnings = append(p.Warnings, "a statement that writes was not refused")
	}
	for _, check := range c.checks {
		if !check.OK {
			p.Warnings = append(p.Warnings, "not so: "+check.Name+" ("+check.Detail+")")
		}
	}
	return p
}

// Open is how many connections are open, but for the one that ends statements.
func (d *Database) Open() int {
	open := d.reads.stats()["open"]
	if d.writes != nil {
		open += d.writes.stats()["open"]
	}
	return int(open)
}
