package sqlserver

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	mssql "github.com/microsoft/go-mssqldb"
	"github.com/microsoft/go-mssqldb/msdsn"
	"go.uber.org/goleak"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(mcptest.Settled(m)) }

// A fake stands in for the driver and the server behind it: it records what is
// sent, keeps the state of each session as the server would, and answers.
type fake struct {
	t testing.TB

	// Set before the first call.
	facts  [][]driver.Value                                          // of the role; nil for a safe one
	plan   func(sql string) (string, error)                          // document for a batch under SHOWPLAN_XML
	run    func(sql string, args []driver.NamedValue) (*rows, error) // what a statement returns
	refuse func(text string) error                                   // an error for a text of ours
	open   func(ctx context.Context, config msdsn.Config) error      // of a connection

	mu      sync.Mutex
	log     []string // what was sent, in order: texts, and procedures with their arguments
	conns   []*fakeConn
	configs []msdsn.Config
}

// safe are the facts of a role that may only read.
var safe = [][]driver.Value{
	{factVersion, "16.0.4135.4"}, {factEdition, "Developer Edition"}, {factDatabase, "shop"}, {factSchema, "dbo"},
	{factUpdateability, "READ_WRITE"}, {factSnapshot, "0"}, {factServerPermission, "CONNECT SQL"}, {factServerPermission, "VIEW ANY DATABASE"},
	{factDatabasePermission, "CONNECT"}, {factDatabasePermission, "SELECT"}, {factDatabasePermission, "SHOWPLAN"},
	{factDatabasePermission, "VIEW ANY COLUMN MASTER KEY DEFINITION"},
}

func (f *fake) opener(config msdsn.Config, _ *wires) driver.Connector {
	return fakeConnector{f, config}
}

type fakeConnector struct {
	*fake
	config msdsn.Config
}

func (c fakeConnector) Driver() driver.Driver { return &mssql.Driver{} }

func (c fakeConnector) Connect(ctx context.Context) (driver.Conn, error) {
	c.mu.Lock()
	c.configs = append(c.configs, c.config)
	c.mu.Unlock()
	if c.open != nil {
		if err := c.open(ctx, c.config); err != nil {
			return nil, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	conn := &fakeConn{fake: c.fake}
	c.fake.conns = append(c.fake.conns, conn)
	return conn, nil
}

// A fakeConn is a connection with its session.
type fakeConn struct {
	*fake
	showplan, inTransaction, xactAbort, bad, closed bool
	rowcount, textsize, lockTimeout                 int
}

func (c *fakeConn) Prepare(string) (driver.Stmt, error) { panic("not used") }
func (c *fakeConn) Begin() (driver.Tx, error)           { panic("not used") }

func (c *fakeConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	return nil
}

func (c *fakeConn) IsValid() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.bad
}

func (c *fakeConn) ResetSession(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.showplan || c.inTransaction {
		c.t.Errorf("a session comes back with showplan %t, transaction %t", c.showplan, c.inTransaction)
	}
	c.xactAbort, c.rowcount, c.lockTimeout = false, 0, -1
	c.log = append(c.log, "(reset)")
	return nil
}

func (c *fakeConn) PrepareContext(_ context.Context, text string) (driver.Stmt, error) {
	return &fakeStmt{c, text}, nil
}

type fakeStmt struct {
	*fakeConn
	text string
}

func (s *fakeStmt) Close() error                               { return nil }
func (s *fakeStmt) NumInput() int                              { return -1 }
func (s *fakeStmt) Exec([]driver.Value) (driver.Result, error) { panic("not used") }
func (s *fakeStmt) Query([]driver.Value) (driver.Rows, error)  { panic("not used") }

func (s *fakeStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	r, err := s.send(ctx, args)
	if err != nil {
		return nil, err
	}
	return driver.RowsAffected(r.affected), nil
}

func (s *fakeStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	r, err := s.send(ctx, args)
	if err != nil {
		return nil, err
	}
	r.ctx, r.conn = ctx, s.fakeConn
	return r, nil
}

// send does what the server does with a request.
func (s *fakeStmt) send(ctx context.Context, args []driver.NamedValue) (*rows, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bad {
		return nil, driver.ErrBadConn
	}
	text := s.text
	if len(args) > 0 && args[0].Name == "" && args[0].Value == factsQuery {
		facts := s.fake.facts
		if facts == nil {
			facts = safe
		}
		return &rows{names: []string{"kind", "fact"}, data: facts}, nil
	}
	for _, a := range args {
		text += fmt.Sprintf(" | %s=%v", a.Name, a.Value)
	}
	s.log = append(s.log, text)
	if s.refuse != nil {
		if err := s.refuse(s.text); err != nil {
			return nil, err
		}
	}
	switch {
	case s.text == "SET SHOWPLAN_XML ON":
		s.showplan = true
	case s.text == "SET SHOWPLAN_XML OFF":
		s.showplan = false
	case s.showplan:
		document, err := s.plan(s.text)
		return &rows{names: []string{"Microsoft SQL Server 2005 XML Showplan"}, data: [][]driver.Value{{document}}}, err
	case s.text == "BEGIN TRANSACTION":
		s.inTransaction = true
	case s.text == "COMMIT TRANSACTION", s.text == "IF @@TRANCOUNT > 0 ROLLBACK TRANSACTION":
		s.inTransaction = false
	case strings.HasPrefix(s.text, "SET "):
		s.settle(s.text)
	case s.text == "sp_executesql":
		if s.run != nil {
			r, err := s.run(args[0].Value.(string), args)
			if r == nil {
				r = &rows{}
			}
			return r, err
		}
	}
	return &rows{}, nil
}

func (c *fakeConn) settle(text string) {
	for setting := range strings.SplitSeq(text, "SET ") {
		switch words := strings.Fields(setting); {
		case len(words) < 2:
		case words[0] == "XACT_ABORT":
			c.xactAbort = words[1] == "ON"
		default:
			n := 0
			fmt.Sscan(words[1], &n)
			switch words[0] {
			case "ROWCOUNT":
				c.rowcount = n
			case "TEXTSIZE":
				c.textsize = n
			case "LOCK_TIMEOUT":
				c.lockTimeout = n
			}
		}
	}
}

// rows are a result.
type rows struct {
	names    []string
	types    []string // the driver's names
	data     [][]driver.Value
	affected int64
	err      error // behind the last row
	endless  bool  // more of the last row, until someone has enough
	hangs    bool  // behind the last row, until ctx ends

	ctx    context.Context
	conn   *fakeConn
	ended  bool
	served int
}

func (r *rows) Columns() []string { return r.names }

func (r *rows) Close() error {
	if r.conn != nil && !r.ended {
		r.conn.mu.Lock()
		r.conn.log = append(r.conn.log, "(attention)")
		r.conn.mu.Unlock()
		return mssql.Error{Number: 3617, Message: "Operation cancelled by user."}
	}
	return nil
}

func (r *rows) Next(dest []driver.Value) error {
	switch at := r.served; {
	case at < len(r.data):
		copy(dest, r.data[at])
	case r.endless:
		copy(dest, r.data[len(r.data)-1])
	case r.hangs:
		<-r.ctx.Done()
		return r.ctx.Err()
	default:
		r.ended = true
		if r.err != nil {
			return r.err
		}
		return io.EOF
	}
	r.served++
	return nil
}

func (r *rows) ColumnTypeDatabaseTypeName(i int) string {
	if i < len(r.types) {
		if r.types[i] == "" {
			panic("not implemented makeGoLangTypeName") // as the driver does
		}
		return r.types[i]
	}
	return "INT"
}

func (r *rows) ColumnTypeLength(i int) (int64, bool) {
	if strings.HasSuffix(r.names[i], "_max") {
		return math.MaxInt64, true
	}
	return 20, true
}

func (r *rows) ColumnTypePrecisionScale(int) (int64, int64, bool) { return 10, 2, true }

func options() engine.Options {
	return engine.Options{Name: "shop", DSN: "sqlserver://mcp_ro:s3cret%21@db.example.com:1433?database=shop",
		Pool:        engine.Pool{MaxOpen: 2, MaxIdleTime: time.Minute, MaxLifetime: time.Hour, AcquireTimeout: 5 * time.Second, ConnectTimeout: 5 * time.Second},
		LockTimeout: 2 * time.Second, StatementTimeout: 30 * time.Second, Log: slog.New(slog.DiscardHandler)}
}

// start makes a database on a fake. At its end no session that may be lent
// again is in a transaction or shows plans.
func (f *fake) start(t testing.TB, o engine.Options) *Database {
	t.Helper()
	f.t = t
	if f.plan == nil {
		f.plan = func(string) (string, error) { return document("select"), nil }
	}
	d, err := newDatabase(o, f.opener)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for i, c := range f.conns {
			if !c.closed && (c.showplan || c.inTransaction) {
				t.Errorf("connection %d is kept with showplan %t, transaction %t", i, c.showplan, c.inTransaction)
			}
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// sent returns what was sent since the last call of it.
func (f *fake) sent() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	log := f.log
	f.log = nil
	return log
}

func document(name string) string {
	content, err := os.ReadFile(filepath.Join("testdata", "showplan", name+".xml"))
	if err != nil {
		panic(err)
	}
	return string(content)
}

var who = engine.Caller{Principal: "ada", Tool: "read_data"}

func newWriter() *result.Writer {
	return result.NewWriter(result.Limits{Rows: 100, Bytes: 64 << 10, Cell: 4 << 10}, nil)
}

// code returns the code of an error, empty for none.
func code(err error) string {
	var e *engine.Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e):
		return e.Code
	}
	return err.Error()
}

func same(t testing.TB, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %s\nwant %s", what, strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
}
