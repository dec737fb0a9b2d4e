package sqlserver

import (
	"context"
	"database/sql/driver"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

const (
	// maxPlan is how many bytes of a plan are read. One that is longer is cut by
	// the server, and then no XML.
	maxPlan = 16 << 20
	// maxValue is how many bytes of a value of a (max) type are read.
	maxValue = 1_000_000
	// cleanUp is how long putting a session in order may take.
	cleanUp = time.Second
)

// A session is a connection while it is lent to one call.
type session struct {
	*connection
	options *engine.Options
	broken  bool // it could not be put in order, and is thrown away
}

// begin makes the session one of a caller. Texts of our own may set several
// things at once; that of a caller always travels alone.
func (s *session) begin(ctx context.Context, who engine.Caller) error {
	tag := "mcpool " + who.Principal + " " + who.Tool
	const most = 128 // bytes of CONTEXT_INFO, which sys.dm_exec_sessions shows
	settings := fmt.Sprintf("SET XACT_ABORT ON SET NOCOUNT OFF SET LOCK_TIMEOUT %d SET ROWCOUNT 0 SET TEXTSIZE %d SET CONTEXT_INFO 0x%s",
		s.options.LockTimeout.Milliseconds(), maxPlan, hex.EncodeToString([]byte(tag[:min(len(tag), most)])))
	if err := s.exec(ctx, settings); err != nil {
		return err
	}
	if s.options.Identity.Setting == "" {
		return nil
	}
	return s.exec(ctx, "sp_set_session_context", named("key", s.options.Identity.Setting), named("value", who.Principal), named("read_only", true))
}

func named(name string, value driver.Value) driver.NamedValue {
	return driver.NamedValue{Name: name, Value: value}
}

// exec sends a batch, or calls a procedure if text is the name of one.
func (s *session) exec(ctx context.Context, text string, args ...driver.NamedValue) error {
	_, err := s.affect(ctx, text, args...)
	return err
}

// affect does what exec does, and returns how many rows were affected.
func (s *session) affect(ctx context.Context, text string, args ...driver.NamedValue) (int64, error) {
	stmt, err := s.prepare(ctx, text)
	if err != nil {
		return 0, err
	}
	defer stmt.Close()
	done, err := stmt.(driver.StmtExecContext).ExecContext(ctx, numbered(args))
	if err != nil {
		return 0, err
	}
	return done.RowsAffected()
}

// query sends a batch, or calls a procedure, that has rows.
func (s *session) query(ctx context.Context, text string, args ...driver.NamedValue) (driver.Rows, error) {
	stmt, err := s.prepare(ctx, text)
	if err != nil {
		return nil, err
	}
	// The driver's statements hold nothing to close.
	return stmt.(driver.StmtQueryContext).QueryContext(ctx, numbered(args))
}

func (s *session) prepare(ctx context.Context, text string) (driver.Stmt, error) {
	c, ok := s.Conn.(driver.ConnPrepareContext)
	if !ok {
		return nil, errors.New("the driver has changed: its connections prepare no statements")
	}
	return c.PrepareContext(ctx, text)
}

func numbered(args []driver.NamedValue) []driver.NamedValue {
	for i := range args {
		args[i].Ordinal = i + 1
	}
	return args
}

// each runs a statement of our own and calls fn for each row, which is valid
// during the call, until it returns false.
func (s *session) each(ctx context.Context, sql string, params params, fn func(row []driver.Value) bool) (err error) {
	rows, err := s.query(ctx, "sp_executesql", params.call(sql)...)
	if err != nil {
		return err
	}
	wanted := true
	defer func() {
		if closeErr := rows.Close(); err == nil && wanted {
			err = closeErr
		}
	}()
	row := make([]driver.Value, len(rows.Columns()))
	for wanted {
		if err := rows.Next(row); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		wanted = fn(row)
	}
	return nil
}

// plan returns what the server would do with a statement, which it does not do
// (https://learn.microsoft.com/sql/t-sql/statements/set-showplan-xml-transact-sql).
// The statement is alone in its batch but for the declaration of its
// parameters; that of sp_executesql would not be planned.
func (s *session) plan(ctx context.Context, sql string, params params) (*plan, error) {
	if err := s.exec(ctx, "SET SHOWPLAN_XML ON"); err != nil {
		s.broken = true // who knows
		return nil, err
	}
	defer s.tidy(ctx, "SET SHOWPLAN_XML OFF")
	declaration := params.declare()
	// The driver takes a text that looks like a name for that of a procedure,
	// and one that begins with INSERTBULK for its own. None begins with a space.
	rows, err := s.query(ctx, declaration+" "+sql)
	if err != nil {
		return nil, err
	}
	documents, err := texts(rows)
	if err != nil {
		return nil, err
	}
	if len(documents) != 1 {
		return nil, fmt.Errorf("the server returned %d plans for one batch", len(documents))
	}
	return parsePlan(documents[0], strings.TrimSpace(declaration))
}

// texts returns the values of results of one column.
func texts(rows driver.Rows) (list []string, err error) {
	defer func() { err = errors.Join(err, rows.Close()) }()
	for {
		if len(rows.Columns()) != 1 {
			return nil, fmt.Errorf("the server returned %d columns for a plan", len(rows.Columns()))
		}
		row := make([]driver.Value, 1)
		for {
			err := rows.Next(row)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, err
			}
			text, ok := row[0].(string)
			if !ok {
				return nil, fmt.Errorf("the server returned %T for a plan", row[0])
			}
			list = append(list, text)
		}
		more, ok := rows.(driver.RowsNextResultSet)
		if !ok || !more.HasNextResultSet() {
			return list, nil
		}
		if err := more.NextResultSet(); err != nil {
			return nil, err
		}
	}
}

// within runs fn in a transaction. It is rolled back, unless fn returns that it
// is to be kept. rows is the most that a result may have, zero for any number.
func (s *session) within(ctx context.Context, snapshot bool, rows int, fn func() (keep bool, err error)) error {
	settings := fmt.Sprintf("SET TEXTSIZE %d SET ROWCOUNT %d", maxValue, rows)
	if snapshot {
		settings += " SET TRANSACTION ISOLATION LEVEL SNAPSHOT"
	}
	if err := s.exec(ctx, settings); err != nil {
		return err
	}
	kept := false
	defer func() {
		if !kept {
			s.tidy(ctx, "IF @@TRANCOUNT > 0 ROLLBACK TRANSACTION")
		}
	}()
	if err := s.exec(ctx, "BEGIN TRANSACTION"); err != nil {
		return err
	}
	keep, err := fn()
	if err != nil || !keep {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	// From here on nobody's impatience may leave it open what was done.
	committing, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.options.StatementTimeout)
	defer cancel()
	if err := s.exec(committing, "COMMIT TRANSACTION"); err != nil {
		if s.IsValid() { // the server's answer: it is rolled back
			return err
		}
		s.broken = true
		return &engine.Error{Code: engine.Unreachable, Layer: engine.LayerEngine,
			Message: "the connection was lost while the transaction was committed: " + err.Error(),
			Next:    "read whether the change was made before you send it again"}
	}
	kept = true
	return nil
}

// tidy puts the session in order with a text of our own, or marks it as one to
// be thrown away, which the server takes for a rollback. It has time of its own
// where that of ctx is over.
func (s *session) tidy(ctx context.Context, text string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUp)
	defer cancel()
	if s.broken || s.exec(ctx, text) != nil {
		s.broken = true
	}
}
