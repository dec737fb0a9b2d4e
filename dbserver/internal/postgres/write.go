package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
	"github.com/mcpool-dev/mcpool/dbserver/internal/sqltext"
)

// Write runs a statement that writes, and rolls it back unless it is to be kept.
// Rows that triggers and foreign keys change besides are not counted.
func (d *Database) Write(ctx context.Context, who engine.Caller, s engine.Statement, w engine.Write, out *result.Writer) (engine.Written, error) {
	var written engine.Written
	if d.writes == nil {
		return written, readOnly("the database is read-only")
	}
	r, err := d.taken(s, true)
	if err != nil {
		return written, err
	}
	change, err := changeOf(r.sql)
	if err != nil {
		return written, err
	}
	if change.ddl && !w.DDL {
		return written, &engine.Error{Code: engine.AccessDenied, Layer: engine.LayerPolicy, Message: "statements that change the schema are not allowed",
			Next: "change rows only; whoever runs the server may allow others"}
	}
	r.planOf = r.sql
	if change.ddl {
		r.planOf = "" // there is none
	}
	err = d.run(ctx, d.writes, who, s.Timeout, func(ctx context.Context, t *tx) error {
		written, err = r.write1(ctx, d, t, change, w, out)
		return err
	})
	if change.unknown != nil { // which nobody may take for an end in time
		return written, change.unknown
	}
	return written, err
}

// write1 runs a statement in its transaction.
func (r *reading) write1(ctx context.Context, d *Database, t *tx, c *change, w engine.Write, out *result.Writer) (engine.Written, error) {
	written := engine.Written{Class: "ddl"}
	if err := r.mayWrite(d, t, c, w); err != nil {
		return written, err
	}
	t.send(query{r.sql, r.params})
	if err := t.flush(); err != nil {
		return written, err
	}
	answer, err := t.next()
	if err != nil {
		return written, &statementError{err, r.sql, 0}
	}
	rows := &rows{d: d, out: out, all: true}
	if err := rows.read(ctx, answer); err != nil {
		return written, &statementError{err, r.sql, 0}
	}
	if !c.ddl {
		tag := pgconn.NewCommandTag(rows.tag)
		verb, _, _ := strings.Cut(rows.tag, " ")
		if written.Class = strings.ToLower(verb); !changes[verb] {
			return written, changesNothing()
		}
		if written.Affected = tag.RowsAffected(); w.MaxRows > 0 && written.Affected > w.MaxRows {
			return written, &engine.Error{Code: engine.AffectedLimit, Layer: engine.LayerPolicy,
				Message: fmt.Sprintf("the statement affects %d rows and may affect %d; nothing was changed", written.Affected, w.MaxRows),
				Next:    "narrow the WHERE clause, or do it in parts"}
		}
	}
	// What is checked at the end only would not be seen in a preview.
	if err := t.rows(query{sql: "SET CONSTRAINTS ALL IMMEDIATE"}, nil); err != nil || !w.Commit {
		return written, err
	}
	return written, c.commit(t)
}

// mayWrite looks at what a statement would do before it runs.
func (r *reading) mayWrite(d *Database, t *tx, c *change, w engine.Write) error {
	if !c.ddl {
		explain := steps
		if d.options.Policy.Restricts() {
			explain = planned
		}
		top, _, err := d.planBy(t, r, explain)
		if err != nil {
			return err
		}
		return c.permitted(top, w)
	}
	if d.options.Policy.Restricts() {
		if err := d.judgeDDL(t, r); err != nil {
			return err
		}
	}
	if !r.calls.any() {
		return nil
	}
	return r.calls.refusal(t.rows(r.calls.query(), nil))
}

// commit keeps what the transaction did.
func (c *change) commit(t *tx) error {
	t.send(query{sql: "COMMIT"})
	err := t.flush()
	var tag string
	if err == nil {
		var a *answer
		if a, err = t.next(); err == nil {
			tag, err = a.close()
		}
	}
	var pg *pgconn.PgError
	switch {
	case err == nil && tag == "COMMIT":
		return nil
	case err == nil:
		return &engine.Error{Code: engine.EngineError, Layer: engine.LayerEngine, Message: "the database has taken the change back",
			Next: "read whether it is there, and try again"}
	case errors.As(err, &pg) && pg.Severity != "FATAL":
		return err
	}
	c.unknown = &engine.Error{Code: engine.Unreachable, Layer: engine.LayerPool,
		Message: "the database did not answer while the change was being kept: it may have been kept or not",
		Next:    "read whether the change is there before you try again"}
	return c.unknown
}

// changes are the command tags of statements that change rows.
var changes = map[string]bool{"INSERT": true, "UPDATE": true, "DELETE": true, "MERGE": true}

// schemaChanges are the kinds of objects that statements which change the schema
// may name. Roles, functions, triggers, extensions, servers and the like are not
// among them: what these do is not seen in the statement.
var schemaChanges = map[string]bool{"TABLE": true, "INDEX": true, "VIEW": true, "MATERIALIZED": true, "SEQUENCE": true, "TYPE": true,
	"DOMAIN": true, "SCHEMA": true, "COLUMN": true, "CONSTRAINT": true, "STATISTICS": true}

// A change is what the words of a statement that writes say.
type change struct {
	ddl     bool
	where   bool  // it has conditions of its own
	unknown error // set if nobody knows whether it was kept
}

// rights are words of statements that give rights away or take them, or have
// something run later, wherever in a statement they stand: CREATE SCHEMA holds
// other statements, and ALTER TABLE knows a lot.
var rights = []string{"GRANT", "REVOKE", "OWNER", "AUTHORIZATION", "SECURITY", "POLICY", "TRIGGER", "RULE", "FUNCTION", "PROCEDURE", "ROUTINE"}

// changeOf reads the words of a statement. The plan and the server say what it
// does; this says what must not even be tried.
func changeOf(sql string) (*change, error) {
	words := wordsOf(sql)
	c := &change{}
	switch first := dialect.Keyword(sql); first {
	case "INSERT", "UPDATE", "DELETE", "MERGE", "WITH":
		// Inside of parentheses it is that of another query, and behind AS or a dot
		// a name.
		c.where = slices.ContainsFunc(words, func(w word) bool { return w.text == "WHERE" && w.depth == 0 && !w.name })
		return c, nil
	case "TRUNCATE":
		c.ddl = true
		return c, nil
	case "CREATE", "ALTER", "DROP", "COMMENT", "REFRESH":
		c.ddl = true
		for _, w := range words {
			if w.depth == 0 && !w.name && slices.Contains(rights, w.text) {
				return nil, notTaken(w.text + " in a statement that changes the schema")
			}
		}
		for _, w := range words[1:] {
			switch w.text {
			case "OR", "REPLACE", "ON", "UNIQUE", "UNLOGGED":
				continue
			}
			if schemaChanges[w.text] {
				return c, nil
			}
			return nil, notTaken(first + " " + w.text)
		}
		return nil, notTaken(first)
	case "SELECT", "VALUES", "TABLE", "SHOW", "EXPLAIN":
		return nil, changesNothing()
	default:
		return nil, notTaken(first)
	}
}

func notTaken(what string) *engine.Error {
	return &engine.Error{Code: engine.AccessDenied, Layer: engine.LayerGuard, Message: fmt.Sprintf("%s is not taken here", strings.TrimSpace(what)),
		Next: "send one INSERT, UPDATE, DELETE or MERGE, or, where that is allowed, a statement that changes tables, views, indexes, types or schemas; " +
			"names are told from such words by quotes"}
}

func changesNothing() *engine.Error {
	return engine.Invalid("the statement changes nothing: read_data runs statements that read")
}

// permitted refuses what the plan of a statement shows that it may not do: to
// change rows in several places, of which only those of one would be counted,
// and all rows of a table. The words alone do not tell where a statement begins:
// WITH a AS (...) CYCLE n SET c USING key UPDATE ... is one.
func (c *change) permitted(top *node, w engine.Write) error {
	var changing []*node
	top.walk(func(n *node) {
		if n.Type == "ModifyTable" {
			changing = append(changing, n)
		}
	})
	switch {
	case len(changing) == 0:
		return changesNothing()
	case len(changing) > 1 || changing[0] != top:
		return &engine.Error{Code: engine.AccessDenied, Layer: engine.LayerGuard, Message: "a statement that changes rows inside of WITH is not taken: they are not counted",
			Next: "send it alone"}
	}
	if verb := strings.ToUpper(top.member("Operation")); w.RequireWhere && !c.where && (verb == "UPDATE" || verb == "DELETE") {
		return &engine.Error{Code: engine.AccessDenied, Layer: engine.LayerPolicy, Message: verb + " without WHERE is not allowed",
			Next: "say with WHERE which rows are meant"}
	}
	return nil
}

// A word is one outside of quotes and comments.
type word struct {
	text  string // in upper case
	depth int    // of the parentheses around it
	name  bool   // it stands behind AS or a dot, where any word is a name
}

func wordsOf(sql string) []word {
	var words []word
	depth, name := 0, false
	for i := 0; i < len(sql); {
		kind, next := dialect.Next(sql, i)
		token := strings.ToUpper(sql[i:next])
		i = next
		switch {
		case kind == sqltext.Space || kind == sqltext.Comment:
			continue
		case kind == sqltext.Word:
			words = append(words, word{token, depth, name})
		case token == "(":
			depth++
		case token == ")":
			depth--
		}
		name = token == "." || token == "AS" && !name
	}
	return words
}

// judgeDDL refuses changes of the schema that would get around a policy: they
// have no plan that could be looked at.
func (d *Database) judgeDDL(t *tx, r *reading) error {
	p := &d.options.Policy
	j := &judge{policy: p, relations: map[engine.Name]*relation{}}
	if err := j.load(t, r, &node{}); err != nil {
		return err
	}
	for _, rel := range j.relations {
		if !rel.readable(p) || rel.masked(p) {
			return &engine.Error{Code: engine.AccessDenied, Layer: engine.LayerPolicy,
				Message: fmt.Sprintf("the schema of %s may not be changed or used", rel.name), Next: "leave it out"}
		}
	}
	words := wordsOf(r.sql)
	for i, w := range words {
		// TABLE is a query, too, but where it says what is changed. Names by which
		// tables are hidden change with their schema, and a domain's conditions tell
		// of the values of all columns of it.
		query := w.text == "SELECT" || w.text == "EXECUTE" || w.text == "TABLE" && i > 2
		if query || i == 1 && words[0].text != "CREATE" && (w.text == "SCHEMA" || w.text == "DOMAIN") {
			return notTaken(w.text + " in a statement that changes the schema")
		}
	}
	return nil
}
