package mysql

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

// sqlMode is that of all sessions: the one that the guard's parser has, and
// without what changes the meaning of quotes, backslashes and ||.
const sqlMode = "STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"

// errStale says that a connection was lost before anything was asked of it.
var errStale = errors.New("the connection was lost while nobody used it")

// A task is one call: as whom it runs, for how long and on what.
type task struct {
	who     engine.Caller
	timeout time.Duration // zero for as long as statements may run
	writes  bool
	rows    int // wanted at most, zero for all
}

// do runs fn in a session of its own, in a transaction that is rolled back
// behind it. When ctx or the time of the task ends, what fn runs is ended in the
// server, and the error is the cause of that.
func (d *Database) do(ctx context.Context, p *pool, t task, fn func(context.Context, *conn) error) error {
	err := p.use(ctx, func(c *conn) error {
		timeout := d.options.StatementTimeout
		if t.timeout > 0 && (timeout == 0 || t.timeout < timeout) {
			timeout = t.timeout
		}
		ctx, cancel := within(ctx, timeout, engine.ErrTimeout)
		defer cancel()
		stop := d.endWith(ctx, c)
		err := c.begin(&d.options, t, timeout)
		if err == nil {
			err = fn(ctx, c)
		}
		stop()
		c.reset()
		if err != nil && ctx.Err() != nil && !errors.Is(err, errMaybeKept) {
			return context.Cause(ctx)
		}
		return err
	})
	if err != nil && ctx.Err() != nil && !errors.Is(err, errMaybeKept) {
		return context.Cause(ctx)
	}
	return err
}

// begin makes the session what a call finds: nothing of it stays from the call
// before, which reset has seen to, and nothing depends on the server's settings.
func (c *conn) begin(o *engine.Options, t task, timeout time.Duration) error {
	commands := []string{query(c.settings(o, t, timeout))}
	if o.Identity.Role != "" {
		role := strings.ReplaceAll(o.Identity.Role, "{principal}", t.who.Principal)
		if t.who.Principal == "" && role != o.Identity.Role || !isRole(role) {
			return &engine.Error{Code: engine.AccessDenied, Layer: engine.LayerPolicy, Message: "there can be no role for the caller's name",
				Next: "ask whoever runs the server which callers the database knows"}
		}
		commands = append(commands, query("SET ROLE "+quoteName(role)))
	}
	if t.writes {
		commands = append(commands, query("START TRANSACTION READ WRITE"))
	} else {
		commands = append(commands, query("START TRANSACTION READ ONLY"))
	}
	c.wire.allow(maxRow)
	err := send(c.link, patience, commands...)
	if err != nil && numberOf(err) == 0 {
		c.broken = true
		return fmt.Errorf("%w: %w", errStale, err)
	}
	return err
}

// isRole reports whether a name can be that of a role. In MariaDB "none" stands
// for that of the connection, in any case and also as a quoted name, and spaces
// behind a name are none of it (https://mariadb.com/kb/en/set-role/; tried on
// 10.11).
func isRole(name string) bool {
	return name != "" && !strings.EqualFold(name, "none") && !strings.HasSuffix(name, " ") && !strings.Contains(name, "\x00")
}

// selectLimit is how many rows a SELECT returns that has no LIMIT of its own.
const selectLimit = "sql_select_limit"

// settings is the statement that sets those of a session.
func (c *conn) settings(o *engine.Options, t task, timeout time.Duration) string {
	var b strings.Builder
	b.WriteString("SET NAMES utf8mb4")
	set := func(name, value string) { fmt.Fprintf(&b, ", SESSION %s=%s", name, value) }
	set("sql_mode", "'"+sqlMode+"'")
	set("time_zone", "'"+strings.ReplaceAll(c.timeZone, "'", "''")+"'")
	set("autocommit", "1")
	if !t.writes {
		set(c.server.readOnly(), "1")
	}
	if timeout > 0 {
		// A second later than here, where it is told better.
		if c.server.maria {
			set("max_statement_time", fmt.Sprintf("%.3f", (timeout+time.Second).Seconds()))
		} else {
			set("max_execution_time", formatInt((timeout + time.Second).Milliseconds()))
		}
	}
	if t.rows > 0 {
		set(selectLimit, formatInt(int64(t.rows)))
	}
	if o.LockTimeout > 0 {
		seconds := formatInt(int64(math.Ceil(o.LockTimeout.Seconds())))
		set("lock_wait_timeout", seconds)
		set("innodb_lock_wait_timeout", seconds)
	}
	if o.Identity.Setting != "" {
		fmt.Fprintf(&b, ", @%s=%s", quoteName(o.Identity.Setting), literal(t.who.Principal))
	}
	return b.String()
}

// reset ends the transaction and makes the session a new one. A connection on
// which that fails is not used again.
func (c *conn) reset() {
	if c.broken || c.dead() {
		c.broken = true
		return
	}
	// The database and the role are not of what a reset resets.
	commands := []string{string(rune(comReset))}
	if c.database != "" {
		commands = append(commands, string(rune(comUse))+c.database)
	}
	if c.setRole != "" {
		commands = append(commands, query(c.setRole))
	}
	// A KILL that came late is for the reset, then, and for nothing of the next
	// caller.
	c.wire.allow(maxRow)
	c.broken = send(c.link, patience, commands...) != nil
}

// endWith ends what runs on a connection when ctx is done, until stop is called.
// A statement that does not end within a second loses its connection.
func (d *Database) endWith(ctx context.Context, c *conn) (stop func()) {
	stopped, finished := make(chan struct{}), make(chan struct{})
	unwatch := context.AfterFunc(ctx, func() {
		defer close(finished)
		const again = 50 * time.Millisecond
		for late := time.Now().Add(900 * time.Millisecond); time.Now().Before(late); {
			// The server forgets a KILL that comes before a statement starts, so
			// it is repeated. One that is not answered may come at any time, and
			// is not to find the next caller.
			if err := d.kill(c); err != nil {
				_ = c.wire.Close() // who reads from it is told
				return
			}
			select {
			case <-stopped:
				return
			case <-time.After(again):
			}
		}
		select {
		case <-stopped:
		default:
			_ = c.wire.Close() // who reads from it is told
		}
	})
	return func() {
		if !unwatch() {
			close(stopped)
			<-finished
		}
	}
}

// kill ends the statement that runs on a connection, and keeps the connection.
// An account may do that to its own without any privilege.
func (d *Database) kill(c *conn) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience/4)
	defer cancel()
	side, err := d.side.Conn(ctx)
	if err != nil {
		return err
	}
	defer side.Close()
	return side.Raw(func(raw any) error {
		k := raw.(*conn)
		stop := context.AfterFunc(ctx, func() { _ = k.wire.Close() })
		err := k.exec("KILL QUERY " + c.id)
		if !stop() || k.dead() {
			k.broken = true
			return driver.ErrBadConn
		}
		if numberOf(err) == erNoSuchThread { // it is gone already
			return nil
		}
		return err
	})
}

// numberOf is the server's number of an error, zero if it is not the server's.
func numberOf(err error) uint16 {
	var e *mysql.MySQLError
	if errors.As(err, &e) {
		return e.Number
	}
	return 0
}

// quoteName writes a name as an SQL identifier.
func quoteName(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

// literal writes a text as an SQL literal that has none of its characters.
func literal(s string) string {
	if s == "" {
		return "''"
	}
	return fmt.Sprintf("CONVERT(X'%x' USING utf8mb4)", s)
}
