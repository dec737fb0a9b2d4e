package config_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpool-dev/mcpool/config"
	"github.com/mcpool-dev/mcpool/dbserver"
)

// databaseKeys is each key of a database, with a value and what it is read as.
func databaseKeys(folder string) map[string]struct {
	value string
	want  dbserver.Database
} {
	no := false
	return map[string]struct {
		value string
		want  dbserver.Database
	}{
		"engine":            {"mysql", dbserver.Database{Engine: "mysql"}},
		"description":       {"orders", dbserver.Database{Description: "orders"}},
		"tls_mode":          {"verify-full", dbserver.Database{TLSMode: "verify-full"}},
		"ca_file":           {"a.pem", dbserver.Database{CAFile: filepath.Join(folder, "a.pem")}},
		"cert_file":         {"a.pem", dbserver.Database{CertFile: filepath.Join(folder, "a.pem")}},
		"key_file":          {"a.pem", dbserver.Database{KeyFile: filepath.Join(folder, "a.pem")}},
		"mode":              {"write", dbserver.Database{Mode: dbserver.Write}},
		"write_dsn":         {"w.db", dbserver.Database{WriteDSN: "w.db"}},
		"require_where":     {"false", dbserver.Database{RequireWhere: &no}},
		"max_affected":      {"7", dbserver.Database{MaxAffected: 7}},
		"allow_ddl":         {"true", dbserver.Database{AllowDDL: true}},
		"allow_unsafe_role": {"true", dbserver.Database{AllowUnsafeRole: true}},
		"role":              {`"{principal}"`, dbserver.Database{Role: "{principal}"}},
		"principal_setting": {"app.user", dbserver.Database{PrincipalSetting: "app.user"}},
		"schemas":           {"[a, b]", dbserver.Database{Schemas: []string{"a", "b"}}},
		"deny_tables":       {`["*.secrets"]`, dbserver.Database{DenyTables: []string{"*.secrets"}}},
		"allow_functions":   {"[f]", dbserver.Database{AllowFunctions: []string{"f"}}},
		"masks": {`[{columns: ["*.a"], with: null}, {columns: [b], with: "null"}, {columns: [c], with: partial}, {columns: [d], with: refuse}]`,
			dbserver.Database{Masks: []dbserver.Mask{{Columns: []string{"*.a"}, With: "null"}, {Columns: []string{"b"}, With: "null"},
				{Columns: []string{"c"}, With: "partial"}, {Columns: []string{"d"}, With: "refuse"}}}},
		"max_connections": {"3", dbserver.Database{MaxConnections: 3}},
		"max_idle_time":   {"1m", dbserver.Database{MaxIdleTime: time.Minute}},
		"max_lifetime":    {"2m", dbserver.Database{MaxLifetime: 2 * time.Minute}},
		"acquire_timeout": {"3", dbserver.Database{AcquireTimeout: 3 * time.Second}},
		"connect_timeout": {"4s", dbserver.Database{ConnectTimeout: 4 * time.Second}},
		"max_rows":        {"5", dbserver.Database{MaxRows: 5}},
		"max_bytes":       {"6", dbserver.Database{MaxBytes: 6}},
		"max_cell_bytes":  {"7", dbserver.Database{MaxCellBytes: 7}},
		"spool_rows":      {"none", dbserver.Database{SpoolRows: -1}},
		"spool_bytes":     {"8", dbserver.Database{SpoolBytes: 8}},
		"timeout":         {"0.5", dbserver.Database{Timeout: 500 * time.Millisecond}},
		"lock_timeout":    {"100ms", dbserver.Database{LockTimeout: 100 * time.Millisecond}},
	}
}

// TestEveryKeyOfADatabaseIsRead fails where a key is not wired, and where one
// has no test.
func TestEveryKeyOfADatabaseIsRead(t *testing.T) {
	folder := t.TempDir()
	for _, name := range []string{"a.pem", "dsn", "password"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte("s3cret\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	parse := func(entry string) (*config.Config, error) {
		return config.Parse([]byte("databases:\n  x: {"+entry+"}\n"), filepath.Join(folder, "mcp.yaml"), nil)
	}
	tests := databaseKeys(folder)
	for key, test := range tests {
		c, err := parse("dsn: x.db, " + key + ": " + test.value)
		if err != nil {
			t.Errorf("%s: %v", key, err)
			continue
		}
		test.want.Name, test.want.DSN = "x", "x.db"
		if got := c.Servers[0].Databases.Databases[0]; !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: got %+v, want %+v", key, got, test.want)
		}
	}
	c, err := parse("dsn_file: dsn, password_file: password")
	if err != nil {
		t.Fatal(err)
	}
	d := c.Servers[0].Databases.Databases[0]
	if password, err := d.Password(); d.DSN != "s3cret" || password != "s3cret" || err != nil {
		t.Errorf("DSN %q, password %q, %v", d.DSN, password, err)
	}
	if err := os.WriteFile(filepath.Join(folder, "password"), []byte("another"), 0o600); err != nil {
		t.Fatal(err)
	}
	if password, _ := d.Password(); password != "another" {
		t.Errorf("the password is not read again: %q", password)
	}
	if err := os.Remove(filepath.Join(folder, "password")); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Password(); err == nil || !strings.Contains(err.Error(), "the file with its password cannot be read: ") || strings.Contains(err.Error(), folder) {
		t.Errorf("got %v", err)
	}
	if c, err := config.Parse([]byte("databases: {x: {dsn: a}, y: {dsn: b, disabled: true}}"), "mcp.yaml", nil); err != nil || len(c.Servers[0].Databases.Databases) != 1 {
		t.Errorf("a disabled database is served, %v", err)
	}

	// What an unknown key is told there is.
	_, err = parse("zzzzzzzzzzzz: 1")
	_, list, _ := strings.Cut(err.Error(), "there are ")
	known := slices.Sorted(slices.Values(strings.Split(list, ", ")))
	tested := slices.Sorted(maps.Keys(tests))
	tested = slices.Sorted(slices.Values(append(tested, "dsn", "dsn_file", "password_file", "disabled")))
	if !slices.Equal(known, tested) {
		t.Errorf("there are the keys %q, and tests of %q", known, tested)
	}
}

func TestDatabaseServer(t *testing.T) {
	c, err := config.Parse([]byte(`
databases: {a: {dsn: a.db, mode: write}, b: {dsn: b.db}}
database_server:
  name: data
  allow: ["read_*"]
  max_calls: 9
  max_calls_per_principal: 2
  handle_ttl: 1m
  audit: {file: audit.jsonl, statements: full, max_bytes: 1000}
  tools:
    rename:
      description: Renames.
      database: a
      statement: UPDATE t SET name = :name, n = :n WHERE tag = '${x}' AND flag = :flag
      write: true
      max_rows: 3
      params:
        name: {description: New, enum: [a, b]}
        n: {type: integer, default: 9007199254740993}
        flag: {type: boolean, optional: true, default: true}
`), "/etc/mcp.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	s := c.Servers[0]
	if len(c.Servers) != 1 || s.Name != "data" || s.MaxCalls != 9 || !slices.Equal(s.Allow, []string{"read_*"}) {
		t.Errorf("got %+v", s)
	}
	want := &dbserver.Options{MaxCallsPerPrincipal: 2, HandleTTL: time.Minute,
		Databases: []dbserver.Database{{Name: "a", DSN: "a.db", Mode: dbserver.Write}, {Name: "b", DSN: "b.db"}},
		Audit:     &dbserver.Audit{File: "/etc/audit.jsonl", Statements: "full", MaxBytes: 1000},
		Tools: []dbserver.Tool{{Name: "rename", Description: "Renames.", Database: "a", Write: true, MaxRows: 3,
			Statement: "UPDATE t SET name = :name, n = :n WHERE tag = '${x}' AND flag = :flag",
			Params: []dbserver.Param{
				{Name: "name", Description: "New", Enum: []string{"a", "b"}},
				{Name: "n", Type: "integer", Default: json.Number("9007199254740993")},
				{Name: "flag", Type: "boolean", Optional: true, Default: true},
			}}},
	}
	if !reflect.DeepEqual(s.Databases, want) {
		t.Errorf("got %+v\nwant %+v", s.Databases, want)
	}
	want.Audit = nil // whose folder is not ours
	server, err := dbserver.New(*want)
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Close(); err != nil {
		t.Error(err)
	}
}

func TestDatabasesThatMakeNoSense(t *testing.T) {
	for entry, says := range map[string]string{
		"databases: {x: {dsn: a, dsn_file: b}}":                                                               "databases.x.dsn_file: no such file",
		"databases: {x: {dsn: a, mode: rw}}":                                                                  `databases.x.mode: value "rw": want read_only or write`,
		"databases: {x: {dsn: a, masks: [{columns: [a]}]}}":                                                   "databases.x.masks[0]: want columns, and with: null, partial or refuse",
		"databases: {x: {dsn: a, masks: [{with: null}]}}":                                                     "databases.x.masks[0]: want columns",
		"databases: {x: {dsn: a, masks: {}}}":                                                                 "databases.x.masks: want a list",
		"databases: {x: {dsn: a, password: s3cret}}":                                                          "databases.x.password: write it to a file, and give that as password_file",
		"databases: {x: {dsn: a, max_rows: -1}}":                                                              `databases.x.max_rows: value "-1": want a whole number`,
		"databases: {x: {dsn: a, spool_rows: some}}":                                                          `databases.x.spool_rows: value "some": want a whole number`,
		"databases: {x: {dsn: a, timeout: soon}}":                                                             "databases.x.timeout: value",
		"databases: {a b: {dsn: a}, a-b: {dsn: b}}":                                                           "databases.a-b: its name would be a-b",
		"mcpServers: {a: {url: https://a}}\ndatabase_server: {name: x}":                                       "database_server: goes with databases, and there are none",
		"databases: {x: {dsn: a}}\ndatabase_server: {nam: x}":                                                 "database_server.nam: unknown key; did you mean name?",
		"databases: {x: {dsn: a}}\ndatabase_server: {audit: {}}":                                              "database_server.audit: want a file",
		"databases: {x: {dsn: a}}\ndatabase_server: {tools: {t: {params: {p: {type: date}}}}}":                "database_server.tools.t.params.p.type",
		"databases: {x: {dsn: a}}\ndatabase_server: {tools: {t: {params: {p: {type: integer, default: x}}}}}": "params.p.default: want a number",
	} {
		_, err := config.Parse([]byte(entry), "mcp.yaml", nil)
		if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: got %v, want %s", entry, err, says)
		}
	}
}
