package dbserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/mysql"
	"github.com/mcpool-dev/mcpool/dbserver/internal/postgres"
	"github.com/mcpool-dev/mcpool/dbserver/internal/sqlite"
	"github.com/mcpool-dev/mcpool/dbserver/internal/sqlserver"
	"github.com/mcpool-dev/mcpool/internal/seal"
)

// What Options and a Database leave at zero.
const (
	DefaultMaxCallsPerPrincipal = 4 // half of DefaultMaxConnections: where callers have no names they are one principal, and are not to be kept from most
	DefaultHandleTTL            = 5 * time.Minute

	DefaultName           = "main"
	DefaultMaxRows        = 1000
	DefaultMaxBytes       = 64 << 10
	DefaultMaxCellBytes   = 4 << 10
	DefaultSpoolRows      = 1000
	DefaultSpoolBytes     = 16 << 20
	DefaultTimeout        = 30 * time.Second
	DefaultLockTimeout    = 2 * time.Second
	DefaultMaxConnections = 8
	DefaultMaxIdleTime    = 4 * time.Minute // below the 5 to 10 min after which balancers drop what is quiet
	DefaultMaxLifetime    = 30 * time.Minute
	DefaultAcquireTimeout = 5 * time.Second
	DefaultConnectTimeout = 5 * time.Second
	DefaultMaxAffected    = 1000
)

// DefaultLimit is the limit of a read_data call that names none, in rows.
const DefaultLimit = 100

// Modes of a database.
const (
	ReadOnly = "read_only"
	Write    = "write"
)

// Engines of databases.
const (
	SQLite    = "sqlite"
	Postgres  = "postgres"
	MySQL     = "mysql" // and MariaDB
	SQLServer = "sqlserver"
)

// Options say what a server serves.
type Options struct {
	// Databases are served together: with more than one, each tool takes the
	// argument database. At least one is needed.
	Databases []Database
	// Tools are tools of one's own besides ours.
	Tools []Tool
	// Audit is where each call is written down; nil for nowhere.
	Audit *Audit
	// MaxCallsPerPrincipal is how many calls of one principal run at a time in
	// each database; more wait, and principals that wait take turns. It is never
	// more than all connections but one, so that one is left for others. Zero
	// means DefaultMaxCallsPerPrincipal.
	MaxCallsPerPrincipal int
	// Key seals what callers hold for the server, of 32 bytes: handles of
	// fetch_rows, and tokens of write_data. A server with the same key as another
	// tells the caller where the result is when it gets a handle of that one. Nil
	// means one that is made up.
	Key []byte
	// HandleTTL is how long a handle is good; zero means DefaultHandleTTL.
	HandleTTL time.Duration
	// Log receives what happens to databases, never SQL or data; nil means no
	// log.
	Log *slog.Logger
}

// check fills in what is left at zero, or says what makes no sense.
func (o *Options) check() error {
	switch {
	case len(o.Databases) == 0:
		return errors.New("dbserver: at least one database is needed")
	case o.Key != nil && len(o.Key) != seal.KeySize:
		return fmt.Errorf("dbserver: the Key has %d bytes: want %d", len(o.Key), seal.KeySize)
	case o.HandleTTL < 0 || o.MaxCallsPerPrincipal < 0:
		return errors.New("dbserver: HandleTTL and MaxCallsPerPrincipal cannot be negative")
	}
	orDefault(&o.HandleTTL, DefaultHandleTTL)
	orDefault(&o.MaxCallsPerPrincipal, DefaultMaxCallsPerPrincipal)
	return nil
}

// A Database says how a database is reached and what may be done with it.
type Database struct {
	// Name is what calls and answers call it by: letters, digits, - and _;
	// empty means DefaultName.
	Name string
	// Description tells a model what is in it; empty for nothing.
	Description string
	// Engine is one of the constants; empty means the one that the DSN is of,
	// SQLite for a path.
	Engine string
	// DSN names the database: a SQLite file's path, sqlite://path or file: URL,
	// or a URL that begins with postgres://, mysql://, mariadb:// or
	// sqlserver://. A SQLite file is never created.
	DSN string
	// Prepare, if set, makes the database and returns its DSN, of the engine
	// Engine. It is called in place of DSN before the first call, and again
	// after a failure, never twice at a time. ctx ends with Close, and after
	// 30 s.
	Prepare func(ctx context.Context) (dsn string, err error)
	// Password returns the password of a DSN that has none. It is called for
	// each new connection.
	Password func() (string, error)
	// TLSMode is disable, require, verify-ca or verify-full; empty for what the
	// DSN says. CAFile, CertFile and KeyFile are PEM files.
	TLSMode, CAFile, CertFile, KeyFile string

	// Mode is ReadOnly or Write; empty means ReadOnly. Where it is Write there
	// is the tool write_data; reading stays read-only, on connections of its
	// own.
	Mode string
	// WriteDSN names the database for writing, with another role, say; empty
	// means DSN.
	WriteDSN string
	// RequireWhere refuses UPDATE and DELETE without WHERE; nil means true.
	RequireWhere *bool
	// MaxAffected is the most rows that a statement may change; zero means
	// DefaultMaxAffected.
	MaxAffected int64
	// AllowDDL lets statements change the schema, too.
	AllowDDL bool
	// AllowUnsafeRole serves the database though its role may do more than
	// read. Read-only then rests on the other lines alone, and database_info
	// says so.
	AllowUnsafeRole bool

	// Role is the role that statements run as; "{principal}" in it stands for
	// the principal of the call. Empty means that of the connection.
	Role string
	// PrincipalSetting is the name of a setting that holds the principal while
	// a statement runs, such as app.user; empty for none.
	PrincipalSetting string

	// Schemas are those that may be read; empty means all that the role may.
	Schemas []string
	// DenyTables are patterns of tables that may not be read: schema.table or
	// table, with * for any characters but a dot.
	DenyTables []string
	// AllowFunctions are functions that may be called besides those that are
	// known to do nothing but compute.
	AllowFunctions []string
	// Masks hide columns. The first that fits a column counts.
	Masks []Mask

	// MaxConnections is the most connections for reading, which is how many
	// calls run at a time; zero means DefaultMaxConnections. MaxIdleTime,
	// MaxLifetime, AcquireTimeout and ConnectTimeout are durations; zero means
	// the default.
	MaxConnections int
	MaxIdleTime    time.Duration // a connection that is not used is closed after this
	MaxLifetime    time.Duration // one is closed at this age
	AcquireTimeout time.Duration // longest wait for one
	ConnectTimeout time.Duration // longest opening of one

	// MaxRows is the most rows of an answer, whatever limit a call names; zero
	// means DefaultMaxRows.
	MaxRows int
	// MaxBytes is the most bytes of JSON that the rows of an answer take up;
	// zero means DefaultMaxBytes.
	MaxBytes int
	// SpoolRows is how many rows behind those of an answer are kept for
	// fetch_rows; zero means DefaultSpoolRows. A negative number means none: an
	// answer that is full then ends the statement.
	SpoolRows int
	// SpoolBytes is the most bytes that these rows take up, up to 64 MiB; zero
	// means DefaultSpoolBytes.
	SpoolBytes int
	// MaxCellBytes is how much is shown of one text; zero means
	// DefaultMaxCellBytes.
	MaxCellBytes int
	// Timeout is how long a statement may run; zero means DefaultTimeout.
	Timeout time.Duration
	// LockTimeout is how long it may wait for a lock; zero means
	// DefaultLockTimeout.
	LockTimeout time.Duration
}

// A Mask hides columns.
type Mask struct {
	// Columns are patterns of [[schema.]table.]column, with * for any
	// characters but a dot.
	Columns []string
	// With is null (NULL in place of each value), partial (the first character
	// and ***) or refuse (a statement that reads it is refused).
	With string
}

var databaseName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// withDefaults returns the database with what is left at zero filled in, or
// what makes no sense.
func (d Database) withDefaults() (Database, error) {
	if d.Name == "" {
		d.Name = DefaultName
	}
	if !databaseName.MatchString(d.Name) {
		return d, fmt.Errorf("name %q: want 1 to 64 letters, digits, - and _", d.Name)
	}
	if (d.DSN == "") == (d.Prepare == nil) {
		return d, errors.New("one of DSN and Prepare is needed")
	}
	if d.Mode == "" {
		d.Mode = ReadOnly
	}
	if d.Mode != ReadOnly && d.Mode != Write {
		return d, fmt.Errorf("mode %q: want %s or %s", d.Mode, ReadOnly, Write)
	}
	if d.Mode != Write && (d.WriteDSN != "" || d.RequireWhere != nil || d.MaxAffected != 0 || d.AllowDDL) {
		return d, fmt.Errorf("WriteDSN, RequireWhere, MaxAffected and AllowDDL go with mode %s", Write)
	}
	if d.MaxAffected < 0 {
		return d, errors.New("MaxAffected cannot be negative")
	}
	orDefault(&d.MaxAffected, DefaultMaxAffected)
	for _, m := range d.Masks {
		switch engine.With(m.With) {
		case engine.WithNull, engine.WithPartial, engine.WithRefuse:
		default:
			return d, fmt.Errorf("mask with %q: want null, partial or refuse", m.With)
		}
		if err := engine.CheckPatterns(m.Columns); err != nil {
			return d, err
		}
	}
	if err := engine.CheckPatterns(d.DenyTables); err != nil {
		return d, err
	}
	for _, n := range []*int{&d.MaxConnections, &d.MaxRows, &d.MaxBytes, &d.MaxCellBytes, &d.SpoolBytes} {
		if *n < 0 {
			return d, errors.New("MaxConnections, MaxRows, MaxBytes, MaxCellBytes and SpoolBytes cannot be negative")
		}
	}
	if d.SpoolBytes > maxSpoolBytesEach {
		return d, fmt.Errorf("SpoolBytes is %d: want at most %d", d.SpoolBytes, maxSpoolBytesEach)
	}
	orDefault(&d.SpoolRows, DefaultSpoolRows)
	orDefault(&d.SpoolBytes, DefaultSpoolBytes)
	orDefault(&d.MaxConnections, DefaultMaxConnections)
	orDefault(&d.MaxRows, DefaultMaxRows)
	orDefault(&d.MaxBytes, DefaultMaxBytes)
	orDefault(&d.MaxCellBytes, DefaultMaxCellBytes)
	for _, t := range []*time.Duration{&d.MaxIdleTime, &d.MaxLifetime, &d.AcquireTimeout, &d.ConnectTimeout, &d.Timeout, &d.LockTimeout} {
		if *t < 0 {
			return d, errors.New("durations cannot be negative")
		}
	}
	orDefault(&d.MaxIdleTime, DefaultMaxIdleTime)
	orDefault(&d.MaxLifetime, DefaultMaxLifetime)
	orDefault(&d.AcquireTimeout, DefaultAcquireTimeout)
	orDefault(&d.ConnectTimeout, DefaultConnectTimeout)
	orDefault(&d.Timeout, DefaultTimeout)
	orDefault(&d.LockTimeout, DefaultLockTimeout)
	return d, nil
}

func orDefault[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

// engineOf returns the engine that a DSN is of.
func engineOf(dsn string) (string, error) {
	scheme, _, ok := strings.Cut(dsn, "://")
	switch strings.ToLower(scheme) {
	case "postgres", "postgresql":
		return Postgres, nil
	case "mysql", "mariadb":
		return MySQL, nil
	case "sqlserver":
		return SQLServer, nil
	case "sqlite", "file":
		return SQLite, nil
	}
	if ok {
		return "", fmt.Errorf("scheme %q is not supported: want a SQLite file, or a URL that begins with postgres://, mysql://, mariadb:// or sqlserver://", scheme)
	}
	return SQLite, nil
}

// server is the server that a database is on, as its DSN names it, empty for
// none and where nobody knows.
func (d *Database) server() string {
	u, err := url.Parse(d.DSN)
	if err != nil || u.Host == "" || d.Engine == SQLite {
		return ""
	}
	return d.Engine + " " + strings.ToLower(u.Host)
}

// mayOpen is how many connections the pools of a database may have at a time:
// those that read, those that write, and two that look up names and end
// statements.
func (d *Database) mayOpen() int {
	if d.Mode == Write {
		return 2*d.MaxConnections + 2
	}
	return d.MaxConnections + 2
}

// newEngine makes the database of an engine. It does no I/O.
func (d *Database) newEngine(log *slog.Logger) (engine.Database, error) {
	options := d.engineOptions(log)
	if d.Engine == "" {
		var err error
		if d.Engine, err = engineOf(d.DSN); err != nil {
			return nil, err
		}
	}
	switch d.Engine {
	case SQLite:
		return sqlite.New(options)
	case Postgres:
		return postgres.New(options)
	case MySQL:
		return mysql.New(options)
	case SQLServer:
		return sqlserver.New(options)
	}
	return nil, fmt.Errorf("engine %q: want %s, %s, %s or %s", d.Engine, SQLite, Postgres, MySQL, SQLServer)
}

// engineOptions is what an engine is told.
func (d *Database) engineOptions(log *slog.Logger) engine.Options {
	options := engine.Options{
		Name: d.Name, DSN: d.DSN, Resolve: d.Prepare, Password: d.Password,
		TLS:   engine.TLS{Mode: d.TLSMode, CAFile: d.CAFile, CertFile: d.CertFile, KeyFile: d.KeyFile},
		Write: d.Mode == Write, WriteDSN: d.WriteDSN, AllowUnsafeRole: d.AllowUnsafeRole,
		Identity: engine.Identity{Role: d.Role, Setting: d.PrincipalSetting},
		Policy:   engine.Policy{Schemas: d.Schemas, DenyTables: d.DenyTables, Functions: d.AllowFunctions},
		Pool: engine.Pool{MaxOpen: d.MaxConnections, MaxIdleTime: d.MaxIdleTime, MaxLifetime: d.MaxLifetime,
			AcquireTimeout: d.AcquireTimeout, ConnectTimeout: d.ConnectTimeout},
		LockTimeout: d.LockTimeout, StatementTimeout: d.Timeout, Log: log,
	}
	for _, m := range d.Masks {
		options.Policy.Masks = append(options.Policy.Masks, engine.Mask{Columns: m.Columns, With: engine.With(m.With)})
	}
	return options
}
