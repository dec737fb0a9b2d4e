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
	if err := change.permitted(w); err != nil {
		return written, err
	}
	r.planOf = r.sql
	if change.ddl {
		r.planOf = "" // there is none
	}
	err = d.run(ctx, d.writes, who, s.Timeout, func(ctx context.Context, t *tx) error {
		written, err = r.write1(ctx, d, t, change, w, out)
		return err
	})
	return written, err
}

// write1 runs a statement in its transaction.
func (r *reading) write1(ctx context.Context, d *Database, t *tx, c *change, w engine.Write, out *result.Writer) (engine.Written, error) {
	written := engine.Written{Class: "ddl"}
	if c.ddl && d.options.Policy.Restricts() {
		if err := d.judgeDDL(t, r); err != nil {
			return written, err
		}
	}
	if _, err := r.permit(d, t); err != nil {
		return written, err
	}
	t.send(query{r.sql, r.params})
	if err := r.answered(d, t); err != nil {
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
			return written, engine.Invalid("the statement changes nothing: read_data runs statements that read")
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
	return written, commit(t)
}

// commit keeps what the transaction did.
func commit(t *tx) error {
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
	return &engine.Error{Code: engine.Unreachable, Layer: engine.LayerPool,
		Message: "the connection was lost while the change was being kept: it may have been kept or not",
		Next:    "read whether the change is there before you try again"}
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
	without string // UPDATE or DELETE, if it has no WHERE
}

// changeOf reads the words of a statement. The server says what it did; this
// says what must not even be tried.
func changeOf(sql string) (*change, error) {
	words := wordsOf(sql)
	c := &change{}
	switch first := dialect.Keyword(sql); first {
	case "INSERT", "UPDATE", "DELETE", "MERGE", "WITH":
		return c, c.readDML(words)
	case "TRUNCATE":
		c.ddl = true
		return c, nil
	case "CREATE", "ALTER", "DROP", "COMMENT", "REFRESH":
		c.ddl = true
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
		return nil, engine.Invalid("the statement changes nothing: read_data runs statements that read")
	default:
		return nil, notTaken(first)
	}
}

func notTaken(what string) *engine.Error {
	return &engine.Error{Code: engine.AccessDenied, Layer: engine.LayerGuard, Message: fmt.Sprintf("%s is not taken here", strings.TrimSpace(what)),
		Next: "send one INSERT, UPDATE, DELETE or MERGE, or, where that is allowed, a statement that changes tables, views, indexes, types or schemas"}
}

// readDML looks for the conditions of a statement that changes rows, and refuses
// one with another inside, whose rows nobody would count.
func (c *change) readDML(words []word) error {
	for i, w := range words {
		verb := changes[w.text]
		switch {
		case !verb && w.text != "WHERE":
			continue
		case verb && w.opens && w.depth > 0:
			return &engine.Error{Code: engine.AccessDenied, Layer: engine.LayerGuard, Message: fmt.Sprintf("%s inside of WITH is not taken: its rows are not counted", w.text),
				Next: "send it alone"}
		case w.depth > 0:
			continue
		case w.text == "WHERE":
			c.without = ""
		case w.text == "UPDATE" || w.text == "DELETE":
			// Behind these words it is a part of another statement.
			if i == 0 || !slices.Contains([]string{"DO", "THEN", "FOR", "KEY", "ON"}, words[i-1].text) {
				c.without = w.text
			}
		}
	}
	return nil
}

// permitted refuses what a caller may not do.
func (c *change) permitted(w engine.Write) error {
	switch {
	case c.ddl && !w.DDL:
		return &engine.Error{Code: engine.AccessDenied, Layer: engine.LayerPolicy, Message: "statements that change the schema are not allowed",
			Next: "change rows only; whoever runs the server may allow others"}
	case c.without != "" && w.RequireWhere:
		return &engine.Error{Code: engine.AccessDenied, Layer: engine.LayerPolicy, Message: c.without + " without WHERE is not allowed",
			Next: "say with WHERE which rows are meant"}
	}
	return nil
}

// A word is one outside of quotes and comments.
type word struct {
	text  string // in upper case
	depth int    // of the parentheses around it
	opens bool   // it is the first thing behind an opening one
}

func wordsOf(sql string) []word {
	var words []word
	depth, opens := 0, false
	for i := 0; i < len(sql); {
		kind, next := dialect.Next(sql, i)
		token := sql[i:next]
		i = next
		switch {
		case kind == sqltext.Space || kind == sqltext.Comment:
			continue
		case kind == sqltext.Word:
			words = append(words, word{strings.ToUpper(token), depth, opens})
		case token == "(":
			depth++
			opens = true
			continue
		case token == ")":
			depth--
		}
		opens = false
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
	for _, w := range wordsOf(r.sql) {
		if w.text == "SELECT" || w.text == "EXECUTE" {
			return notTaken(w.text + " in a statement that changes the schema")
		}
	}
	return nil
}
