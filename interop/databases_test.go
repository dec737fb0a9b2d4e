package interop

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	_ "modernc.org/sqlite"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/dbplugin"
	"github.com/mcpool-dev/mcpool/internal/dbtest"
	"github.com/mcpool-dev/mcpool/rpc"
)

var record = flag.String("record", "", "the folder to write what database servers answer to, for the tests of dbplugin")

// A databaseServer is one that somebody else wrote, over a database that
// testdata/databases/ENGINE.sql has made.
type databaseServer struct {
	name    string
	needs   string // the file that is there where it is installed
	engine  string // sqlite, postgres or mysql
	command func(place *url.URL) (argv, env []string)
	plugin  dbplugin.Options
	// lacks are the methods that it has no tool for.
	lacks []string
	// noKeys says that it tells of no foreign keys, noViews that it lists none.
	noKeys, noViews bool
}

const (
	toolboxBinary = nodeModules + "/@toolbox-sdk/server/bin/run.js"
	dbhubScript   = nodeModules + "/@bytebase/dbhub/dist/index.js"
	proBinary     = "testdata/python/pro/venv/bin/postgres-mcp"
)

var databaseServers = []databaseServer{
	{name: "toolbox-sqlite", needs: toolboxBinary, engine: "sqlite", lacks: []string{"Explain", "DatabaseInfo"}, noViews: true,
		command: toolbox("SQLITE_DATABASE")},
	{name: "toolbox-postgres", needs: toolboxBinary, engine: "postgres", noViews: true, command: toolbox("POSTGRES")},
	{name: "toolbox-mysql", needs: toolboxBinary, engine: "mysql", lacks: []string{"DatabaseInfo"}, noViews: true, command: toolbox("MYSQL")},
	{name: "dbhub-sqlite", needs: dbhubScript, engine: "sqlite", lacks: []string{"Explain", "DatabaseInfo"}, noKeys: true, command: dbhub},
	{name: "dbhub-postgres", needs: dbhubScript, engine: "postgres", lacks: []string{"Explain", "DatabaseInfo"}, noKeys: true, command: dbhub},
	{name: "dbhub-two-sources", needs: dbhubScript, engine: "sqlite", lacks: []string{"DatabaseInfo"}, noKeys: true,
		plugin: dbplugin.Options{Database: "the-shop"}, command: dbhubOfTwo},
	{name: "postgres-mcp-pro", needs: proBinary, engine: "postgres", lacks: []string{"DatabaseInfo"},
		command: func(place *url.URL) (argv, env []string) {
			return []string{absolute(proBinary), "--access-mode", "restricted", place.String()}, nil
		}},
	{name: "reference-postgres", needs: nodeModules + "/@modelcontextprotocol/server-postgres/dist/index.js", engine: "postgres",
		lacks: []string{"ListTables", "DescribeTable", "Explain", "DatabaseInfo"},
		command: func(place *url.URL) (argv, env []string) {
			return []string{"node", absolute(nodeModules + "/@modelcontextprotocol/server-postgres/dist/index.js"), place.String()}, nil
		}},
	{name: "reference-sqlite", needs: legacyPython + "/bin/mcp-server-sqlite", engine: "sqlite", lacks: []string{"Explain", "DatabaseInfo"}, noKeys: true, noViews: true,
		command: func(place *url.URL) (argv, env []string) {
			return []string{absolute(legacyPython + "/bin/mcp-server-sqlite"), "--db-path", place.Path}, nil
		}},
}

// toolbox runs MCP Toolbox with the tools that it has for an engine.
func toolbox(variable string) func(*url.URL) (argv, env []string) {
	return func(place *url.URL) (argv, env []string) {
		password, _ := place.User.Password()
		if env = []string{variable + "=" + place.Path}; variable != "SQLITE_DATABASE" {
			env = []string{variable + "_HOST=" + place.Hostname(), variable + "_PORT=" + place.Port(), variable + "_USER=" + place.User.Username(),
				variable + "_PASSWORD=" + password, variable + "_DATABASE=" + strings.Trim(place.Path, "/")}
		}
		engine, _, _ := strings.Cut(strings.ToLower(variable), "_")
		return []string{"node", absolute(toolboxBinary), "--prebuilt", engine, "--stdio"}, env
	}
}

// node22 is the node that DBHub needs, 22.5 or later.
const node22 = nodeModules + "/node/bin/node"

func dbhub(place *url.URL) (argv, env []string) {
	dsn := *place
	if dsn.Scheme == "postgres" {
		dsn.RawQuery = "sslmode=disable"
	}
	return []string{absolute(node22), absolute(dbhubScript), "--transport", "stdio", "--dsn", dsn.String()}, nil
}

// dbhubOfTwo has a second source, and explain_sql, which is not on by itself.
func dbhubOfTwo(place *url.URL) (argv, env []string) {
	file := filepath.Join(filepath.Dir(place.Path), "dbhub.toml")
	write(filepath.Dir(file), filepath.Base(file), fmt.Sprintf(`
		[[sources]]
		id = "other"
		dsn = "sqlite:///:memory:"
		[[sources]]
		id = "the-shop"
		dsn = %q
		[[tools]]
		name = "execute_sql"
		source = "the-shop"
		readonly = true
		[[tools]]
		name = "search_objects"
		source = "the-shop"
		[[tools]]
		name = "explain_sql"
		source = "the-shop"
	`, place.String()))
	return []string{absolute(node22), absolute(dbhubScript), "--transport", "stdio", "--config", file}, nil
}

// place returns a new database of an engine.
func (s *databaseServer) place(t *testing.T) *url.URL {
	t.Helper()
	if s.engine == "sqlite" {
		file := filepath.Join(t.TempDir(), "shop.db")
		db, err := sql.Open("sqlite", file)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		statements, err := os.ReadFile("testdata/databases/sqlite.sql")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec(string(statements)); err != nil {
			t.Fatal(err)
		}
		return &url.URL{Scheme: "sqlite", Path: file}
	}
	statements, err := os.ReadFile("testdata/databases/" + s.engine + ".sql")
	if err != nil {
		t.Fatal(err)
	}
	name := "shop_" + strings.ReplaceAll(s.name, "-", "_")
	var dsn string
	switch s.engine {
	case "postgres":
		server := dbtest.Postgres(t)
		server.Database(t, name)
		server.Exec(t, name, string(statements))
		dsn = server.Superuser(name)
	case "mysql":
		server := dbtest.MariaDB(t)
		server.Database(t, name)
		server.Exec(t, name, string(statements))
		dsn = server.Root(name)
	}
	place, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	return place
}

func TestDatabaseServers(t *testing.T) {
	for _, s := range databaseServers {
		t.Run(s.name, func(t *testing.T) {
			if _, err := os.Stat(s.needs); err != nil {
				t.Skipf("%s is not installed, for want of %s: README.md says how", s.name, s.needs)
			}
			t.Parallel()
			argv, env := s.command(s.place(t))
			config := mcpool.DefaultConfig()
			config.ConnectionTimeout = patience
			pool, err := mcpool.New(mcpool.Server{Name: s.name, Command: argv[0], Args: argv[1:], Dir: t.TempDir(),
				Env: append(env, cellKey+"="+t.Name())}, &config)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = pool.Close(context.Background()) })
			tape := &tape{Handler: pool}
			plugin, err := dbplugin.New(tape, &s.plugin)
			if err != nil {
				t.Fatal(err)
			}
			s.exercise(t, plugin)
			if t.Failed() {
				return
			}
			// What it says of a tool that it does not have.
			_, _ = tape.Do(t.Context(), rpc.Call{Method: "tools/call", Params: json.RawMessage(`{"arguments":{},"name":"no_such_tool"}`)})
			if *record != "" {
				tape.write(t, s.name)
			}
		})
	}
}

// exercise does with a server what plugins do. That the answers are read right,
// to the last digit, is held by the tests of dbplugin, which have them from
// here; that a server still gives them is held here.
func (s *databaseServer) exercise(t *testing.T, p *dbplugin.Plugin) {
	ctx := t.Context()
	check := func(method string, err error, ok bool, got any) {
		t.Helper()
		for _, lacks := range s.lacks {
			if lacks == method {
				if !errors.Is(err, dbplugin.ErrUnsupported) {
					t.Errorf("%s: got %v, want ErrUnsupported", method, err)
				}
				return
			}
		}
		if err != nil || !ok {
			t.Errorf("%s: got %+v, %v", method, got, err)
		}
	}
	list, err := p.ListTables(ctx, nil)
	names := map[string]bool{}
	for _, table := range list.Tables {
		names[table.Name] = true
	}
	check("ListTables", err, names["customers"] && names["orders"] && names["totals"] == !s.noViews, list.Tables)
	d, err := p.DescribeTable(ctx, "orders")
	keys := len(d.ForeignKeys) == 1 && fmt.Sprint(d.ForeignKeys[0].Columns) == "[customer_id]"
	check("DescribeTable", err, len(d.Columns) >= 7 && d.Columns[0].Name == "id" && d.Columns[0].PrimaryKey == 1 && keys == !s.noKeys, d)
	if _, err := p.DescribeTable(ctx, "totals"); s.noViews == (err == nil) && s.name != "reference-sqlite" {
		check("DescribeTable", errors.Join(errors.New("of a view"), err), false, nil)
	}
	var failed *dbplugin.ToolError
	_, err = p.DescribeTable(ctx, "absent")
	check("DescribeTable", errorUnless(errors.As(err, &failed), err), true, nil)

	const large = "SELECT id, customer_id FROM orders ORDER BY id DESC"
	r, err := p.ReadData(ctx, large, &dbplugin.ReadOptions{Limit: 1})
	check("ReadData", err, fmt.Sprint(r.Rows) == "[[9007199254740993 9007199254740993]]" && r.Truncated, r)
	all := "*"
	if s.name == "toolbox-postgres" { // which answers a row that has a NaN in it with an error
		all = "id, customer_id, total, note, paid, at, day, doc, raw, tags"
	}
	for _, query := range []string{"SELECT " + all + " FROM orders ORDER BY id", "SELECT * FROM customers ORDER BY id"} {
		r, err = p.ReadData(ctx, query, nil)
		check("ReadData", err, r.RowCount == 2 && len(r.Columns) >= 3, r)
	}
	r, err = p.ReadData(ctx, "SELECT 1 AS a, 2 AS a", nil)
	check("ReadData", err, r.RowCount == 1, r)
	r, err = p.ReadData(ctx, "SELECT id FROM orders WHERE 1 = 0", nil)
	check("ReadData", err, r.RowCount == 0 && !r.Truncated, r)
	_, err = p.ReadData(ctx, "SELECT nothing FROM orders", nil)
	var refused *rpc.Error // reference PostgreSQL
	check("ReadData", errorUnless(errors.As(err, &failed) || errors.As(err, &refused), err), true, nil)
	if s.name == "toolbox-postgres" {
		_, err = p.ReadData(ctx, "SELECT 1.5 AS a, 'NaN'::float8 AS b", nil)
		check("ReadData", errorUnless(err != nil && strings.Contains(err.Error(), "block 1 of 1"), err), true, nil)
	}
	plan, err := p.Explain(ctx, "SELECT * FROM orders WHERE id = 2", nil)
	check("Explain", err, plan.Plan != nil, plan)
	info, err := p.DatabaseInfo(ctx)
	check("DatabaseInfo", err, info.Version != "", info)
}

func errorUnless(ok bool, err error) error {
	if ok {
		return nil
	}
	return fmt.Errorf("another error: %w", err)
}

// A tape is a handler that keeps what its server says.
type tape struct {
	rpc.Handler
	mu    sync.Mutex // guards what follows
	list  json.RawMessage
	calls []taped
}

type taped struct {
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result,omitempty"`
	Error  *rpc.Error      `json:"error,omitempty"`
}

func (t *tape) Do(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
	answer, err := t.Handler.Do(ctx, call)
	t.mu.Lock()
	defer t.mu.Unlock()
	switch call.Method {
	case "tools/list":
		t.list = append(json.RawMessage(nil), answer.Bytes()...)
	case "tools/call":
		one := taped{Params: call.Params, Result: append(json.RawMessage(nil), answer.Bytes()...)}
		errors.As(err, &one.Error)
		t.calls = append(t.calls, one)
	}
	return answer, err
}

// write writes the tape: which server it was, its tools without their
// descriptions, and each call with its answer.
func (t *tape) write(test *testing.T, name string) {
	who, err := t.Handler.Do(test.Context(), rpc.Call{Method: "server/discover"})
	if err != nil {
		test.Fatal(err)
	}
	var discovered struct {
		ServerInfo struct{ Name, Version string }
	}
	var list struct {
		Tools []struct {
			Name        string          `json:"name"`
			InputSchema json.RawMessage `json:"inputSchema"`
			Annotations json.RawMessage `json:"annotations,omitempty"`
		} `json:"tools"`
	}
	if err := errors.Join(json.Unmarshal(who.Bytes(), &discovered), json.Unmarshal(t.list, &list)); err != nil {
		test.Fatal(err)
	}
	for i := range list.Tools {
		list.Tools[i].InputSchema = undescribed(test, list.Tools[i].InputSchema)
	}
	text, err := json.MarshalIndent(map[string]any{"server": discovered.ServerInfo.Name, "version": discovered.ServerInfo.Version, "list": list, "calls": t.calls}, "", " ")
	if err != nil {
		test.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(*record, name+".json"), append(text, '\n'), 0o644); err != nil {
		test.Fatal(err)
	}
}

// undescribed takes the descriptions out of a schema.
func undescribed(t *testing.T, raw json.RawMessage) json.RawMessage {
	var schema any
	if err := json.Unmarshal(raw, &schema); err != nil {
		t.Fatal(err)
	}
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if _, ok := v["description"].(string); ok {
				delete(v, "description")
			}
			delete(v, "title")
			for _, inner := range v {
				walk(inner)
			}
		case []any:
			for _, inner := range v {
				walk(inner)
			}
		}
	}
	walk(schema)
	short, err := json.Marshal(schema)
	if err != nil {
		t.Fatal(err)
	}
	return short
}
