//go:build unix

package postgres

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

// An entry is a statement of a corpus and what it is refused with.
type entry struct{ sql, want string }

// corpus reads a file of statements that lines with --- part.
func corpus(t testing.TB, name string) []entry {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", "..", "testdata", "corpus", name))
	if err != nil {
		t.Fatal(err)
	}
	var entries []entry
	for block := range strings.SplitSeq(string(content), "\n---\n") {
		var e entry
		var lines []string
		for line := range strings.SplitSeq(block, "\n") {
			if want, ok := strings.CutPrefix(line, "#: "); ok {
				e.want = want
			} else if !strings.HasPrefix(line, "#") {
				lines = append(lines, line)
			}
		}
		if e.sql = strings.TrimRight(strings.Join(lines, "\n"), "\n"); e.sql != "" {
			entries = append(entries, e)
		}
	}
	if len(entries) == 0 {
		t.Fatalf("%s has no statements", name)
	}
	return entries
}

// stateQuery tells all that a statement could have changed.
const stateQuery = `WITH c AS (SELECT pg_class.* FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname !~ '^(pg_|information_schema)')
	SELECT coalesce((SELECT string_agg(c.oid::regclass || md5(query_to_xml('SELECT * FROM ' || c.oid::regclass || ' x ORDER BY x::text', true, true, '')::text), ',' ORDER BY c.oid)
		FROM c WHERE relkind IN ('r', 'm')), ''),
	(SELECT string_agg(relname || relkind::text || relnatts || relowner || relrowsecurity || coalesce(relacl::text, ''), ',' ORDER BY relname, oid) FROM c),
	(SELECT string_agg(nspname || nspowner || coalesce(nspacl::text, ''), ',' ORDER BY nspname) FROM pg_namespace WHERE nspname !~ '^pg_'),
	(SELECT string_agg(attname || atttypid || atthasdef, ',' ORDER BY attrelid, attnum) FROM pg_attribute JOIN c ON c.oid = attrelid),
	(SELECT string_agg(conname || contype::text, ',' ORDER BY conname) FROM pg_constraint),
	(SELECT string_agg(tgname || tgenabled::text, ',' ORDER BY oid) FROM pg_trigger), (SELECT string_agg(rulename || ev_enabled::text, ',' ORDER BY oid) FROM pg_rewrite),
	(SELECT count(*)::text FROM pg_policy), (SELECT count(*)::text FROM pg_default_acl), (SELECT string_agg(enumlabel, ',' ORDER BY oid) FROM pg_enum),
	(SELECT count(*)::text FROM pg_description), (SELECT count(*)::text FROM pg_event_trigger), (SELECT count(*)::text FROM pg_tablespace),
	(SELECT string_agg(proname || prosecdef || prosrc, ',' ORDER BY oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace),
	(SELECT last_value || is_called::text FROM counter),
	(SELECT string_agg(datname, ',' ORDER BY oid) FROM pg_database),
	(SELECT string_agg(rolname || rolsuper || coalesce(rolconfig::text, ''), ',' ORDER BY oid) FROM pg_roles),
	(SELECT string_agg(coalesce(setconfig::text, ''), ',') FROM pg_db_role_setting),
	(SELECT count(*)::text FROM pg_largeobject_metadata), (SELECT count(*)::text FROM pg_replication_slots),
	(SELECT count(*)::text FROM pg_prepared_xacts), (SELECT count(*)::text FROM pg_collation),
	(SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory'),
	pg_read_file('postgresql.auto.conf')`

// A watch tells what a database is like, from outside.
type watch struct {
	pg  *pgconn.PgConn
	dir string
}

func newWatch(t testing.TB, p *testDatabase) *watch {
	t.Helper()
	pg, err := pgconn.Connect(t.Context(), p.Superuser(p.database))
	if err != nil {
		t.Fatal(err)
	}
	w := &watch{pg: pg, dir: p.Dir()}
	t.Cleanup(func() { (&conn{pg: pg}).close() })
	return w
}

func (w *watch) state(t testing.TB) string {
	t.Helper()
	r := w.pg.ExecParams(t.Context(), stateQuery, nil, nil, nil, nil).Read()
	if r.Err != nil {
		t.Fatal(r.Err)
	}
	var b strings.Builder
	for _, v := range r.Rows[0] {
		fmt.Fprintf(&b, "%s\n", v)
	}
	for _, dir := range []string{w.dir, "/tmp"} {
		files, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if dir == w.dir && !strings.HasSuffix(f.Name(), ".sql") || strings.Contains(f.Name(), "mcpool-evil") {
				fmt.Fprintln(&b, f.Name())
			}
		}
	}
	return b.String()
}

// sessionQuery tells what a session has that it would not have when new.
const sessionQuery = `SELECT current_user || ' ' || session_user, current_setting('transaction_read_only'), current_setting('default_transaction_read_only'),
	(SELECT string_agg(name || '=' || setting, ',') FROM pg_settings WHERE source = 'session' AND name NOT IN ('application_name', 'transaction_read_only', 'transaction_isolation', 'transaction_deferrable')),
	(SELECT count(*)::text FROM pg_class WHERE relnamespace = pg_my_temp_schema()), (SELECT count(*)::text FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'),
	(SELECT count(*)::text FROM pg_prepared_statements WHERE name <> ''), (SELECT count(*)::text FROM pg_listening_channels()), (SELECT count(*)::text FROM pg_cursors)`

// session returns what the next caller's session is like.
func session(t testing.TB, d *Database) string {
	t.Helper()
	var b strings.Builder
	err := d.run(t.Context(), d.reads, someone, 0, func(_ context.Context, x *tx) error {
		b.Reset()
		return x.rows(query{sql: sessionQuery}, func(v [][]byte) error {
			for _, s := range v {
				fmt.Fprintf(&b, "%s|", s)
			}
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func one(o *engine.Options) { o.Pool.MaxOpen = 1 }

func TestAttacksChangeNothing(t *testing.T) {
	p := newDatabase(t)
	w := newWatch(t, p)
	for name, d := range map[string]*Database{"reader": p.reader(t, one), "superuser": p.superuser(t, one)} {
		t.Run(name, func(t *testing.T) {
			before, clean := w.state(t), session(t, d)
			for _, e := range corpus(t, "postgres-attack.txt") {
				_, err := tryRead(t.Context(), d, e.sql)
				switch got := code(err); {
				case e.want == "role" && name == "reader" && got != engine.AccessDenied,
					e.want == "role" && name == "superuser" && err != nil,
					e.want != "role" && got != e.want:
					t.Errorf("%s\n\tgot %s (%v), want %s", e.sql, got, err, e.want)
				}
				if after := w.state(t); after != before {
					t.Fatalf("%s\n\tchanged the database from\n%s\tto\n%s", e.sql, before, after)
				}
				if after := session(t, d); after != clean {
					t.Fatalf("%s\n\tleft the session as %s, not %s", e.sql, after, clean)
				}
			}
		})
	}
}

func TestQueriesThatOnlyReadPass(t *testing.T) {
	p := newDatabase(t)
	d := p.reader(t)
	for _, e := range corpus(t, "postgres-allow.txt") {
		if _, err := tryRead(t.Context(), d, e.sql); err != nil {
			t.Errorf("%s\n\t%v", e.sql, err)
		}
	}
}
