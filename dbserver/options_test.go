package dbserver

import (
	"context"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

// TestEachOptionReachesTheEngine sets each option of a database, one by one, to
// something other than its default: what the engine is told, or what the tools
// go by, has to change with it.
func TestEachOptionReachesTheEngine(t *testing.T) {
	set := map[string]func(d *Database){
		"Name":             func(d *Database) { d.Name = "x" },
		"DSN":              func(d *Database) { d.DSN = "y.db" },
		"Prepare":          func(d *Database) { d.DSN, d.Prepare = "", func(context.Context) (string, error) { return "", nil } },
		"Password":         func(d *Database) { d.Password = func() (string, error) { return "", nil } },
		"TLSMode":          func(d *Database) { d.TLSMode = "require" },
		"CAFile":           func(d *Database) { d.CAFile = "x" },
		"CertFile":         func(d *Database) { d.CertFile = "x" },
		"KeyFile":          func(d *Database) { d.KeyFile = "x" },
		"Mode":             func(d *Database) { d.Mode = Write },
		"WriteDSN":         func(d *Database) { d.Mode, d.WriteDSN = Write, "z.db" },
		"AllowUnsafeRole":  func(d *Database) { d.AllowUnsafeRole = true },
		"Role":             func(d *Database) { d.Role = "x" },
		"PrincipalSetting": func(d *Database) { d.PrincipalSetting = "app.user" },
		"Schemas":          func(d *Database) { d.Schemas = []string{"x"} },
		"DenyTables":       func(d *Database) { d.DenyTables = []string{"x"} },
		"AllowFunctions":   func(d *Database) { d.AllowFunctions = []string{"x"} },
		"Masks":            func(d *Database) { d.Masks = []Mask{{Columns: []string{"x"}, With: "null"}} },
		"MaxConnections":   func(d *Database) { d.MaxConnections = 3 },
		"MaxIdleTime":      func(d *Database) { d.MaxIdleTime = time.Hour },
		"MaxLifetime":      func(d *Database) { d.MaxLifetime = time.Hour },
		"AcquireTimeout":   func(d *Database) { d.AcquireTimeout = time.Hour },
		"ConnectTimeout":   func(d *Database) { d.ConnectTimeout = time.Hour },
		"Timeout":          func(d *Database) { d.Timeout = time.Hour },
		"LockTimeout":      func(d *Database) { d.LockTimeout = time.Hour },
	}
	// These the tools go by, each with a test of what it does.
	elsewhere := map[string]string{
		"Description": "TestDescriptionIsTold", "Engine": "TestNewRefusesWhatMakesNoSense",
		"RequireWhere": "TestWriteOptionsReachTheEngine", "MaxAffected": "TestWriteOptionsReachTheEngine", "AllowDDL": "TestWriteOptionsReachTheEngine",
		"MaxRows": "TestRowCapIsExact", "MaxBytes": "TestByteCapIsExact", "MaxCellBytes": "TestCellsAreCutWhereTheOptionSays",
		"SpoolRows": "TestWhatIsKeptIsBounded", "SpoolBytes": "TestWhatIsKeptIsBounded",
	}
	tests := mcptest.Tests(t, "..")
	plain := engineOptions(t, Database{DSN: "x.db"})
	for _, field := range reflect.VisibleFields(reflect.TypeFor[Database]()) {
		change, here := set[field.Name]
		if test := elsewhere[field.Name]; !here {
			if tests[test] == "" {
				t.Errorf("%s has no test", field.Name)
			}
			continue
		}
		d := Database{DSN: "x.db"}
		change(&d)
		if got := engineOptions(t, d); equalOptions(got, plain) {
			t.Errorf("%s is not told to the engine", field.Name)
		}
	}
}

func engineOptions(t *testing.T, d Database) engine.Options {
	t.Helper()
	d, err := d.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	return d.engineOptions(slog.New(slog.DiscardHandler))
}

// equalOptions compares options; of functions only whether they are there.
func equalOptions(a, b engine.Options) bool {
	if (a.Resolve == nil) != (b.Resolve == nil) || (a.Password == nil) != (b.Password == nil) {
		return false
	}
	for _, o := range []*engine.Options{&a, &b} {
		o.Resolve, o.Password, o.Log = nil, nil, nil
	}
	return reflect.DeepEqual(a, b)
}

func TestDescriptionIsTold(t *testing.T) {
	a := call(t, serve(t, Database{DSN: "/nowhere.db", Description: "orders and customers"}), "database_info", object{})
	if got := a.text(); !strings.Contains(got, "\norders and customers\n") {
		t.Errorf("text is %s", got)
	}
}

func TestCellsAreCutWhereTheOptionSays(t *testing.T) {
	a := read(t, serveSample(t, Database{MaxCellBytes: 3}), "SELECT 'abcd', 'abc'")
	if got := rowsJSON(t, a); got != `[["abc…","abc"]]` {
		t.Errorf("got %s", got)
	}
}
