package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
	"github.com/mcpool-dev/mcpool/dbserver/internal/sqltext"
)

const dialect = sqltext.Postgres

// mostUnread is how many bytes that nobody wants are read before the server is
// asked to send no more.
const mostUnread = 256 << 10

// errEnough is that no more rows are wanted while the server still sends.
var errEnough = errors.New("no more rows are wanted")

// cursor is what a query is declared as. Without SCROLL it need not be kept.
const cursor = "DECLARE mcpool NO SCROLL CURSOR FOR "

// Read runs a query.
func (d *Database) Read(ctx context.Context, who engine.Caller, s engine.Statement, out *result.Writer) error {
	r, err := d.reading(s)
	if err != nil {
		return err
	}
	return d.run(ctx, d.reads, who, s.Timeout, func(ctx context.Context, t *tx) error {
		if r.kind == asIs {
			return r.show(ctx, d, t, out)
		}
		return r.query(ctx, d, t, s.MaxRows, out)
	})
}

// A reading is a statement taken apart.
type reading struct {
	sql    string
	params [][]byte
	kind   kind
	planOf string // what to ask the plan of; empty for what has none
	calls  *calls
	write  bool
}

// A kind is how a statement is run.
type kind int

const (
	byCursor kind = iota // SELECT, WITH, VALUES, TABLE
	asIs                 // SHOW, EXPLAIN
)

// reading takes a statement apart and refuses what cannot only read.
func (d *Database) reading(s engine.Statement) (*reading, error) {
	r, err := d.taken(s, false)
	if err != nil {
		return nil, err
	}
	switch keyword := dialect.Keyword(r.sql); {
	case keyword == "SHOW":
		r.kind, r.planOf = asIs, ""
		return r, checkShow(r.sql)
	case keyword == "EXPLAIN":
		r.kind = asIs
		inner, err := checkExplain(r.sql)
		r.planOf = cursor + r.sql[inner:]
		return r, err
	case writes[keyword]:
		return nil, readOnly(fmt.Sprintf("the database is read-only, and the statement is %s", keyword))
	}
	// A word that no statement starts with is left for the server to complain
	// about.
	return r, nil
}

// taken takes a statement apart.
func (d *Database) taken(s engine.Statement, write bool) (*reading, error) {
	r := &reading{write: write}
	var only bool
	if r.sql, only = dialect.Statement(s.SQL); !only {
		return nil, &engine.Error{Code: engine.MultiStatement, Layer: engine.LayerGuard,
			Message: "the text has more than one statement", Next: "send one statement at a time"}
	}
	if r.sql == "" {
		return nil, engine.Invalid("the statement is empty")
	}
	if strings.ContainsRune(r.sql, 0) {
		return nil, engine.Invalid("the statement has a NUL character, which no text of PostgreSQL can")
	}
	r.planOf = cursor + r.sql
	var err error
	if r.params, err = bind(s.Params); err != nil {
		return nil, err
	}
	r.calls, err = callsIn(r.sql, &d.options.Policy)
	if err != nil {
		return nil, err
	}
	if r.calls.write = write; !write {
		r.calls.known = &d.cleared
		r.calls.names = d.cleared.without(r.calls.names)
	}
	return r, nil
}

func readOnly(message string) *engine.Error {
	return &engine.Error{Code: engine.ReadOnly, Layer: engine.LayerGuard, Message: message,
		Next: "send one SELECT (also WITH, VALUES, TABLE, SHOW, EXPLAIN) that only reads"}
}

// writes are the first words of the statements that do more than read
// (https://www.postgresql.org/docs/current/sql-commands.html).
var writes = func() map[string]bool {
	m := map[string]bool{}
	for word := range strings.FieldsSeq(`ABORT ALTER ANALYZE ANALYSE BEGIN CALL CHECKPOINT CLOSE CLUSTER COMMENT COMMIT COPY CREATE
		DEALLOCATE DECLARE DELETE DISCARD DO DROP END EXECUTE FETCH GRANT IMPORT INSERT LISTEN LOAD LOCK MERGE MOVE NOTIFY
		PREPARE REASSIGN REFRESH REINDEX RELEASE RESET REVOKE ROLLBACK SAVEPOINT SECURITY SET START TRUNCATE UNLISTEN
		UPDATE VACUUM WAIT REPACK`) {
		m[word] = true
	}
	return m
}()

// mostParams is how many a message can have
// (https://www.postgresql.org/docs/current/protocol-message-formats.html, Bind).
const mostParams = 1<<16 - 1

// bind puts parameters into the text form in which PostgreSQL reads them, exact
// and as whatever type their place wants.
func bind(params []any) ([][]byte, error) {
	if len(params) > mostParams {
		return nil, engine.Invalid("there are %d params, and PostgreSQL takes %d", len(params), mostParams)
	}
	bound := make([][]byte, len(params))
	for i, p := range params {
		switch p := p.(type) {
		case nil:
		case bool:
			bound[i] = fmt.Append(nil, p)
		case string:
			if strings.ContainsRune(p, 0) {
				return nil, engine.Invalid("parameter %d has a NUL character, which no text of PostgreSQL can", i+1)
			}
			bound[i] = append([]byte{}, p...) // an empty text is not NULL
		case json.Number:
			bound[i] = []byte(p.String())
		default:
			return nil, engine.Invalid("parameter %d is neither null, a boolean, a text nor a number", i+1)
		}
	}
	return bound, nil
}

// query runs a query by a cursor, so that no more of a large table is computed
// than somebody wants. All of it is one round trip, with what ends the
// transaction, unless a policy has to see the plan first.
func (r *reading) query(ctx context.Context, d *Database, t *tx, most int, out *result.Writer) error {
	rows := &rows{d: d, out: out}
	var err error
	if rows.hidden, err = r.permit(d, t); err != nil {
		return err
	}
	t.send(query{cursor + r.sql, r.params})
	t.fetch(out.Rows()+1, most) // one tells that there are more
	t.end()
	if err := r.answered(d, t); err != nil {
		return err
	}
	if err := t.done(); err != nil {
		return &statementError{err, r.sql, len(cursor)}
	}
	answer, err := t.next()
	if err != nil {
		return &statementError{err, r.sql, len(cursor)}
	}
	if err := rows.read(ctx, answer); err != nil {
		return &statementError{err, r.sql, len(cursor)}
	}
	return nil
}

// show runs a statement that is no query but returns rows.
func (r *reading) show(ctx context.Context, d *Database, t *tx, out *result.Writer) error {
	if _, err := r.permit(d, t); err != nil {
		return err
	}
	t.send(query{r.sql, r.params})
	t.end()
	if err := r.answered(d, t); err != nil {
		return err
	}
	answer, err := t.next()
	if err != nil {
		return &statementError{err, r.sql, 0}
	}
	if err = (&rows{d: d, out: out}).read(ctx, answer); err != nil {
		return &statementError{err, r.sql, 0}
	}
	return nil
}

// permit asks for the plan where a policy has to see it, and returns how the
// columns of the result are hidden. Where not it queues the look at functions,
// whose answer answered reads.
func (r *reading) permit(d *Database, t *tx) ([]result.Mask, error) {
	if d.options.Policy.Restricts() && r.planOf != "" {
		_, hidden, err := d.plan(t, r)
		return hidden, err
	}
	if r.calls.any() {
		t.send(r.calls.query())
	}
	return nil, nil
}

// answered sends what is queued, and reads the answer to the look at functions.
func (r *reading) answered(d *Database, t *tx) error {
	if err := t.flush(); err != nil {
		return err
	}
	if !r.calls.any() || d.options.Policy.Restricts() && r.planOf != "" {
		return nil
	}
	return r.calls.refusal(t.done())
}

// checkShow refuses a SHOW that is more than a name.
func checkShow(sql string) error {
	for i := 0; i < len(sql); {
		kind, next := dialect.Next(sql, i)
		switch {
		case kind == sqltext.Space, kind == sqltext.Comment, kind == sqltext.Word, kind == sqltext.Quoted, sql[i:next] == ".":
		default:
			return readOnly("SHOW takes the name of a setting and nothing else")
		}
		i = next
	}
	return nil
}

// rows hands the rows of one result to a writer.
type rows struct {
	d       *Database
	out     *result.Writer
	hidden  []result.Mask // of each column, by the plan; nil for none
	appends []appender    // of each column
	all     bool          // rows that nobody wants are waited for
	tag     string
}

// read reads the answer.
func (r *rows) read(ctx context.Context, answer *answer) error {
	if err := r.columns(ctx, answer.fields); err != nil {
		return err
	}
	unread := 0
	for answer.next() {
		if !r.out.Wants() {
			for _, length := range answer.lengths {
				unread += length
			}
			if unread > mostUnread && !r.all {
				return errEnough
			}
			continue
		}
		for i, v := range answer.values {
			if v == nil {
				r.out.Null()
				continue
			}
			length := answer.lengths[i]
			if length > len(v) {
				r.out.Whole(int64(length))
			}
			r.appends[i](r.out, v, length)
		}
		r.out.EndRow()
	}
	var err error
	r.tag, err = answer.close()
	return err
}

// columns says what the columns are.
func (r *rows) columns(ctx context.Context, fields []pgproto3.FieldDescription) error {
	// Names may be looked up while the rows wait in the sockets.
	types, origins, err := r.d.names.of(ctx, r.d, fields)
	if err != nil {
		return err
	}
	columns := make([]result.Column, len(fields))
	r.appends = make([]appender, len(fields))
	for i, f := range fields {
		t := types[f.DataTypeOID]
		columns[i] = result.Column{Name: string(f.Name), Type: t.with(f.TypeModifier)}
		if o, ok := origins[origin{f.TableOID, f.TableAttributeNumber}]; ok {
			columns[i].Origin = o.table.String() + "." + o.column
			columns[i].Mask = r.d.mask(o)
		}
		if i < len(r.hidden) && columns[i].Mask == result.Unmasked {
			columns[i].Mask = r.hidden[i]
		}
		r.appends[i] = t.appender()
	}
	// Behind the columns of the result are those that it is ordered by.
	if r.hidden != nil && (len(r.hidden) < len(fields) || slices.ContainsFunc(r.hidden[len(fields):], func(m result.Mask) bool { return m != result.Unmasked })) {
		return (&judge{}).refuse("")
	}
	r.out.SetColumns(columns)
	return nil
}
