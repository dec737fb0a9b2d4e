//go:build unix

package postgres

import (
	"testing"
	"time"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

// FuzzWhatPassesChangesNothing runs statements as a superuser: whatever is not
// refused before it runs leaves the database and the session as they were.
func FuzzWhatPassesChangesNothing(f *testing.F) {
	for _, name := range []string{"postgres-attack.txt", "postgres-allow.txt"} {
		for _, e := range corpus(f, name) {
			f.Add(e.sql)
		}
	}
	p := newDatabase(f)
	d := p.superuser(f, one, func(o *engine.Options) { o.StatementTimeout = 500 * time.Millisecond })
	w := newWatch(f, p)
	var before, clean string
	f.Fuzz(func(t *testing.T, sql string) {
		if before == "" {
			before, clean = w.state(t), session(t, d)
		}
		_, err := tryRead(t.Context(), d, sql)
		switch code(err) {
		case engine.SyntaxError, engine.MultiStatement, engine.InvalidArgument, engine.UnknownObject, engine.FunctionDenied, engine.ReadOnly:
			return // nothing of it ran
		}
		if after := w.state(t); after != before {
			t.Fatalf("%q (%v) changed the database from\n%s\tto\n%s", sql, err, before, after)
		}
		if after := session(t, d); after != clean {
			t.Fatalf("%q left the session as %s, not %s", sql, after, clean)
		}
	})
}
