package sqlserver

import (
	"context"
	"crypto/x509"
	"database/sql/driver"
	"errors"
	"fmt"
	"math"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	mssql "github.com/microsoft/go-mssqldb"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/sqltext"
)

// A verdict is what an error of the server means to a caller.
type verdict struct {
	code      string
	layer     string // engine where it is empty
	retryable bool
	next      string
}

var (
	unknownTable = verdict{code: engine.UnknownObject, next: "call list_tables for the names of tables"}
	unknownName  = verdict{code: engine.UnknownObject, next: "call describe_table for the names of columns; write texts in single quotes"}
	denied       = verdict{code: engine.AccessDenied, next: "read something else; the role of the database may not read this"}
	refused      = verdict{code: engine.AuthFailed, layer: engine.LayerPool, next: "an operator has to correct the login or the password"}
	away         = verdict{code: engine.Unreachable, layer: engine.LayerPool, retryable: true, next: "call database_info for its status, and try again later"}
	readOnlyHere = verdict{code: engine.ReadOnly, layer: engine.LayerGuard, next: "send one SELECT that only reads"}
	tooLarge     = verdict{code: engine.ResultTooLarge, next: "read less: filter, or aggregate over fewer rows"}
	ended        = verdict{code: engine.Cancelled, retryable: true, next: "someone ended the statement in the database: try again later, reading less"}
)

// verdicts are those of errors by number
// (https://learn.microsoft.com/sql/relational-databases/errors-events/database-engine-events-and-errors).
var verdicts = map[int32]verdict{
	208: unknownTable, 2812: unknownTable, 911: unknownTable, 7202: unknownTable, 15151: unknownTable,
	207: unknownName, 4104: unknownName, 195: {code: engine.UnknownObject, next: "use a function of SQL Server"}, 4121: {code: engine.UnknownObject, next: "use a function of SQL Server"},
	209: {code: engine.AmbiguousObject, next: "write the table before the column"},
	137: {code: engine.InvalidArgument, layer: engine.LayerInput, next: "placeholders are @p1, @p2 and so on, and params has a value for each"},

	229: denied, 230: denied, 262: denied, 297: denied, 300: denied, 371: denied, 916: denied, 10329: denied,
	18452: refused, 18456: refused, 18470: refused, 18486: refused, 18487: refused, 18488: refused, 4060: refused, 4064: refused,

	1222: {code: engine.LockTimeout, retryable: true, next: "try again: another transaction holds what the statement wants"},
	1205: {code: engine.EngineError, retryable: true, next: "try again: it was the victim of a deadlock"},
	3952: {code: engine.EngineError, next: "read tables of one database at a time: the other does not allow snapshots"},
	3960: {code: engine.EngineError, retryable: true, next: "try again: another transaction changed what the statement reads"},

	3906: readOnlyHere, 3908: readOnlyHere, 3609: readOnlyHere,

	701: tooLarge, 8623: tooLarge, 8631: tooLarge, 8632: tooLarge, 8645: tooLarge, 1101: tooLarge, 1105: tooLarge, 9002: tooLarge, 511: tooLarge, 1701: tooLarge,

	596: ended, 6104: ended,

	// Going down, coming up, moving to another server, out of what a tenant has.
	904: away, 913: away, 922: away, 923: away, 924: away, 926: away, 927: away, 942: away, 945: away,
	976: away, 978: away, 983: away, 6005: away, 17142: away, 17187: away, 17809: away, 18401: away, 18451: away, 18461: away,
	10928: away, 10929: away, 40197: away, 40501: away, 40613: away, 49918: away, 49919: away, 49920: away,
}

// explain turns an error into what a caller is told, whatever it is.
func (d *Database) explain(err error) error {
	var e *engine.Error
	if errors.As(err, &e) {
		return e
	}
	var failed mssql.Error
	switch {
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.As(err, &failed):
		return d.explainNumber(failed)
	}
	return d.explainConnect(err)
}

func (d *Database) explainNumber(e mssql.Error) *engine.Error {
	v, known := verdicts[e.Number]
	switch {
	case known:
	case e.Class == 15: // what the user can correct in the syntax
		v = verdict{code: engine.SyntaxError, next: "correct the statement; it is T-SQL"}
	case e.Class == 14:
		v = denied
	case e.Class == 17:
		v = tooLarge
	default:
		v = verdict{code: engine.EngineError, next: "correct the statement"}
	}
	if v.layer == "" {
		v.layer = engine.LayerEngine
	}
	return &engine.Error{Code: v.code, Layer: v.layer, Message: d.read.scrub(e.Message), EngineCode: strconv.Itoa(int(e.Number)),
		Retryable: v.retryable, Next: v.next}
}

// explainConnect tells a failure to open or to keep a connection.
func (d *Database) explainConnect(err error) error {
	var e *engine.Error
	if errors.As(err, &e) {
		return e
	}
	told := &engine.Error{Code: engine.Unreachable, Layer: engine.LayerPool, Retryable: true,
		Message: d.read.scrub(fmt.Sprintf("database %s cannot be reached: %v", d.options.Name, err)), Next: away.next}
	var failed mssql.Error
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &failed):
		if by := d.explainNumber(failed); by.Code == engine.AuthFailed || by.Code == engine.AccessDenied || by.Code == engine.Unreachable {
			told = by
		}
		told.EngineCode = strconv.Itoa(int(failed.Number))
	case errors.As(err, &authority), errors.As(err, &host), errors.As(err, &invalid), strings.Contains(err.Error(), "TLS Handshake failed"):
		// The driver wraps only some of what its handshake fails with.
		told.Code, told.Retryable = engine.TLSFailed, false
		told.Next = "an operator has to correct tls, or the server's certificate"
	case errors.Is(err, driver.ErrBadConn):
		told.Message = fmt.Sprintf("database %s has closed its connections", d.options.Name)
	}
	var unconnected *connectError
	if errors.As(err, &unconnected) && unconnected.after > 0 {
		told.RetryAfter = int64(math.Ceil(float64(unconnected.after) / float64(time.Millisecond)))
	}
	return told
}

// scrub takes the credentials out of a message.
func (c *connector) scrub(message string) string {
	secrets := []string{c.options.DSN, c.options.WriteDSN}
	for _, dsn := range secrets[:2] {
		if u, err := url.Parse(dsn); err == nil && u.User != nil {
			password, _ := u.User.Password()
			secrets = append(secrets, password)
		}
	}
	if c.options.Password != nil {
		if password, err := c.options.Password(); err == nil {
			secrets = append(secrets, password)
		}
	}
	for _, secret := range secrets {
		if secret != "" {
			message = strings.ReplaceAll(message, secret, "***")
		}
	}
	return message
}

// quotedName finds the name that a message is about.
var quotedName = regexp.MustCompile(`['"]([^'"]+)['"]`)

// explainStatement tells why a statement was refused before it ran, with the
// place and near names where there are some.
func (d *Database) explainStatement(ctx context.Context, q *session, stmt *statement, err error) error {
	var failed mssql.Error
	if !errors.As(err, &failed) {
		return err
	}
	if len(failed.All) > 0 { // the first is the cause of those that follow
		failed = failed.All[0]
	}
	told := d.explainNumber(failed)
	m := quotedName.FindStringSubmatch(failed.Message)
	if m == nil {
		return told
	}
	parts := splitName(m[1])
	name := parts[len(parts)-1]
	told.Position = stmt.position(name, int(failed.LineNo))
	if told.Code == engine.UnknownObject {
		names, err := d.near(ctx, q, stmt, failed.Number == 207 || failed.Number == 4104)
		if err != nil {
			return told // which is what was asked for
		}
		told.DidYouMean = engine.Near(name, names)
	}
	return told
}

// position is the place of a name in a statement, at a line of it or behind.
func (s *statement) position(name string, line int) *engine.Position {
	at := 1 // characters
	for i := 0; i < len(s.sql); {
		kind, next := sqltext.SQLServer.Next(s.sql, i)
		t := token{kind: kind, text: s.sql[i:next]}
		if strings.EqualFold(unquote(t), name) {
			if p := engine.PositionAt(s.sql, at); p != nil && p.Line >= line {
				return p
			}
		}
		at += len([]rune(t.text))
		i = next
	}
	return nil
}
