//go:build unix

package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"go.uber.org/goleak"

	"github.com/mcpool-dev/mcpool/internal/dbtest"
)

func init() {
	withServers = func(m *testing.M) goleak.TestingM { return dbtest.Servers(m) }
}

// shopSQL makes what tests read and write, on any engine.
const shopSQL = `CREATE TABLE customers (id integer PRIMARY KEY, name varchar(80) NOT NULL);
CREATE TABLE orders (id integer PRIMARY KEY, customer_id integer NOT NULL REFERENCES customers (id), total decimal(20,2));
CREATE TABLE numbers (n integer PRIMARY KEY);
INSERT INTO customers VALUES (1, 'Łukasz 李'), (2, 'Siobhán Nguyễn');
INSERT INTO orders VALUES (1, 1, 12345678901234567.89), (2, 1, 2), (3, 2, NULL), (4, 2, 4), (5, 2, 5);
INSERT INTO numbers WITH RECURSIVE up (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM up WHERE n < 1000) SELECT n FROM up;
`

// endless is a statement that ends long after any test. It reads shopSQL, and
// the word by which it is found in lists of what runs is in it.
const (
	endless     = "SELECT count(*) AS " + endlessWord + " FROM numbers a, numbers b, numbers c, numbers d WHERE a.n * b.n + c.n - d.n = -99999"
	endlessWord = "takes_for_ever"
)

// A base is a database for one test, with the tables of shopSQL, and a role
// that setup-sql has made.
type base struct {
	engine      string // as setup-sql calls it
	dsn         string // for the role, without its password; a file of SQLite
	owner       string // for who may do anything
	placeholder string // of the first parameter
	// exec runs SQL as who may do anything, and returns its rows.
	exec func(sql string) string
	// running is how many statements with endlessWord the database runs, and
	// open how many transactions are open; nil where it does not tell.
	running, open func() int
}

// password is that of the roles that setup-sql makes in tests. In a URL it has
// to be escaped.
const password = "a:b/c@d'e"

// engines are those that tests run on. A base is made where it is needed, or the
// test skipped.
var engines = map[string]func(testing.TB) *base{"sqlite": newSQLite, "postgres": newPostgres, "mariadb": newMariaDB}

// onEngines runs a test on each engine.
func onEngines(t *testing.T, test func(t *testing.T, b *base)) {
	for name, make := range engines {
		t.Run(name, func(t *testing.T) { test(t, make(t)) })
	}
}

func newSQLite(t testing.TB) *base {
	t.Helper()
	file := filepath.Join(t.TempDir(), "shop.db")
	b := &base{engine: "sqlite", dsn: file, owner: file, placeholder: "?"}
	b.exec = func(statements string) string {
		t.Helper()
		db, err := sql.Open("sqlite", file)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		return rowsOf(t, db, statements)
	}
	b.exec(shopSQL)
	return b
}

// rowsOf runs statements and returns the rows of the last, with | between
// values.
func rowsOf(t testing.TB, db *sql.DB, statements string) string {
	t.Helper()
	rows, err := db.QueryContext(context.Background(), statements)
	if err != nil {
		t.Fatalf("%s: %v", statements, err)
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	values, into := make([]sql.NullString, len(names)), make([]any, len(names))
	for i := range values {
		into[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		for i, v := range values {
			if i > 0 {
				all.WriteByte('|')
			}
			all.WriteString(v.String)
		}
		all.WriteByte('\n')
	}
	if err := rows.Err(); err != nil {
		t.Fatalf("%s: %v", statements, err)
	}
	return all.String()
}

// nameFor makes the name of a database or role of a test.
func nameFor(t testing.TB) string {
	sum := 0
	for _, c := range t.Name() {
		sum = (sum*31 + int(c)) % 1_000_000_007
	}
	return fmt.Sprintf("shop_%d", sum)
}

// setUp makes a role as an operator would, by what setup-sql prints.
func setUp(t testing.TB, engine, role, database, placeholder string, run func(sql string)) {
	t.Helper()
	status, out, stderr := finish(t, "db", "setup-sql", engine, "--database", database, "--role", role)
	if status != 0 || !strings.Contains(out, "'"+placeholder+"'") {
		t.Fatalf("setup-sql: status %d, %s%s", status, out, stderr)
	}
	run(strings.ReplaceAll(out, "'"+placeholder+"'", "'"+strings.ReplaceAll(password, "'", "''")+"'"))
}

func newPostgres(t testing.TB) *base { return postgresOn(t, dbtest.Postgres(t)) }

func postgresOn(t testing.TB, s *dbtest.PostgresServer) *base {
	t.Helper()
	name := nameFor(t)
	s.Database(t, name)
	s.Exec(t, name, shopSQL)
	role := name + "_ro"
	t.Cleanup(func() { s.Exec(t, name, "DROP OWNED BY "+role+"; DROP ROLE "+role) })
	setUp(t, "postgres", role, name, "put a password here", func(sql string) { s.Exec(t, name, sql) })
	b := &base{engine: "postgres", owner: s.Superuser(name), placeholder: "$1",
		dsn: fmt.Sprintf("postgres://%s@%s:%s/%s", role, s.Host, s.Port, name)}
	b.exec = func(sql string) string { t.Helper(); return s.Exec(t, name, sql) }
	watcher, err := pgconn.Connect(t.Context(), s.Superuser("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = watcher.Close(context.Background()) })
	others := func(which string) int {
		t.Helper()
		const counts = "SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = $1 AND "
		got := watcher.ExecParams(context.Background(), counts+which, [][]byte{[]byte(name)}, nil, nil, nil).Read()
		if got.Err != nil {
			t.Fatal(got.Err)
		}
		return count(t, string(got.Rows[0][0]))
	}
	b.running = func() int { t.Helper(); return others("state = 'active' AND query LIKE '%" + endlessWord + "%'") }
	b.open = func() int { t.Helper(); return others("xact_start IS NOT NULL AND backend_type = 'client backend'") }
	return b
}

func newMariaDB(t testing.TB) *base { return mariaDBOn(t, dbtest.MariaDB(t)) }

func mariaDBOn(t testing.TB, s *dbtest.MariaDBServer) *base {
	t.Helper()
	name := nameFor(t)
	s.Database(t, name)
	s.Exec(t, name, shopSQL)
	role := name + "_ro"
	t.Cleanup(func() { s.Exec(t, "", "DROP USER '"+role+"'@'%'") })
	setUp(t, "mysql", role, name, "change this password", func(sql string) { s.Exec(t, name, sql) })
	b := &base{engine: "mysql", owner: s.Root(name), placeholder: "?",
		dsn: fmt.Sprintf("mysql://%s@%s:%s/%s", role, s.Host, s.Port, name)}
	b.exec = func(sql string) string { t.Helper(); return s.Exec(t, name, sql) }
	watcher := s.Open(t, "")
	b.running = func() int {
		t.Helper()
		return count(t, rowsOf(t, watcher, "SELECT count(*) FROM information_schema.processlist WHERE id <> connection_id() AND info LIKE '%"+endlessWord+"%'"))
	}
	b.open = func() int {
		t.Helper()
		return count(t, rowsOf(t, watcher, "SELECT count(*) FROM information_schema.innodb_trx"))
	}
	return b
}

func count(t testing.TB, rows string) int {
	t.Helper()
	var n int
	if _, err := fmt.Sscan(rows, &n); err != nil {
		t.Fatalf("%q: %v", rows, err)
	}
	return n
}

// passwordFile writes the password of the roles.
func passwordFile(t testing.TB) string {
	t.Helper()
	return configure(t, "password", "%s\n", password)
}

// args are the flags that serve a base.
func (b *base) args(t testing.TB) []string {
	if b.engine == "sqlite" {
		return []string{"--dsn", b.dsn}
	}
	return []string{"--dsn", b.dsn, "--password-file", passwordFile(t)}
}

// entry is how a configuration has the base, with more members.
func (b *base) entry(t testing.TB, more map[string]any) map[string]any {
	entry := map[string]any{"dsn": b.dsn}
	if b.engine != "sqlite" {
		entry["password_file"] = passwordFile(t)
	}
	for key, value := range more {
		entry[key] = value
	}
	return entry
}

// configureDatabases writes a configuration of databases, with more sections.
func configureDatabases(t testing.TB, databases, more map[string]any) string {
	t.Helper()
	sections := map[string]any{"databases": databases}
	for key, value := range more {
		sections[key] = value
	}
	raw, err := json.Marshal(sections)
	if err != nil {
		t.Fatal(err)
	}
	return configure(t, "mcp.json", "%s", raw)
}

// A session is the official Go client, connected to a database server. It
// is content with nothing but results that are as the tools' schemas say.
type session struct {
	*mcp.ClientSession
	outputs map[string]*jsonschema.Resolved
}

// open connects a client that speaks a version.
func open(t testing.TB, transport mcp.Transport, version string, options *mcp.ClientOptions) *session {
	t.Helper()
	s, err := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, options).
		Connect(t.Context(), transport, &mcp.ClientSessionOptions{ProtocolVersion: version})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // some end before
	if got := s.InitializeResult().ProtocolVersion; got != version {
		t.Fatalf("agreed on %s, want %s", got, version)
	}
	list, err := s.ListTools(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	outputs := map[string]*jsonschema.Resolved{}
	for _, tool := range list.Tools {
		outputs[tool.Name] = resolve(t, tool.OutputSchema)
	}
	return &session{s, outputs}
}

func resolve(t testing.TB, schema any) *jsonschema.Resolved {
	t.Helper()
	raw, err := json.Marshal(schema)
	if err != nil {
		t.Fatal(err)
	}
	var s jsonschema.Schema
	if err := json.Unmarshal(raw, &s); err != nil {
		t.Fatal(err)
	}
	resolved, err := s.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	return resolved
}

// overHTTP is the transport to a server that listens.
func overHTTP(t testing.TB, p *program) mcp.Transport {
	return &mcp.StreamableClientTransport{Endpoint: p.url + "/mcp", HTTPClient: web(t)}
}

// transports are the ways to a database server, which is started with args.
var transports = map[string]func(t testing.TB, args ...string) mcp.Transport{
	"stdio": func(t testing.TB, args ...string) mcp.Transport {
		return &mcp.CommandTransport{Command: commandLine(t, append([]string{"db"}, args...)...)}
	},
	"HTTP": func(t testing.TB, args ...string) mcp.Transport { return overHTTP(t, serveDB(t, args...)) },
}

// An opener starts a database server with some flags and connects a client.
type opener func(options *mcp.ClientOptions, args ...string) *session

// onTransports runs a test by each transport and each era.
func onTransports(t *testing.T, test func(t *testing.T, open opener)) {
	for name, transport := range transports {
		for _, version := range versions {
			t.Run(name+" "+version, func(t *testing.T) {
				test(t, func(options *mcp.ClientOptions, args ...string) *session {
					t.Helper()
					return open(t, transport(t, args...), version, options)
				})
			})
		}
	}
}

// An answered is what a tool has answered, as far as tests look at it.
type answered struct {
	raw     string // structuredContent
	text    string
	isError bool

	Rows        json.RawMessage
	RowCount    int `json:"row_count"`
	Truncated   bool
	TruncatedBy string `json:"truncated_by"`
	Handle      string
	Complete    *bool
	Plan        json.RawMessage
	Warnings    []string
	Token       string
	Affected    int
	Committed   bool
	Status      string
	LastError   string `json:"last_error"`
	Pool        map[string]int
	ReadOnly    struct {
		Verified bool
		Role     []struct {
			Name, Detail string
			OK           bool
		}
		Warnings []string
	} `json:"read_only"`
	Databases []struct {
		Database, Status string
		LastError        string `json:"last_error"`
	}
	Error struct {
		Code, Layer, Message, Next string
		DidYouMean                 []string `json:"did_you_mean"`
		Retryable                  bool
		RetryAfter                 int `json:"retry_after_ms"`
	}
}

type object = map[string]any

// call calls a tool, whose answer has to be a result that its schema allows.
func (s *session) call(t testing.TB, tool string, arguments object) *answered {
	t.Helper()
	a, err := s.try(t.Context(), tool, arguments)
	if err != nil {
		t.Fatalf("%s %v: %v", tool, arguments, err)
	}
	return a
}

// want is call, for a result that is no error.
func (s *session) want(t testing.TB, tool string, arguments object) *answered {
	t.Helper()
	a := s.call(t, tool, arguments)
	if a.isError {
		t.Fatalf("%s %v: %s", tool, arguments, a.text)
	}
	return a
}

// fail is call, for a result that is an error with that code.
func (s *session) fail(t testing.TB, code, tool string, arguments object) *answered {
	t.Helper()
	a := s.call(t, tool, arguments)
	if !a.isError || a.Error.Code != code || a.Error.Message == "" || a.Error.Next == "" {
		t.Errorf("%s %v: want %s, got %s", tool, arguments, code, a.text)
	}
	return a
}

// try calls a tool from any goroutine.
func (s *session) try(ctx context.Context, tool string, arguments object) (*answered, error) {
	result, err := s.CallTool(ctx, &mcp.CallToolParams{Name: tool, Arguments: arguments})
	if err != nil {
		return nil, err
	}
	if len(result.Content) != 1 {
		return nil, fmt.Errorf("there are %d contents", len(result.Content))
	}
	if err := s.outputs[tool].Validate(result.StructuredContent); err != nil {
		return nil, fmt.Errorf("its schema does not allow %v: %w", result.StructuredContent, err)
	}
	raw, err := json.Marshal(result.StructuredContent)
	if err != nil {
		return nil, err
	}
	a := &answered{raw: string(raw), text: result.Content[0].(*mcp.TextContent).Text, isError: result.IsError}
	return a, json.Unmarshal(raw, a)
}

// TestEveryToolOnEveryEngine has clients of both eras call all tools of mcpool
// db, over stdio and HTTP, as the role that setup-sql makes.
func TestEveryToolOnEveryEngine(t *testing.T) {
	onEngines(t, func(t *testing.T, b *base) {
		onTransports(t, func(t *testing.T, open opener) {
			s := open(nil, b.args(t)...)
			everyTool(t, s, b, "main", object{})
		})
	})
}

// everyTool calls each tool that reads. chosen is the argument that chooses the
// database, which is called name.
func everyTool(t *testing.T, s *session, b *base, name string, chosen object) {
	with := func(arguments object) object {
		all := object{}
		for _, part := range []object{chosen, arguments} {
			for key, value := range part {
				all[key] = value
			}
		}
		return all
	}
	tables := s.want(t, "list_tables", with(object{"detail": "full"}))
	for _, table := range []string{"customers", "numbers", "orders"} {
		if !strings.Contains(tables.raw, `"name":"`+table+`"`) {
			t.Errorf("no %s in %s", table, tables.raw)
		}
	}
	if none := s.want(t, "list_tables", with(object{"pattern": "no such table"})); !strings.Contains(none.raw, `"tables":[]`) {
		t.Errorf("of none it lists %s", none.raw)
	}
	orders := s.want(t, "describe_table", with(object{"table_name": "orders", "sample_rows": 2}))
	for _, part := range []string{`"customers"`, `"customer_id"`, `"samples"`} {
		if !strings.Contains(orders.raw, part) {
			t.Errorf("no %s in %s", part, orders.raw)
		}
	}
	if both := s.want(t, "describe_table", with(object{"table_names": []string{"orders", "customers"}})); !strings.Contains(both.raw, `"referenced_by"`) {
		t.Errorf("described %s", both.raw)
	}
	const byID = "SELECT name FROM customers WHERE id = "
	for _, arguments := range []object{
		{"query": byID + b.placeholder, "params": []any{2}},
		{"query": byID + ":id", "params": object{"id": 2}},
		{"query": byID + ":id", "params": object{"id": 2}, "shape": "columns"},
	} {
		if got := s.want(t, "read_data", with(arguments)); string(got.Rows) != `[["Siobhán Nguyễn"]]` {
			t.Errorf("%v: read %s", arguments, got.Rows)
		}
	}
	if got := s.want(t, "read_data", with(object{"query": byID + "1", "shape": "objects"})); string(got.Rows) != `[{"name":"Łukasz 李"}]` {
		t.Errorf("read %s", got.Rows)
	}
	page := s.want(t, "read_data", with(object{"query": "SELECT n FROM numbers ORDER BY n", "limit": 300}))
	if page.RowCount != 300 || page.TruncatedBy != "rows" || page.Handle == "" {
		t.Fatalf("the first page is %.300s", page.raw)
	}
	for all := 300; page.Handle != ""; {
		page = s.want(t, "fetch_rows", object{"handle": page.Handle, "limit": 300})
		if !strings.HasPrefix(string(page.Rows), fmt.Sprintf("[[%d],", all+1)) {
			t.Errorf("the page behind row %d is %.100s", all, page.Rows)
		}
		if all += page.RowCount; page.Handle == "" && (all != 1000 || page.Complete == nil || !*page.Complete) {
			t.Errorf("there were %d rows, and at last %.300s", all, page.raw)
		}
	}
	if plan := s.want(t, "explain_query", with(object{"query": "SELECT count(*) FROM numbers"})); !strings.Contains(plan.text, "numbers") {
		t.Errorf("the plan is %s", plan.text)
	}
	info := s.want(t, "database_info", with(object{}))
	if info.Status != "ready" || !info.ReadOnly.Verified || len(info.ReadOnly.Warnings) > 0 || info.LastError != "" {
		t.Errorf("database_info is %s", info.raw)
	}
	for _, check := range info.ReadOnly.Role {
		if !check.OK {
			t.Errorf("the role of setup-sql: %s: %s", check.Name, check.Detail)
		}
	}
	if b.engine != "sqlite" && len(info.ReadOnly.Role) == 0 {
		t.Errorf("the role was not looked at: %s", info.raw)
	}

	if got := s.fail(t, "UNKNOWN_OBJECT", "read_data", with(object{"query": "SELECT * FROM custmers"})); fmt.Sprint(got.Error.DidYouMean) != "[customers]" {
		t.Errorf("did you mean %v", got.Error.DidYouMean)
	}
	s.fail(t, "SYNTAX_ERROR", "read_data", with(object{"query": "SELECT FROM WHERE"}))
	s.fail(t, "READ_ONLY_VIOLATION", "read_data", with(object{"query": "DELETE FROM orders"}))
	s.fail(t, "MULTI_STATEMENT", "read_data", with(object{"query": "SELECT 1; SELECT 2"}))
	s.fail(t, "INVALID_ARGUMENT", "read_data", with(object{"query": byID + b.placeholder}))
	if got := s.fail(t, "INVALID_ARGUMENT", "read_data", with(object{"query": byID + "1", "params": "2"})); !strings.HasPrefix(got.Error.Message, "arguments: params: it has") {
		t.Errorf("params that are a text: %s", got.text)
	}
	s.fail(t, "HANDLE_EXPIRED", "fetch_rows", object{"handle": "no handle"})
	s.fail(t, "UNKNOWN_OBJECT", "describe_table", with(object{"table_name": "custmers"}))

	for _, uri := range []string{"db://" + name + "/schema", "db://" + name + "/status", "db://" + name + "/table/orders"} {
		got, err := s.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: uri})
		if err != nil || len(got.Contents) != 1 || !json.Valid([]byte(got.Contents[0].Text)) {
			t.Errorf("%s: %+v, %v", uri, got, err)
		}
	}
	if list, err := s.ListResourceTemplates(t.Context(), nil); err != nil || len(list.ResourceTemplates) != 2 {
		t.Errorf("templates: %+v, %v", list, err)
	}
}

// TestNamesAreTakenAsTheyAre describes tables with names that have to be quoted.
func TestNamesAreTakenAsTheyAre(t *testing.T) {
	onEngines(t, func(t *testing.T, b *base) {
		s := open(t, transports["HTTP"](t, b.args(t)...), versions[1], nil)
		for _, name := range []string{"Ünï 李", "it's", "UPPER", "select", `q"t`} {
			quote := `"`
			if b.engine == "mysql" {
				quote = "`"
			}
			b.exec("CREATE TABLE " + quote + strings.ReplaceAll(name, quote, quote+quote) + quote + " (x integer)")
			if got := s.want(t, "describe_table", object{"table_name": name}); !strings.Contains(got.text, "table ") || !strings.Contains(got.text, name) {
				t.Errorf("%s is described as %s", name, got.text)
			}
		}
	})
}

// TestSeveralDatabasesAtOnce serves one database of each engine, by flags and by
// a configuration, with an audit and a tool of one's own.
func TestSeveralDatabasesAtOnce(t *testing.T) {
	bases, entries := map[string]*base{}, map[string]any{}
	var dsns []string
	for name, make := range engines {
		b := make(t)
		bases[name], entries[name] = b, b.entry(t, nil)
		dsns = append(dsns, "--dsn", name+"="+b.dsn)
	}
	test := func(t *testing.T, s *session, audit string) {
		for name, b := range bases {
			everyTool(t, s, b, name, object{"database": name})
		}
		if got := s.fail(t, "INVALID_ARGUMENT", "list_tables", object{}); !strings.Contains(got.Error.Message, "database") {
			t.Errorf("without a database: %s", got.text)
		}
		s.fail(t, "INVALID_ARGUMENT", "list_tables", object{"database": "mariadc"})
		if info := s.want(t, "database_info", object{}); len(info.Databases) != len(engines) {
			t.Errorf("database_info is %s", info.raw)
		}
		if s.outputs["orders_of"] != nil {
			if got := s.want(t, "orders_of", object{"id": 1}); string(got.Rows) != `[[1,"12345678901234567.89"],[2,"2.00"]]` {
				t.Errorf("orders_of read %s", got.Rows)
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		status, out, stderr := finish(t, "db", "verify-audit", audit)
		if status != 0 || !strings.Contains(out, " lines hold") || strings.HasPrefix(out, "0 ") {
			t.Errorf("verify-audit: status %d, %s%s", status, out, stderr)
		}
	}
	t.Run("flags", func(t *testing.T) {
		onTransports(t, func(t *testing.T, open opener) {
			audit := filepath.Join(t.TempDir(), "audit.jsonl")
			test(t, open(nil, append(dsns, "--password-file", passwordFile(t), "--audit", audit)...), audit)
		})
	})
	t.Run("file", func(t *testing.T) {
		onTransports(t, func(t *testing.T, open opener) {
			audit := filepath.Join(t.TempDir(), "audit.jsonl")
			s := open(nil, "--config", configureDatabases(t, entries, map[string]any{"database_server": object{
				"audit": object{"file": audit, "statements": "full"},
				"tools": object{"orders_of": object{"description": "Orders of a customer", "database": "mariadb",
					"statement": "SELECT id, total FROM orders WHERE customer_id = :id", "params": object{"id": object{"type": "integer"}}}},
			}}))
			if s.outputs["orders_of"] == nil {
				t.Error("there is no orders_of")
			}
			test(t, s, audit)
		})
	})
}
