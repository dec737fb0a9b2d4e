// Package engine is what the database server wants of a database engine, and
// what it tells it: statements, limits and policy go down, rows, catalogs and
// errors come up. The server knows no SQL of any engine, an engine knows
// nothing of tools.
package engine

import (
	"context"
	"log/slog"
	"time"

	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
)

// A Database is one database and the connections to it. It is safe for
// concurrent use. Nothing is opened before the first call that needs it; a
// database that is down fails those calls and is tried again by later ones, at
// intervals that grow from 1 to 30 s.
//
// Each call runs on a connection of its own and gives it back clean: whatever
// the caller did is rolled back, and no setting, lock or temporary object of
// one caller is seen by the next. ctx ends the statement in the database itself
// within a second. Errors that the caller of a tool can act on are [*Error]s;
// where ctx ended the error is its cause, and [ErrTimeout] where
// Statement.Timeout did.
type Database interface {
	// Read runs a statement that only reads, and hands its columns and rows to
	// out until there are no more or out wants no more. A statement that would
	// do more is refused, and nothing of it happens.
	Read(ctx context.Context, who Caller, s Statement, out *result.Writer) error
	// Explain returns the plan of a statement, which is not run.
	Explain(ctx context.Context, who Caller, s Statement) (Plan, error)
	// Write runs a statement that may write, in a transaction that is rolled
	// back where w.Commit is false. Rows that it returns go to out.
	Write(ctx context.Context, who Caller, s Statement, w Write, out *result.Writer) (Written, error)
	// Tables lists tables and views in the order of their schemas and names.
	Tables(ctx context.Context, who Caller, f Filter) (Tables, error)
	// Describe describes one table or view, with as many sample values for each
	// column as samples says.
	Describe(ctx context.Context, who Caller, n Name, samples int) (*Description, error)
	// Info tells how the database is. That it is down is no error: Status and
	// LastError tell it. What takes it long to find out, such as the size, it
	// leaves out.
	Info(ctx context.Context, who Caller) (Info, error)
	// Open is how many connections to the database are open now.
	Open() int
	// Close closes the connections. Calls have ended by then.
	Close() error
}

// Options say which database to open and what may be done with it.
type Options struct {
	Name string // that answers and logs call it by
	// DSN names the database as its engine does; it may hold a password and is
	// never told. Resolve, if set, makes the DSN instead, before each opening.
	DSN     string
	Resolve func(ctx context.Context) (string, error)
	// Password returns the password, if it is not in the DSN. It is called for
	// each new connection, so a file that changes is read again.
	Password func() (string, error)
	TLS      TLS
	// Write says that Write may be called. Its connections are others than
	// those that read; WriteDSN, if set, is what they use in place of DSN.
	Write    bool
	WriteDSN string
	// AllowUnsafeRole lets a role in that may do more than read. Without it the
	// database is refused with [RoleUnsafe].
	AllowUnsafeRole bool
	Identity        Identity
	Policy          Policy
	Pool            Pool
	// LockTimeout is how long a statement may wait for a lock.
	LockTimeout time.Duration
	// StatementTimeout is the most that Statement.Timeout can be; the engine is
	// told of it, too, so that it holds where this process is gone.
	StatementTimeout time.Duration
	Log              *slog.Logger // never nil
}

// TLS is how the connection to the database is protected. The zero TLS is
// what the DSN says.
type TLS struct {
	// Mode is disable, require (no check of who answers), verify-ca or
	// verify-full; empty for what the DSN says.
	Mode                      string
	CAFile, CertFile, KeyFile string // PEM
}

// Pool says how many connections to a database there are and for how long.
type Pool struct {
	MaxOpen        int           // most connections
	MaxIdleTime    time.Duration // one that is not used is closed after this
	MaxLifetime    time.Duration // one is closed at this age, less a tenth at random
	AcquireTimeout time.Duration // longest wait for one
	ConnectTimeout time.Duration // longest opening of one
}

// Identity says as whom statements run in the database, where that depends on
// the caller.
type Identity struct {
	// Role is the role that a statement runs as (SET LOCAL ROLE); "{principal}"
	// in it stands for the principal. Empty for that of the connection.
	Role string
	// Setting is the name of a setting that holds the principal while a
	// statement runs, for row-level security, such as app.user.
	Setting string
}

// A Caller is on whose behalf a call is made.
type Caller struct {
	Principal string
	Tool      string
}

// A Statement is one statement of a caller.
type Statement struct {
	SQL string
	// Params are bound to the placeholders in order: nil, bool, string or
	// json.Number. They are never made part of the text.
	Params []any
	// Timeout is how long it may run once it has a connection; zero for
	// Options.StatementTimeout.
	Timeout time.Duration
	// MaxRows is how many rows are wanted at most, with the one that tells that
	// there are more, for engines that can be told; zero for any number. What
	// ends a result is the Writer.
	MaxRows int
}

// Write says what a statement that writes may do.
type Write struct {
	Commit       bool  // keep what it did
	RequireWhere bool  // refuse UPDATE and DELETE without WHERE
	MaxRows      int64 // most rows that it may affect, as the engine counts them; zero for any number
	DDL          bool  // allow statements that change the schema
}

// Written is what a statement that writes did.
type Written struct {
	Class    string // insert, update, delete, merge, ddl or other
	Affected int64  // rows
	// Counted is how many rows Write.MaxRows was held to, where that is more than
	// Affected: with those that triggers and foreign keys changed.
	Counted int64
	// Uncertain is set where a statement cannot be rolled back on this engine,
	// so that a preview did not run it.
	Uncertain bool
}

// A Plan is how the engine would run a statement.
type Plan struct {
	Format   string   // such as json, xml or text
	JSON     []byte   // the plan as JSON, nil if the engine tells it as text
	Text     string   // the plan to read
	Cost     *float64 // in the engine's units, nil if not told
	Rows     *float64 // estimated
	Warnings []string // in plain words
}

// Info is how a database is.
type Info struct {
	Engine    string // sqlite, postgres, mysql, mariadb or sqlserver
	Version   string
	Place     string // file, or host and database; never credentials
	Size      int64  // bytes, zero if not known
	Status    string // idle (never opened), ready, busy (no connection is free) or down
	LastError string
	Proof     *Proof           // nil if nothing is known, for the database is down
	Pool      map[string]int64 // open, in_use, idle, waited, waited_ms, …
	Findings  []Finding        // what an operator should look at
	// MaxConnections is how many connections the server of the database takes of
	// all its clients, but for those that it keeps for operators; zero if not known.
	MaxConnections int
}

// A Proof is what makes a database read-only, and how far that was checked.
type Proof struct {
	// Verified is that a statement that writes was tried on a connection as
	// callers get it, and refused by the engine.
	Verified   bool     `json:"verified"`
	EnforcedBy []string `json:"enforced_by"`
	Role       []Check  `json:"role,omitempty"`
	Warnings   []string `json:"warnings,omitempty"`
}

// A Check is one thing that was looked at in the role of the connection.
type Check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail,omitempty"`
}

// A Finding is something about a database that wants attention.
type Finding struct {
	Severity string `json:"severity"` // info, warning or error
	Message  string `json:"message"`
	Fix      string `json:"fix,omitempty"`
}
