package sqlserver

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
	"github.com/mcpool-dev/mcpool/dbserver/internal/sqltext"
)

// Classes of statements that write.
const (
	classInsert = "insert"
	classUpdate = "update"
	classDelete = "delete"
	classMerge  = "merge"
	classDDL    = "ddl"
	classOther  = "other"
)

// classes are those of statements by the type that the server gives them.
var classes = map[string]string{"INSERT": classInsert, "UPDATE": classUpdate, "DELETE": classDelete, "MERGE": classMerge}

// created are the things that a statement may create, alter or drop: those that
// run nothing by themselves and are undone by a rollback.
var created = wordSet("TABLE INDEX VIEW SCHEMA SEQUENCE SYNONYM TYPE STATISTICS")

// Write runs a statement that may write. The preview of one runs it, and rolls
// it back; numbers drawn from sequences and identity columns stay drawn.
func (d *Database) Write(ctx context.Context, who engine.Caller, s engine.Statement, w engine.Write, out *result.Writer) (engine.Written, error) {
	written := engine.Written{Class: classOther}
	if d.write == nil {
		return written, &engine.Error{Code: engine.ReadOnly, Layer: engine.LayerPolicy,
			Message: "the database is opened for reading", Next: "read"}
	}
	bound, err := bind(s.Params)
	if err != nil {
		return written, err
	}
	stmt, err := scan(s.SQL, len(bound))
	if err != nil {
		return written, err
	}
	if written.Class, err = stmt.writes(&d.options.Policy, w); err != nil {
		return written, err
	}
	err = d.use(ctx, d.write, who, s.Timeout, func(ctx context.Context, q *session) error {
		p, err := q.plan(ctx, stmt.sql+stmt.ending(), bound)
		if err != nil {
			return d.explainStatement(ctx, q, stmt, err)
		}
		if err := p.writes(written.Class); err != nil {
			return err
		}
		// What may not be read may not be found out by writing either.
		if err := p.obeys(&d.options.Policy, q.facts.database); err != nil {
			return err
		}
		return q.within(ctx, false, 0, func() (bool, error) {
			written.Affected, err = q.change(ctx, stmt, bound, w.MaxRows, out)
			if err != nil {
				return false, err
			}
			if w.MaxRows > 0 && written.Affected > w.MaxRows {
				return false, &engine.Error{Code: engine.AffectedLimit, Layer: engine.LayerPolicy,
					Message: fmt.Sprintf("the statement affects %d rows or more, at most %d are allowed; nothing was changed", written.Affected, w.MaxRows),
					Next:    "change fewer rows at a time"}
			}
			return w.Commit, nil
		})
	})
	return written, err
}

// ending is what a statement has to end with: MERGE wants a semicolon.
func (s *statement) ending() string {
	if slices.ContainsFunc(s.tokens, func(t token) bool { return t.word == "MERGE" }) {
		return ";"
	}
	return ""
}

// writes returns the class of a statement, or refuses it.
func (s *statement) writes(policy *engine.Policy, w engine.Write) (class string, err error) {
	first := sqltext.SQLServer.Keyword(s.sql)
	switch first {
	case "INSERT", "UPDATE", "DELETE", "MERGE", "WITH":
		class = s.verb()
	case "CREATE", "ALTER", "DROP", "TRUNCATE":
		class = classDDL
	}
	refuse := func(why string) error {
		return &engine.Error{Code: engine.AccessDenied, Layer: engine.LayerPolicy, Message: why,
			Next: "send one INSERT, UPDATE, DELETE or MERGE; reading is for read_data"}
	}
	if class == "" {
		return classOther, refuse(fmt.Sprintf("the statement begins with %s", s.beginning(first)))
	}
	if class == classDDL && !w.DDL {
		return class, refuse("statements that change the schema are not allowed here")
	}
	if class == classDDL && len(policy.Schemas) > 0 {
		return class, refuse("where only some schemas may be read, the schema cannot be changed")
	}
	if class == classDDL && policy.Masking() { // its plan does not say which columns get which names
		return class, refuse("where columns are masked, the schema cannot be changed")
	}
	if class == classDDL && !s.creates() {
		return class, refuse("of the schema, tables, indexes, views, schemas, sequences, synonyms, types and statistics can be changed")
	}
	for i, t := range s.tokens {
		switch {
		case forbiddenWriting[t.word]:
			return class, refuse(fmt.Sprintf("the statement has the word %s", t.text))
		case t.word == "SET" && !s.assigns(i):
			return class, refuse("SET changes how the connection works")
		case class != classDDL && (t.word == "CREATE" || t.word == "ALTER" || t.word == "DROP" || t.word == "TRUNCATE"):
			return class, refuse(fmt.Sprintf("the statement has the word %s", t.text))
		}
	}
	if w.RequireWhere && (class == classUpdate || class == classDelete) && !s.has("WHERE") {
		return class, refuse(class + " without WHERE is not allowed here")
	}
	return class, s.names(policy)
}

// verb returns the class by the first word outside of parentheses that has one.
func (s *statement) verb() string {
	for _, t := range s.tokens {
		if class := classes[t.word]; class != "" && t.depth == 0 {
			return class
		}
	}
	return ""
}

// has reports whether a word stands outside of parentheses.
func (s *statement) has(word string) bool {
	return slices.ContainsFunc(s.tokens, func(t token) bool { return t.word == word && t.depth == 0 })
}

// creates reports whether the first words of a statement name something that
// may be created, altered or dropped.
func (s *statement) creates() bool {
	for _, t := range s.tokens[1:min(len(s.tokens), 6)] {
		switch {
		case created[t.word]:
			return true
		case t.word == "UNIQUE" || t.word == "CLUSTERED" || t.word == "NONCLUSTERED" || t.word == "COLUMNSTORE" || t.word == "OR" || t.word == "ALTER":
		default:
			return false
		}
	}
	return false
}

// assigns reports whether a SET is that of UPDATE or MERGE: a name, and an
// assignment or a method's call behind it.
func (s *statement) assigns(i int) bool {
	for i++; i < len(s.tokens); i++ {
		switch t := s.tokens[i]; {
		case t.kind == sqltext.Quoted || t.kind == sqltext.Word && (s.tokens[i-1].text == "." || s.tokens[i-1].word == "SET"):
		case t.text == ".":
		case t.kind == sqltext.Other:
			return len(t.text) == 1 && slices.Contains([]byte("=+-*/%&^|("), t.text[0])
		default:
			return false
		}
	}
	return false
}

// writes refuses a plan that is not of one statement of the class.
func (p *plan) writes(class string) error {
	refuse := func(why string) error {
		return &engine.Error{Code: engine.AccessDenied, Layer: engine.LayerGuard, Message: why, Next: "send one INSERT, UPDATE, DELETE or MERGE"}
	}
	if len(p.statements) != 1 {
		return &engine.Error{Code: engine.MultiStatement, Layer: engine.LayerGuard,
			Message: fmt.Sprintf("the text has %d statements", len(p.statements)), Next: "send one statement a call"}
	}
	switch s := p.statements[0]; {
	case s.element != "StmtSimple":
		return refuse("the statement is not a simple one")
	case class != classDDL && classes[s.kind] != class:
		return refuse(fmt.Sprintf("the statement is of type %q", s.kind))
	case p.strange != "":
		return refuse("its plan has " + p.strange)
	}
	return nil
}

// change runs a statement and returns how many rows it affected, those that
// triggers counted among them. One with an OUTPUT clause returns a row for each,
// all of which are read, for an end before the last would undo the statement,
// but no more than tell that they are over most.
func (q *session) change(ctx context.Context, stmt *statement, bound params, most int64, out *result.Writer) (int64, error) {
	call := bound.call(stmt.sql + stmt.ending())
	if !stmt.returns() {
		return q.affect(ctx, "sp_executesql", call...)
	}
	rows, err := q.query(ctx, "sp_executesql", call...)
	if err != nil {
		return 0, err
	}
	columns, types := columnsOf(rows)
	if len(columns) == 0 {
		return 0, errors.Join(&engine.Error{Code: engine.InvalidArgument, Layer: engine.LayerGuard,
			Message: "the statement has the word OUTPUT and returns no rows, so how many it affects cannot be told",
			Next:    "put names that are words of SQL in brackets"}, rows.Close())
	}
	out.SetColumns(columns)
	row := make([]driver.Value, len(columns))
	affected := int64(0)
	for most <= 0 || affected <= most {
		if err = rows.Next(row); err != nil {
			break
		}
		affected++
		if out.Wants() {
			add(out, row, types)
		}
	}
	closeErr := rows.Close()
	switch {
	case err == nil: // over most: all of it is undone
		return affected, nil
	case errors.Is(err, io.EOF):
		return affected, closeErr
	}
	return affected, err
}

// returns reports whether a statement has an OUTPUT clause whose rows go to
// whoever sent it.
func (s *statement) returns() bool {
	clauses := 0
	for _, t := range s.tokens {
		switch {
		case t.depth > 0:
		case t.word == "OUTPUT":
			clauses++
		case t.word == "INTO" && clauses > 0:
			clauses--
		}
	}
	return clauses > 0
}
