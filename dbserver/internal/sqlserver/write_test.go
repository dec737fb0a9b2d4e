package sqlserver

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	mssql "github.com/microsoft/go-mssqldb"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

func writing() engine.Options {
	o := options()
	o.Write = true
	return o
}

func affects(n int64) func(string, []driver.NamedValue) (*rows, error) {
	return func(string, []driver.NamedValue) (*rows, error) { return &rows{affected: n}, nil }
}

func TestAPreviewIsRolledBackAndACommitKept(t *testing.T) {
	for commit, last := range map[bool]string{false: "IF @@TRANCOUNT > 0 ROLLBACK TRANSACTION", true: "COMMIT TRANSACTION"} {
		f := &fake{run: affects(3), plan: func(string) (string, error) { return document("update"), nil }}
		d := f.start(t, writing())
		got, err := d.Write(t.Context(), who, engine.Statement{SQL: "UPDATE users SET name = @p1 WHERE id = 1;", Params: []any{"Eve"}}, engine.Write{Commit: commit, MaxRows: 3}, newWriter())
		if err != nil || got != (engine.Written{Class: "update", Affected: 3}) {
			t.Errorf("got %+v, %v", got, err)
		}
		same(t, "sent", f.sent()[1:], []string{
			"SET SHOWPLAN_XML ON",
			"DECLARE @p1 nvarchar(4000); UPDATE users SET name = @p1 WHERE id = 1",
			"SET SHOWPLAN_XML OFF",
			"SET TEXTSIZE 1000000 SET ROWCOUNT 0",
			"BEGIN TRANSACTION",
			"sp_executesql | =UPDATE users SET name = @p1 WHERE id = 1 | =@p1 nvarchar(4000) | p1=Eve",
			last,
		})
	}
	f := &fake{}
	if _, err := f.start(t, options()).Write(t.Context(), who, engine.Statement{SQL: "DELETE FROM users"}, engine.Write{}, newWriter()); code(err) != engine.ReadOnly {
		t.Errorf("got %v", err)
	}
}

func TestMoreRowsThanAllowedAreRolledBack(t *testing.T) {
	f := &fake{run: affects(4), plan: func(string) (string, error) { return document("delete"), nil }}
	d := f.start(t, writing())
	_, err := d.Write(t.Context(), who, engine.Statement{SQL: "DELETE FROM users"}, engine.Write{Commit: true, MaxRows: 3}, newWriter())
	if sent := f.sent(); code(err) != engine.AffectedLimit || sent[len(sent)-1] != "IF @@TRANCOUNT > 0 ROLLBACK TRANSACTION" {
		t.Errorf("got %v, sent %q", err, sent)
	}
	// With OUTPUT the rows are counted, and no more are read than tell.
	f.run = func(string, []driver.NamedValue) (*rows, error) {
		return &rows{names: []string{"id"}, data: [][]driver.Value{{int64(1)}}, endless: true}, nil
	}
	got, err := d.Write(t.Context(), who, engine.Statement{SQL: "DELETE FROM users OUTPUT deleted.id"}, engine.Write{Commit: true, MaxRows: 3}, newWriter())
	if sent := f.sent(); code(err) != engine.AffectedLimit || got.Affected != 4 || sent[len(sent)-2] != "(attention)" || sent[len(sent)-1] != "IF @@TRANCOUNT > 0 ROLLBACK TRANSACTION" {
		t.Errorf("got %+v, %v, sent %q", got, err, sent)
	}
}

// TestRowsOfOutputAreReadToTheEnd: an attention would undo the statement.
func TestRowsOfOutputAreReadToTheEnd(t *testing.T) {
	f := &fake{plan: func(string) (string, error) { return document("delete"), nil }}
	f.run = func(string, []driver.NamedValue) (*rows, error) {
		r := &rows{names: []string{"id"}}
		for i := range 250 {
			r.data = append(r.data, []driver.Value{int64(i)})
		}
		return r, nil
	}
	d := f.start(t, writing())
	out := newWriter()
	got, err := d.Write(t.Context(), who, engine.Statement{SQL: "DELETE FROM users OUTPUT deleted.id"}, engine.Write{Commit: true}, out)
	if sent := f.sent(); err != nil || got.Affected != 250 || out.Page().Count != 100 || sent[len(sent)-1] != "COMMIT TRANSACTION" || sent[len(sent)-2] == "(attention)" {
		t.Errorf("got %+v, %v, %d rows, sent %q", got, err, out.Page().Count, sent)
	}
	f.run = affects(7)
	if got, err := d.Write(t.Context(), who, engine.Statement{SQL: "DELETE FROM users OUTPUT deleted.id INTO gone"}, engine.Write{Commit: true}, newWriter()); err != nil || got.Affected != 7 {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := d.Write(t.Context(), who, engine.Statement{SQL: "DELETE FROM users WHERE output = 1"}, engine.Write{Commit: true}, newWriter()); code(err) != engine.InvalidArgument {
		t.Errorf("got %v", err)
	}
	if sent := f.sent(); sent[len(sent)-1] != "IF @@TRANCOUNT > 0 ROLLBACK TRANSACTION" {
		t.Errorf("sent %q", sent)
	}
}

func TestWordsOfWrites(t *testing.T) {
	all := engine.Write{DDL: true}
	where := engine.Write{RequireWhere: true}
	for _, c := range []struct {
		sql   string
		w     engine.Write
		class string // empty where it is refused
	}{
		{"INSERT INTO users (name) VALUES ('x')", engine.Write{}, "insert"},
		{"INSERT users SELECT name FROM old", engine.Write{}, "insert"},
		{"UPDATE users SET name = 'x', [a b] += 1 WHERE id = 1", where, "update"},
		{"UPDATE u SET u.name = 'x' FROM users u", engine.Write{}, "update"},
		{"UPDATE users SET doc.WRITE('x', 0, 1) WHERE id = 1", where, "update"},
		{"UPDATE users SET name = 'x'", where, ""},
		{"UPDATE users SET name = (SELECT TOP 1 name FROM old WHERE 1 = 1)", where, ""},
		{"DELETE FROM users", where, ""},
		{"DELETE FROM users WHERE id = 1", where, "delete"},
		{"WITH x AS (SELECT * FROM users WHERE id = 1) DELETE FROM x", where, ""},
		{"WITH x AS (SELECT * FROM users) UPDATE x SET name = 'x' WHERE id = 1", where, "update"},
		{"MERGE users USING new ON users.id = new.id WHEN MATCHED THEN UPDATE SET name = new.name WHEN NOT MATCHED THEN INSERT (name) VALUES (new.name)", where, "merge"},
		{"SELECT 1", all, ""}, {"WITH x AS (SELECT 1 AS a) SELECT * FROM x", all, ""},
		{"EXEC wipe", all, ""}, {"DELETE FROM users EXEC wipe", all, ""}, {"INSERT INTO users EXEC wipe", all, ""},
		{"INSERT INTO users SELECT * FROM OPENQUERY(far, 'x')", all, ""}, {"DELETE FROM users COMMIT", all, ""},
		{"UPDATE users SET name = 'x' SET XACT_ABORT OFF", all, ""}, {"DELETE FROM users SET ROWCOUNT 0", all, ""}, {"DELETE FROM users SET", all, ""},
		{"SET ROWCOUNT 0", all, ""}, {"USE master", all, ""}, {"BACKUP DATABASE x TO DISK = 'y'", all, ""}, {"DELETE FROM users DROP TABLE orders", all, ""},
		{"DELETE FROM secrets", all, ""}, {"DELETE FROM xp_x", all, "delete"}, {"GRANT SELECT TO public", all, ""},
		{"CREATE TABLE x (a int)", engine.Write{}, ""}, {"CREATE TABLE x (a int)", all, "ddl"}, {"CREATE UNIQUE NONCLUSTERED INDEX i ON users (name)", all, "ddl"},
		{"ALTER TABLE users ADD x int", all, "ddl"}, {"DROP VIEW names", all, "ddl"}, {"CREATE OR ALTER VIEW v AS SELECT 1 AS a", all, "ddl"}, {"TRUNCATE TABLE users", all, "ddl"},
		{"CREATE PROCEDURE p AS SELECT 1", all, ""}, {"CREATE TRIGGER t ON users AFTER INSERT AS SELECT 1", all, ""}, {"CREATE LOGIN x WITH PASSWORD = 'x'", all, ""},
		{"ALTER DATABASE shop SET READ_WRITE", all, ""}, {"CREATE FUNCTION f() RETURNS int AS BEGIN RETURN 1 END", all, ""}, {"DROP DATABASE shop", all, ""},
		{"ALTER ROLE db_owner ADD MEMBER x", all, ""}, {"DISABLE TRIGGER ALL ON users", all, ""},
	} {
		stmt, err := scan(c.sql, 0)
		if err != nil {
			t.Fatal(err)
		}
		class, err := stmt.writes(&engine.Policy{DenyTables: []string{"secrets"}}, c.w)
		if (err == nil) != (c.class != "") || err == nil && class != c.class {
			t.Errorf("%s: got %s, %v", c.sql, class, err)
		}
	}
	stmt, err := scan("CREATE TABLE other.x (a int)", 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stmt.writes(&engine.Policy{Schemas: []string{"dbo"}}, all); err == nil {
		t.Error("the schema was changed where only some schemas may be read")
	}
	// These would take columns from their masks.
	for _, sql := range []string{"ALTER SCHEMA other TRANSFER dbo.users", "CREATE VIEW v AS SELECT email AS e FROM users", "ALTER TABLE users ADD e AS email", "CREATE TABLE x (a int)"} {
		stmt, err := scan(sql, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stmt.writes(&engine.Policy{Masks: []engine.Mask{{Columns: []string{"users.email"}, With: engine.WithNull}}}, all); code(err) != engine.AccessDenied {
			t.Errorf("%s: got %v", sql, err)
		}
	}
}

func TestPlansOfWritesAreOfTheirClass(t *testing.T) {
	for _, c := range []struct {
		sql, plan, want string
	}{
		{"INSERT INTO users (name) VALUES (1)", "insert", ""},
		{"DELETE FROM users", "delete", ""},
		{"MERGE users USING new ON 1 = 0 WHEN NOT MATCHED THEN INSERT (name) VALUES (1)", "merge", ""},
		{"CREATE TABLE x (a int)", "create-table", ""},
		{"DELETE FROM users", "update", engine.AccessDenied},
		{"DELETE FROM users", "select", engine.AccessDenied},
		{"DELETE FROM users", "bad-select-and-delete", engine.MultiStatement},
		{"DELETE FROM users", "bad-if", engine.AccessDenied},
		{"DELETE FROM users", "bad-remote-query", engine.AccessDenied},
		{"CREATE TABLE x (a int)", "bad-two-selects", engine.MultiStatement},
	} {
		f := &fake{run: affects(1), plan: func(string) (string, error) { return document(c.plan), nil }}
		d := f.start(t, writing())
		_, err := d.Write(t.Context(), who, engine.Statement{SQL: c.sql}, engine.Write{DDL: true}, newWriter())
		if code(err) != c.want {
			t.Errorf("%s with plan %s: got %v, want %s", c.sql, c.plan, err, c.want)
		}
		sent := f.sent()
		if c.plan == "merge" {
			same(t, "MERGE has to end with a semicolon", sent[6:7], []string{"sp_executesql | =" + c.sql + ";"})
		}
		if c.want != "" && len(sent) != 4 {
			t.Errorf("%s with plan %s: sent %q", c.sql, c.plan, sent)
		}
	}
	o := writing()
	o.Policy = engine.Policy{Masks: []engine.Mask{{Columns: []string{"email"}, With: engine.WithNull}}}
	f := &fake{run: affects(1), plan: func(string) (string, error) { return document("delete"), nil }}
	f.plan = func(string) (string, error) {
		return `<ShowPlanXML><BatchSequence><Batch><Statements><StmtSimple StatementType="DELETE"><QueryPlan><RelOp><IndexScan>` +
			`<ColumnReference Schema="[dbo]" Table="[users]" Column="email"/></IndexScan></RelOp></QueryPlan></StmtSimple></Statements></Batch></BatchSequence></ShowPlanXML>`, nil
	}
	if _, err := f.start(t, o).Write(t.Context(), who, engine.Statement{SQL: "DELETE FROM users WHERE email = 'x'"}, engine.Write{}, newWriter()); code(err) != engine.ColumnMasked {
		t.Errorf("got %v", err)
	}
}

func TestWhatACommitCameToIsNotGuessed(t *testing.T) {
	for _, c := range []struct {
		err  error
		dead bool
		want string
	}{
		{mssql.Error{Number: 3998, Class: 16, Message: "Uncommittable transaction is detected at the end of the batch."}, false, engine.EngineError},
		{errors.New("read tcp: connection reset by peer"), true, engine.Unreachable},
	} {
		f := &fake{run: affects(1), plan: func(string) (string, error) { return document("delete"), nil }}
		d := f.start(t, writing())
		f.refuse = func(text string) error {
			if text == "COMMIT TRANSACTION" {
				f.conns[0].bad = c.dead
				return c.err
			}
			return nil
		}
		_, err := d.Write(t.Context(), who, engine.Statement{SQL: "DELETE FROM users"}, engine.Write{Commit: true}, newWriter())
		if code(err) != c.want || f.conns[0].closed != c.dead {
			t.Errorf("got %v, closed %t", err, f.conns[0].closed)
		}
	}
}

// TestATimeThatIsOverIsNotCommitted: the caller has been told that it failed.
func TestATimeThatIsOverIsNotCommitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{plan: func(string) (string, error) { return document("delete"), nil }}
		ctx, cancel := context.WithCancelCause(t.Context())
		gone := fmt.Errorf("gone")
		f.run = func(string, []driver.NamedValue) (*rows, error) {
			cancel(gone) // as the last row comes
			return &rows{affected: 1}, nil
		}
		d := f.start(t, writing())
		_, err := d.Write(ctx, who, engine.Statement{SQL: "DELETE FROM users"}, engine.Write{Commit: true}, newWriter())
		sent := f.sent()
		if err != gone || sent[len(sent)-1] != "IF @@TRANCOUNT > 0 ROLLBACK TRANSACTION" {
			t.Errorf("got %v, sent %q", err, sent)
		}
		time.Sleep(time.Second)
		_ = d.Close() // in the bubble
	})
}
