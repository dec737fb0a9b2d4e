package postgres

import (
	"context"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

// A tx is a transaction on behalf of a caller, on a connection of its own. It
// ends with ROLLBACK, unless it was committed.
//
// Statements are queued and sent together, so that most calls cost one round
// trip. After an error the server skips those behind it.
type tx struct {
	wire
	start int // answers to the queued beginning that were not read yet
}

// run calls f in a transaction, with at most timeout for all of it but waiting
// for a connection. It runs again on a new connection if the one from the pool
// turns out to have died before. Its errors are those for the caller.
func (d *Database) run(ctx context.Context, p *pool, who engine.Caller, timeout time.Duration, f func(context.Context, *tx) error) error {
	begin, err := d.begin(who, p == d.writes)
	if err != nil {
		return err
	}
	for fresh := false; ; fresh = true {
		c, err := p.acquire(ctx, fresh)
		if err != nil {
			return d.explain(ctx, err)
		}
		died, err := d.runOn(ctx, p, c, begin, timeout, f)
		if !died || fresh {
			return d.explain(ctx, err)
		}
		p.purge()
	}
}

// runOn runs f on a connection, and reports whether that was dead before.
func (d *Database) runOn(ctx context.Context, p *pool, c *conn, begin []query, timeout time.Duration,
	f func(context.Context, *tx) error) (died bool, err error) {
	if most := d.options.StatementTimeout; timeout <= 0 || most > 0 && timeout > most {
		timeout = most
	}
	cancel := context.CancelFunc(func() {})
	if timeout > 0 {
		ctx, cancel = context.WithTimeoutCause(ctx, timeout, engine.ErrTimeout)
	}
	defer cancel()
	began := time.Now()
	t := &tx{wire: wire{pg: c.pg, in: c.in}}
	// A statement is ended in the database when its time is over or nobody waits
	// for it.
	over, canceled := make(chan struct{}), make(chan bool, 1)
	stop := context.AfterFunc(ctx, func() { canceled <- t.cancel(over) })
	// It begins in one piece with the first statement: where one of these fails,
	// the server skips that.
	for _, q := range begin {
		t.send(q)
		t.start++
	}
	if err = f(ctx, t); err == nil && t.ending {
		_ = t.drain(true) // a connection that this goes wrong on is not clean
	}
	if cause := context.Cause(ctx); cause != nil && err != nil {
		err = cause
	}
	died = c.used && !t.heard && ctx.Err() == nil && dead(err) && time.Since(began) < staleWithin
	if errors.Is(err, errEnough) {
		err = nil
	}
	stopped := stop()
	if stopped && t.clean && t.pg.TxStatus() == 'I' {
		p.release(c)
		return died, err
	}
	p.releaseOnce(c, func() bool {
		err := t.finish()
		if close(over); !stopped {
			if told := <-canceled; !told {
				return false
			}
			t.clean = false
		}
		return err == nil && t.reset() == nil
	})
	return died, err
}

// staleWithin is how soon a connection that died in the pool fails. One that
// fails later died of what it did, or somebody ended it, and what it did is not
// done again.
const staleWithin = time.Second

// dead reports whether an error means that the connection is gone.
func dead(err error) bool {
	if err == nil {
		return false
	}
	var pg *pgconn.PgError
	return !errors.As(err, &pg) || pg.Severity == "FATAL"
}

// A query is a statement with its parameters in text form, nil for NULL.
type query struct {
	sql    string
	params [][]byte
}

// begin returns the statements that a transaction for a caller starts with.
func (d *Database) begin(who engine.Caller, write bool) ([]query, error) {
	queries := []query{{sql: "BEGIN READ ONLY"}}
	if write {
		queries[0].sql = "BEGIN READ WRITE"
	}
	queries = append(queries, query{sql: "SET LOCAL application_name = '" + applicationName(who) + "'"})
	id := d.options.Identity
	if id.Role != "" {
		role := strings.ReplaceAll(id.Role, "{principal}", who.Principal)
		switch {
		case who.Principal == "" && role != id.Role:
			return nil, denied("statements run as the role of their caller, and this one has no name")
		case !isRole(role):
			return nil, denied("there can be no role for the caller's name")
		}
		queries = append(queries, query{sql: "SET LOCAL ROLE " + quoteName(role)})
	}
	if id.Setting != "" {
		if strings.Contains(who.Principal, "\x00") || !utf8.ValidString(who.Principal) {
			return nil, denied("the caller's name has a character that cannot be in one")
		}
		queries = append(queries, query{"SELECT pg_catalog.set_config($1, $2, true)", [][]byte{[]byte(id.Setting), []byte(who.Principal)}})
	}
	return queries, nil
}

func denied(message string) *engine.Error {
	return &engine.Error{Code: engine.AccessDenied, Layer: engine.LayerPolicy, Message: message,
		Next: "ask whoever runs the server which callers the database knows"}
}

// longestName is how long a name is at most, in bytes; PostgreSQL cuts longer
// ones, which are then other names
// (https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-IDENTIFIERS).
const longestName = 63

// isRole reports whether a name can be that of a role. "none" stands for that of
// the connection (https://www.postgresql.org/docs/current/sql-set-role.html).
func isRole(name string) bool {
	return name != "" && name != "none" && len(name) <= longestName && !strings.Contains(name, "\x00") && utf8.ValidString(name)
}

func quoteName(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// applicationName says in the database's own lists and logs for whom it works,
// in characters that mean nothing to either.
func applicationName(who engine.Caller) string {
	name := "mcpool"
	for _, part := range []string{who.Tool, who.Principal} {
		if part != "" {
			name += " " + part
		}
	}
	safe := func(r rune) rune {
		if r <= ' ' || r > '~' || r == '\'' || r == '\\' || r == '%' {
			if r == ' ' {
				return r
			}
			return '?'
		}
		return r
	}
	name = strings.Map(safe, name)
	return name[:min(len(name), longestName)]
}

// next returns the answer to the statement sent first of those not answered.
func (t *tx) next() (*answer, error) {
	for ; t.start > 0; t.start-- {
		a, err := t.answer()
		if err == nil {
			_, err = a.close()
		}
		if err != nil {
			return nil, &startError{err}
		}
	}
	return t.answer()
}

// done reads the answer to a statement whose rows nobody wants.
func (t *tx) done() error {
	r, err := t.next()
	if err != nil {
		return err
	}
	_, err = r.close()
	return err
}

// rows sends a statement of ours alone and calls row, which may be nil if there
// are none, for each of its rows. Values, nil for NULL, hold until it returns.
func (t *tx) rows(q query, row func(values [][]byte) error) error {
	t.send(q)
	if err := t.flush(); err != nil {
		return err
	}
	r, err := t.next()
	if err != nil {
		return err
	}
	for r.next() {
		if err := row(r.values); err != nil {
			return err
		}
	}
	_, err = r.close()
	return err
}

// A startError is that a transaction could not begin as it should.
type startError struct{ err error }

func (e *startError) Error() string { return e.err.Error() }
func (e *startError) Unwrap() error { return e.err }
