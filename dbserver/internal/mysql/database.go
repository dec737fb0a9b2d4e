package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

// A Database is one database of a server, or all of them where the DSN names
// none.
type Database struct {
	options engine.Options
	place   string
	gate    gate
	secrets secrets
	reads   *pool
	writes  *pool   // nil where nothing may be written
	side    *sql.DB // for KILL
}

// New returns a database that is opened by the first call.
func New(o engine.Options) (engine.Database, error) {
	d := &Database{options: o}
	if o.Resolve == nil {
		a, err := parseDSN(o.DSN)
		if err != nil {
			return nil, fmt.Errorf("database %s: %w", o.Name, err)
		}
		d.place = a.place()
	}
	if o.WriteDSN != "" {
		if _, err := parseDSN(o.WriteDSN); err != nil {
			return nil, fmt.Errorf("database %s, for writing: %w", o.Name, err)
		}
	}
	if !settingName(o.Identity.Setting) {
		return nil, fmt.Errorf("database %s: the identity's setting %q is no name of a variable: letters, digits, . and _", o.Name, o.Identity.Setting)
	}
	reader := &connector{options: &d.options, guarded: true, gate: &d.gate, secrets: &d.secrets}
	d.reads = newPool(reader, &d.options)
	d.side = sql.OpenDB(&connector{options: &d.options, gate: new(gate), secrets: &d.secrets})
	d.side.SetMaxOpenConns(2)
	d.side.SetMaxIdleConns(1)
	d.side.SetConnMaxIdleTime(o.Pool.MaxIdleTime)
	if o.Write {
		d.writes = newPool(&connector{options: &d.options, dsn: o.WriteDSN, gate: new(gate), secrets: &d.secrets}, &d.options)
	}
	return d, nil
}

func settingName(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool {
		return r != '_' && r != '.' && (r < '0' || r > '9') && (r|0x20 < 'a' || r|0x20 > 'z')
	}) < 0
}

// Close closes the connections.
func (d *Database) Close() error {
	errs := []error{d.reads.db.Close(), d.side.Close()}
	if d.writes != nil {
		errs = append(errs, d.writes.db.Close())
	}
	return errors.Join(errs...)
}

// utc is the time zone of sessions for which the DSN names no other.
const utc = "+00:00"

// run runs fn in a session, and tells what went wrong.
func (d *Database) run(ctx context.Context, t task, s *statement, fn func(context.Context, *conn) error) error {
	p := d.reads
	if t.writes {
		p = d.writes
	}
	err := d.do(ctx, p, t, func(ctx context.Context, c *conn) error {
		if err := fn(ctx, c); err != nil {
			return d.suggest(ctx, c, s, err)
		}
		return nil
	})
	return d.explainError(ctx, s, err)
}

// secrets are what is taken out of messages.
type secrets struct {
	mu     sync.Mutex // guards values
	values []string
}

func (s *secrets) add(v string) {
	const least = 4 // characters, of what is not in every other word
	if len(v) < least {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, known := range s.values {
		if known == v {
			return
		}
	}
	const most = 8 // passwords that change are read again for each connection
	if len(s.values) == most {
		s.values = s.values[1:]
	}
	s.values = append(s.values, v)
}

// scrub returns a message without them.
func (s *secrets) scrub(message string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.values {
		message = strings.ReplaceAll(message, v, "***")
	}
	return message
}
