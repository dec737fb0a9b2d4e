package dbserver

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
	"github.com/mcpool-dev/mcpool/rpc"
)

// A ledger is an engine whose statements affect as many rows as rows says.
type ledger struct {
	engine.Database
	rows      int64
	class     string
	uncertain bool
	ran       []string // what was run: the statement, its values, and whether it was kept
}

func (l *ledger) Write(_ context.Context, who engine.Caller, s engine.Statement, w engine.Write, out *result.Writer) (engine.Written, error) {
	if w.MaxRows > 0 && l.rows > w.MaxRows {
		return engine.Written{}, &engine.Error{Code: engine.AffectedLimit, Layer: engine.LayerPolicy,
			Message: fmt.Sprintf("the statement affects %d rows, at most %d are allowed", l.rows, w.MaxRows), Next: "affect fewer"}
	}
	l.ran = append(l.ran, fmt.Sprintf("%s %v commit=%t where=%t ddl=%t", s.SQL, s.Params, w.Commit, w.RequireWhere, w.DDL))
	if strings.Contains(s.SQL, "RETURNING") {
		out.SetColumns([]result.Column{{Name: "id", Type: "int"}})
		out.Int(7)
		out.EndRow()
	}
	return engine.Written{Class: l.class, Affected: l.rows, Uncertain: l.uncertain}, nil
}

func (l *ledger) Close() error { return nil }

// serveLedger serves a ledger in place of the database.
func serveLedger(t *testing.T, l *ledger, options Options) *Server {
	t.Helper()
	if options.Databases == nil {
		options.Databases = []Database{{DSN: "x.db", Mode: Write}}
	}
	s, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, d := range s.databases {
		_ = d.engine.Close() // nothing was opened
		d.engine = l
	}
	return s
}

func (a *answer) written(t *testing.T) written {
	t.Helper()
	var w written
	if err := json.Unmarshal(a.structured, &w); err != nil || a.IsError {
		t.Fatalf("%v %s", err, a.structured)
	}
	return w
}

func TestWriteIsPreviewedThenCommitted(t *testing.T) {
	l := &ledger{rows: 3, class: "update"}
	s := serveLedger(t, l, Options{})
	args := object{"query": "UPDATE t SET x = ? WHERE id < ? RETURNING id", "params": []any{"a", 4}}
	a := call(t, s, "write_data", args)
	preview := a.written(t)
	if preview.Committed || !preview.Previewed || preview.Affected != 3 || preview.Token == "" || preview.ExpiresAt == "" || string(preview.Rows) != "[[7]]" {
		t.Fatalf("preview is %s", a.structured)
	}
	if !strings.Contains(a.text(), preview.Token) || !strings.Contains(a.text(), untrusted+"7\n") {
		t.Errorf("text is %s", a.text())
	}
	args["token"] = preview.Token
	if done := call(t, s, "write_data", args).written(t); !done.Committed || done.Affected != 3 || done.Token != "" {
		t.Errorf("commit is %+v", done)
	}
	want := []string{"UPDATE t SET x = ? WHERE id < ? RETURNING id [a 4] commit=false where=true ddl=false",
		"UPDATE t SET x = ? WHERE id < ? RETURNING id [a 4] commit=true where=true ddl=false"}
	if strings.Join(l.ran, "\n") != strings.Join(want, "\n") {
		t.Errorf("ran %q", l.ran)
	}
	for _, again := range []string{preview.Token, preview.Token + "\n", "\n" + preview.Token, preview.Token[:9] + "\r\n" + preview.Token[9:],
		preview.Token + "=", " " + preview.Token} {
		args["token"] = again
		wantCode(t, call(t, s, "write_data", args), engine.Confirmation) // once
	}
}

func TestTokenIsForOneCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &ledger{rows: 1, class: "delete"}
		s := serveLedger(t, l, Options{Databases: []Database{{Name: "a", DSN: "x.db", Mode: Write}, {Name: "b", DSN: "x.db", Mode: Write}}})
		other := serveLedger(t, &ledger{}, Options{Databases: []Database{{Name: "a", DSN: "x.db", Mode: Write}, {Name: "b", DSN: "x.db"}}})
		as := func(s *Server, principal string, args object) *answer {
			t.Helper()
			return do(t, s, rpc.Call{Caller: rpc.Caller{Principal: principal}}, "write_data", args)
		}
		args := func(token string) object {
			return object{"database": "a", "query": "DELETE FROM t WHERE id = ?", "params": []any{1}, "token": token}
		}
		token := as(s, "ada", object{"database": "a", "query": "DELETE FROM t WHERE id = ?", "params": []any{1}}).written(t).Token
		for name, try := range map[string]func() *answer{
			"another principal": func() *answer { return as(s, "eve", args(token)) },
			"another server":    func() *answer { return as(other, "ada", args(token)) },
			"another database": func() *answer {
				a := args(token)
				a["database"] = "b"
				return as(s, "ada", a)
			},
			"another statement": func() *answer {
				a := args(token)
				a["query"] = "DELETE FROM t WHERE id = ?  "
				return as(s, "ada", a)
			},
			"other values": func() *answer {
				a := args(token)
				a["params"] = []any{"1"}
				return as(s, "ada", a)
			},
			"no token": func() *answer { return as(s, "ada", args("x")) },
		} {
			a := try()
			if a.StructuredContent.Error.Code != engine.Confirmation {
				t.Errorf("%s: %s", name, a.structured)
			}
		}
		time.Sleep(tokenTime)
		wantCode(t, as(s, "ada", args(token)), engine.Confirmation)
		if len(l.ran) != 1 {
			t.Errorf("ran %q", l.ran)
		}
	})
}

func TestCommitAffectsNoMoreThanThePreview(t *testing.T) {
	l := &ledger{rows: 2, class: "update"}
	s := serveLedger(t, l, Options{})
	args := object{"query": "UPDATE t SET x = 1 WHERE y"}
	args["token"] = call(t, s, "write_data", args).written(t).Token
	l.rows = 3
	a := call(t, s, "write_data", args)
	wantCode(t, a, engine.AffectedLimit)
	if !strings.Contains(a.text(), "the preview affected 2 rows") {
		t.Error(a.text())
	}
}

// TestWhatIsPreviewedCanBeCommitted is about statements that change more rows
// than those they are about: the cap of the commit counts these, too.
func TestWhatIsPreviewedCanBeCommitted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	file, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.Exec(`
		CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT);
		INSERT INTO users VALUES (1, 'Ada'), (2, 'Bob'), (3, 'Cyd');
		CREATE TABLE orders (id INTEGER PRIMARY KEY, user_id INT REFERENCES users ON DELETE CASCADE);
		INSERT INTO orders VALUES (1, 1), (2, 1), (3, 1);
		CREATE TABLE log (line TEXT);
		CREATE TRIGGER logged AFTER UPDATE ON users BEGIN INSERT INTO log VALUES (new.name); END;
		CREATE VIEW names AS SELECT name FROM users;
		CREATE TRIGGER renamed INSTEAD OF UPDATE ON names BEGIN UPDATE users SET name = new.name WHERE name = old.name; END;
		CREATE VIRTUAL TABLE docs USING fts5(body)`); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	s := serve(t, Database{DSN: path, Mode: Write})
	for _, c := range []struct {
		sql               string
		affected, counted int64
	}{
		{"UPDATE users SET name = 'Eve' WHERE id = 3", 1, 2},
		{"DELETE FROM users WHERE id = 1", 1, 4},
		{"UPDATE names SET name = 'Dan' WHERE name = 'Bob'", 0, 2},
		{"INSERT INTO docs VALUES ('hello')", 1, 3},
		{"INSERT INTO log VALUES ('x')", 1, 1},
	} {
		args := object{"query": c.sql}
		preview := call(t, s, "write_data", args).written(t)
		if told := len(preview.Notices) > 1; preview.Affected != c.affected || preview.Token == "" || told != (c.counted > c.affected) ||
			told && !strings.HasSuffix(preview.Notices[0], fmt.Sprintf(" %d rows", c.counted)) {
			t.Errorf("%s: %+v", c.sql, preview)
		}
		args["token"] = preview.Token
		if done := call(t, s, "write_data", args).written(t); !done.Committed || done.Affected != c.affected {
			t.Errorf("%s: %+v", c.sql, done)
		}
	}
	args := object{"query": "DELETE FROM users WHERE id = 2"}
	args["token"] = call(t, s, "write_data", args).written(t).Token
	again := object{"query": "INSERT INTO orders VALUES (9, 2)"}
	again["token"] = call(t, s, "write_data", again).written(t).Token
	call(t, s, "write_data", again).written(t)
	wantCode(t, call(t, s, "write_data", args), engine.AffectedLimit) // an order has come meanwhile
}

func TestNothingToCommit(t *testing.T) {
	s := serveLedger(t, &ledger{class: "update"}, Options{})
	if w := call(t, s, "write_data", object{"query": "UPDATE t SET x = 1 WHERE 0"}).written(t); w.Token != "" || w.Committed || len(w.Notices) != 1 {
		t.Errorf("%+v", w)
	}
	// A change of the schema affects no rows, and what cannot be rolled back
	// was not run.
	for _, l := range []*ledger{{class: "ddl"}, {class: "ddl", uncertain: true}} {
		if w := call(t, serveLedger(t, l, Options{}), "write_data", object{"query": "DROP TABLE t"}).written(t); w.Token == "" || w.Previewed == l.uncertain {
			t.Errorf("%+v", w)
		}
	}
}

// A person answers what they are asked.
type person struct {
	answer string
	err    error
	asked  []string
}

func (p *person) Notify(string, json.RawMessage) {}

func (p *person) Ask(_ context.Context, method string, params json.RawMessage) (json.RawMessage, error) {
	p.asked = append(p.asked, method+" "+string(params))
	return json.RawMessage(p.answer), p.err
}

func TestPersonConfirms(t *testing.T) {
	gone := errors.New("the client went away")
	for _, c := range []struct {
		person
		commits bool
		err     error
	}{
		{person{answer: `{"action":"accept","content":{"commit":true}}`}, true, nil},
		{person{answer: `{"action":"accept","content":{"commit":false}}`}, false, nil},
		{person{answer: `{"action":"accept"}`}, false, nil},
		{person{answer: `{"action":"decline"}`}, false, nil},
		{person{answer: `{"action":"cancel","content":{"commit":true}}`}, false, nil},
		{person{answer: `[]`}, false, nil},
		{person{err: rpc.Errorf(-1, "no")}, false, nil},
		{person{err: gone}, false, gone},
	} {
		l := &ledger{rows: 2, class: "delete"}
		s := serveLedger(t, l, Options{})
		params := []byte(`{"name":"write_data","arguments":{"query":"DELETE FROM t WHERE x = ?","params":["secret"]}}`)
		caller := rpc.Caller{Capabilities: rpc.Capabilities{Elicitation: true}}
		got, err := s.Do(t.Context(), rpc.Call{Method: "tools/call", Params: params, Caller: caller, Events: &c.person})
		if !errors.Is(err, c.err) {
			t.Errorf("%+v: %v", c.person, err)
		}
		if len(c.asked) != 1 || !strings.Contains(c.asked[0], "DELETE FROM t") || !strings.Contains(c.asked[0], "2 rows") || !strings.Contains(c.asked[0], "secret") {
			t.Errorf("asked %q", c.asked)
		}
		if committed := len(l.ran) == 2; committed != c.commits {
			t.Errorf("%+v: ran %q, got %s", c.person, l.ran, got.Bytes())
		}
		if err == nil && !c.commits && !strings.Contains(string(got.Bytes()), engine.Confirmation) {
			t.Errorf("%+v: got %s", c.person, got.Bytes())
		}
	}
}

func TestAPersonSeesAllOfTheStatement(t *testing.T) {
	long := strings.Repeat("x", maxShown)
	for _, c := range []struct {
		query  string
		params []any
		shown  string // what the message has; none if nobody is asked
	}{
		{"/*" + strings.Repeat(" \t\r\n", maxShown) + "*/ DELETE FROM t WHERE x", nil, "/*\n*/ DELETE FROM t WHERE x"},
		{"DELETE FROM t -- \u202ex\r WHERE a  = 'b'\u00a0", nil, "DELETE FROM t -- <U+202E>x\nWHERE a = 'b'<U+00A0>"},
		{"/*" + long + "*/ DELETE FROM t", nil, ""},
		{"DELETE FROM t WHERE x = '" + long + "'", nil, ""},
		{"UPDATE t SET x = ? WHERE y = ?", []any{long, 7}, "UPDATE t SET x = ? WHERE y = ?\n\nValues: \"" + long[:maxValueShown-1] + "…, 7"},
		{"UPDATE t SET x = ?", slices.Repeat([]any{long}, maxShown/maxValueShown), ""},
	} {
		l, p := &ledger{rows: 2, class: "delete"}, &person{answer: `{"action":"accept","content":{"commit":true}}`}
		call := rpc.Call{Caller: rpc.Caller{Capabilities: rpc.Capabilities{Elicitation: true}}, Events: p}
		a := do(t, serveLedger(t, l, Options{}), call, "write_data", object{"query": c.query, "params": append([]any{}, c.params...)})
		if c.shown == "" {
			if wantCode(t, a, engine.Confirmation); len(p.asked) != 0 || len(l.ran) != 1 {
				t.Errorf("%.60q: asked %q, ran %q", c.query, p.asked, l.ran)
			}
			continue
		}
		var asked struct{ Message string }
		if len(p.asked) != 1 || json.Unmarshal([]byte(strings.TrimPrefix(p.asked[0], "elicitation/create ")), &asked) != nil ||
			!strings.HasSuffix(asked.Message, "\n\n"+c.shown) {
			t.Errorf("%.60q: asked %q, want %q", c.query, p.asked, c.shown)
		}
	}
}

func TestWriteDataIsThereOnlyForWriting(t *testing.T) {
	for mode, want := range map[string]bool{"": false, ReadOnly: false, Write: true} {
		s := serve(t, Database{DSN: "x.db", Mode: mode})
		if _, got := s.tools.tools["write_data"]; got != want {
			t.Errorf("mode %q: write_data is there: %t", mode, got)
		}
	}
	s := serveLedger(t, &ledger{}, Options{Databases: []Database{{Name: "a", DSN: "x.db", Mode: Write}, {Name: "b", DSN: "x.db"}}})
	wantCode(t, call(t, s, "write_data", object{"database": "b", "query": "DELETE FROM t"}), engine.InvalidArgument)
}

func TestWriteOptionsReachTheEngine(t *testing.T) {
	no := false
	l := &ledger{rows: 6, class: "update"}
	s := serveLedger(t, l, Options{Databases: []Database{{DSN: "x.db", Mode: Write, RequireWhere: &no, AllowDDL: true, MaxAffected: 5}}})
	wantCode(t, call(t, s, "write_data", object{"query": "UPDATE t SET x = 1"}), engine.AffectedLimit)
	l.rows = 5
	if call(t, s, "write_data", object{"query": "UPDATE t SET x = 1"}).written(t); l.ran[0] != "UPDATE t SET x = 1 [] commit=false where=false ddl=true" {
		t.Errorf("ran %q", l.ran)
	}
}
