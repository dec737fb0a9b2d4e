package sqlserver

import (
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"testing"

	mssql "github.com/microsoft/go-mssqldb"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

func TestErrorsByNumber(t *testing.T) {
	o := options()
	o.Password = func() (string, error) { return "fr0mfile", nil }
	d := (&fake{}).start(t, o)
	for _, c := range []struct {
		number    int32
		class     uint8
		code      string
		layer     string
		retryable bool
	}{
		{102, 15, engine.SyntaxError, engine.LayerEngine, false},
		{156, 15, engine.SyntaxError, engine.LayerEngine, false},
		{207, 16, engine.UnknownObject, engine.LayerEngine, false},
		{208, 16, engine.UnknownObject, engine.LayerEngine, false},
		{209, 16, engine.AmbiguousObject, engine.LayerEngine, false},
		{229, 14, engine.AccessDenied, engine.LayerEngine, false},
		{262, 14, engine.AccessDenied, engine.LayerEngine, false},
		{137, 15, engine.InvalidArgument, engine.LayerInput, false},
		{245, 16, engine.EngineError, engine.LayerEngine, false},
		{701, 17, engine.ResultTooLarge, engine.LayerEngine, false},
		{1205, 13, engine.EngineError, engine.LayerEngine, true},
		{1222, 16, engine.LockTimeout, engine.LayerEngine, true},
		{3906, 16, engine.ReadOnly, engine.LayerGuard, false},
		{18456, 14, engine.AuthFailed, engine.LayerPool, false},
		{40613, 20, engine.Unreachable, engine.LayerPool, true},
		{596, 21, engine.Cancelled, engine.LayerEngine, true},
		{99999, 14, engine.AccessDenied, engine.LayerEngine, false},
		{99999, 16, engine.EngineError, engine.LayerEngine, false},
	} {
		err := d.explain(fmt.Errorf("wrapped: %w", mssql.Error{Number: c.number, Class: c.class, Message: "said with s3cret! and fr0mfile"}))
		var e *engine.Error
		if !errors.As(err, &e) || e.Code != c.code || e.Layer != c.layer || e.Retryable != c.retryable || e.EngineCode != fmt.Sprint(c.number) ||
			e.Message != "said with *** and ***" || e.Next == "" {
			t.Errorf("%d: got %+v", c.number, e)
		}
	}
}

func TestErrorsOfConnecting(t *testing.T) {
	d := (&fake{}).start(t, options())
	for _, c := range []struct {
		err  error
		code string
	}{
		{errors.New("dial tcp: refused"), engine.Unreachable},
		{errors.New("TLS Handshake failed: tls: first record does not look like a TLS handshake"), engine.TLSFailed},
		{fmt.Errorf("TLS: %w", x509.UnknownAuthorityError{}), engine.TLSFailed},
		{mssql.Error{Number: 18456, Class: 14, Message: "login error: Login failed for user 'mcp_ro'."}, engine.AuthFailed},
		{mssql.Error{Number: 4060, Class: 11, Message: "login error: Cannot open database"}, engine.AuthFailed},
		{mssql.Error{Number: 102, Class: 15, Message: "odd"}, engine.Unreachable},
		{errors.New("sqlserver://mcp_ro:s3cret%21@db.example.com:1433?database=shop is bad, s3cret! too"), engine.Unreachable},
	} {
		err := d.explainConnect(&connectError{err: c.err})
		if code(err) != c.code || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%v: got %v", c.err, err)
		}
	}
}

func TestPositionOfAName(t *testing.T) {
	stmt, err := scan("SELECT ä, 'nmae',\n [nmae] FROM users\nWHERE nmae = 1", 0)
	if err != nil {
		t.Fatal(err)
	}
	for line, want := range map[int]string{1: "2:2", 3: "3:7", 4: ""} {
		got := ""
		if p := stmt.position("NMAE", line); p != nil {
			got = fmt.Sprintf("%d:%d", p.Line, p.Column)
		}
		if got != want {
			t.Errorf("from line %d: got %s, want %s", line, got, want)
		}
	}
}
