package mysql

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql/driver"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/go-sql-driver/mysql"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

// Numbers of the servers' errors that are looked for by themselves
// (https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html,
// https://mariadb.com/kb/en/mariadb-error-code-reference/).
const (
	erBadColumn    = 1054
	erNoDatabase   = 1049
	erNoSuchThread = 1094
	erParse        = 1064
	erNoSuchTable  = 1146
	erInterrupted  = 1317
	erReadOnly     = 1792
)

// A kind is what an error of the server is to the caller.
type kind struct {
	code, layer string
	retryable   bool
	next        string
}

const (
	nextStatement = "correct the statement"
	nextReads     = "send one SELECT that only reads"
	nextDenied    = "read something else: the account may not read this"
	nextStatus    = "call database_info for its status, and try again later"
	nextAgain     = "try again"
	nextMissing   = "ask whoever runs the server: the database does not exist"
)

var kinds = func() map[uint16]kind {
	m := map[uint16]kind{}
	add := func(k kind, numbers ...uint16) {
		for _, n := range numbers {
			m[n] = k
		}
	}
	add(kind{engine.SyntaxError, engine.LayerEngine, false, nextStatement}, erParse, 1065, 1149)
	add(kind{engine.UnknownObject, engine.LayerEngine, false, "call list_tables for the names of tables"}, erNoSuchTable, 1051, 1109, erNoDatabase, 1356)
	add(kind{engine.UnknownObject, engine.LayerEngine, false, "call describe_table for the names of columns"}, erBadColumn)
	add(kind{engine.UnknownObject, engine.LayerEngine, false, "use another function"}, 1305, 1128)
	add(kind{engine.AmbiguousObject, engine.LayerEngine, false, "write the column with its table: table.column"}, 1052)
	add(kind{engine.AccessDenied, engine.LayerEngine, false, nextDenied}, 1044, 1142, 1143, 1227, 1370, 1345, 1347, 1410, 1959, 3530)
	add(kind{engine.ReadOnly, engine.LayerGuard, false, nextReads}, erReadOnly, 1290, 1836, 1679)
	add(kind{engine.LockTimeout, engine.LayerEngine, true, "another session holds the lock: try again"}, 1205, 3572)
	add(kind{engine.EngineError, engine.LayerEngine, true, nextAgain}, 1213, 1412, 1615)
	add(kind{engine.ResultTooLarge, engine.LayerEngine, false, "read less: fewer or shorter columns, or aggregate over fewer rows"}, 1038, 1041, 1104, 1114, 1116, 1117, 1118, 1119, 1153, 1301, 1436, 3170)
	add(kind{engine.AuthFailed, engine.LayerPool, false, "an operator has to correct the account or its password"}, 1045, 1130, 1251, 1275, 1524, 1698, 1820, 1862, 3118, 3159, 4151)
	add(kind{engine.Unreachable, engine.LayerPool, true, nextStatus}, 1040, 1042, 1043, 1053, 1077, 1080, 1129, 1152, 1158, 1159, 1160, 1161, 1203, 1226, 1927, 3032)
	return m
}()

// maxTime are the numbers of errors that say that a statement ran for as long as
// the session lets it: those of MariaDB and of MySQL.
var maxTime = map[uint16]bool{1969: true, 3024: true}

// explainError turns an error into what the caller is told. s is what ran, nil
// for statements of our own.
func (d *Database) explainError(ctx context.Context, s *statement, err error) error {
	var told *engine.Error
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil && !errors.Is(err, errMaybeKept):
		return context.Cause(ctx)
	case errors.As(err, &told), errors.Is(err, engine.ErrTimeout):
		return err
	case maxTime[numberOf(err)]:
		return engine.ErrTimeout
	}
	var unconnected *connectError
	if errors.As(err, &unconnected) {
		return d.explainConnect(err)
	}
	var e *mysql.MySQLError
	if !errors.As(err, &e) {
		if errors.Is(err, mysql.ErrPktTooLarge) {
			return engine.Invalid("the statement and its params are too large")
		}
		return &engine.Error{Code: engine.Unreachable, Layer: engine.LayerPool, Retryable: true,
			Message: lost + ": " + d.secrets.scrub(rootMessage(err)), Next: nextAgain}
	}
	told = d.explainNumber(e)
	if s != nil && e.Number == erParse {
		told.Position = position(s.sql, e.Message)
	}
	return told
}

const lost = "the connection was lost"

// explainNumber tells an error of the server.
func (d *Database) explainNumber(e *mysql.MySQLError) *engine.Error {
	told := &engine.Error{Code: engine.EngineError, Layer: engine.LayerEngine, Next: nextStatement,
		Message: cutMessage(d.secrets.scrub(e.Message)), EngineCode: strconv.Itoa(int(e.Number))}
	if k, ok := kinds[e.Number]; ok {
		told.Code, told.Layer, told.Retryable, told.Next = k.code, k.layer, k.retryable, k.next
	}
	if e.Number == erInterrupted { // and not by us: then ctx has ended
		told.Code, told.Retryable, told.Next = engine.Cancelled, true, "somebody ended the statement: try again, or ask an operator"
	}
	return told
}

// explainConnect tells why there is no connection.
func (d *Database) explainConnect(err error) error {
	told := &engine.Error{Code: engine.Unreachable, Layer: engine.LayerPool, Retryable: true, Next: nextStatus}
	var (
		e           *mysql.MySQLError
		unsafe      *roleError
		paused      *pausedError
		certificate *tls.CertificateVerificationError
		unknown     x509.UnknownAuthorityError
		name        x509.HostnameError
		record      tls.RecordHeaderError
		alert       tls.AlertError
	)
	reason := d.secrets.scrub(rootMessage(err))
	switch {
	case errors.As(err, &unsafe):
		told.Code, told.Layer, told.Retryable = engine.RoleUnsafe, engine.LayerPolicy, false
		told.Next = "an operator has to give it an account that may only read (mcpool db setup-sql), or to set allow_unsafe_role"
	case errors.As(err, &e) && e.Number == erNoDatabase: // the DSN's own
		told.EngineCode, told.Retryable, told.Next = strconv.Itoa(erNoDatabase), false, nextMissing
	case errors.As(err, &e):
		told = d.explainNumber(e)
	case errors.Is(err, mysql.ErrNoTLS), errors.As(err, &certificate), errors.As(err, &unknown), errors.As(err, &name),
		errors.As(err, &record), errors.As(err, &alert):
		told.Code, told.Retryable = engine.TLSFailed, false
		told.Next = "an operator has to correct the TLS settings or the server's certificate"
	case errors.Is(err, context.DeadlineExceeded):
		reason = fmt.Sprintf("no answer in %v", d.options.Pool.ConnectTimeout)
	}
	told.Message = fmt.Sprintf("database %s cannot be opened: %s", d.options.Name, cutMessage(reason))
	if errors.As(err, &paused) && told.Retryable {
		told.RetryAfter = paused.after.Milliseconds()
	}
	return told
}

// missing is the error about a database that is not there any more, nil if it is.
// A session that began before does not notice: all tables seem to be gone.
func (d *Database) missing(c *conn) error {
	if c.database == "" {
		return nil
	}
	there := false
	err := c.query("SELECT 1 FROM information_schema.schemata WHERE schema_name = ?", []any{c.database}, func([]driver.Value) error {
		there = true
		return nil
	})
	if err != nil || there {
		return err
	}
	return &engine.Error{Code: engine.Unreachable, Layer: engine.LayerPool, EngineCode: strconv.Itoa(erNoDatabase),
		Message: fmt.Sprintf("database %s is not there any more: Unknown database '%s'", d.options.Name, c.database), Next: nextMissing}
}

// rootMessage is the message of an error without what the driver has put around
// it.
func rootMessage(err error) string {
	var e *mysql.MySQLError
	if errors.As(err, &e) {
		return e.Message
	}
	return err.Error()
}

// nearLine is where the server says that it stopped.
var nearLine = regexp.MustCompile(`(?s)near '(.*)' at line (\d+)$`)

// position finds in a statement what the server says is wrong.
func position(sql, message string) *engine.Position {
	m := nearLine.FindStringSubmatch(message)
	if m == nil {
		return nil
	}
	line, _ := strconv.Atoi(m[2])
	return near(sql, line, m[1])
}

// near finds the position of what starts with rest in a line of a statement.
func near(sql string, line int, rest string) *engine.Position {
	start := 0
	for range line - 1 {
		i := strings.IndexByte(sql[start:], '\n')
		if i < 0 {
			return nil
		}
		start += i + 1
	}
	at := len(sql)
	if rest != "" {
		i := strings.Index(sql[start:], rest)
		if i < 0 {
			return &engine.Position{Line: line, Column: 1}
		}
		at = start + i
	}
	return engine.PositionAt(sql+" ", len([]rune(sql[:at]))+1)
}

// quotedName matches the names in the messages about what does not exist.
var quotedName = regexp.MustCompile(`^(?:Table|Unknown table|Unknown column) '([^']+)'`)

// suggest adds the names that are near to one that does not exist, while there is a
// session to ask in.
func (d *Database) suggest(ctx context.Context, c *conn, s *statement, err error) error {
	number := numberOf(err)
	var e *mysql.MySQLError
	if s == nil || ctx.Err() != nil || c.dead() || !errors.As(err, &e) || number != erBadColumn && number != erNoSuchTable {
		return err
	}
	m := quotedName.FindStringSubmatch(e.Message)
	if m == nil {
		return err
	}
	told := d.explainNumber(e)
	name := m[1][strings.LastIndexByte(m[1], '.')+1:]
	var names []string
	if number == erNoSuchTable {
		schema, _, _ := strings.Cut(m[1], ".")
		if names, err = d.tableNames(c, schema); err == nil && len(names) == 0 {
			err = d.missing(c)
		}
		var gone *engine.Error
		if errors.As(err, &gone) {
			return gone
		}
	} else {
		if d.hidden(c, s, name) {
			return &engine.Error{Code: engine.ColumnMasked, Layer: engine.LayerPolicy, EngineCode: told.EngineCode,
				Message: fmt.Sprintf("the column %s may not be read", name), Next: "leave it out of the statement"}
		}
		names, err = d.columnNames(c, s.tables)
	}
	if err == nil { // without, the error is still the error
		told.DidYouMean = engine.Near(name, names)
	}
	return told
}
