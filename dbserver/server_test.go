package dbserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
	"go.uber.org/goleak"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
	"github.com/mcpool-dev/mcpool/rpc"
)

var testDir string // for the whole run

func TestMain(m *testing.M) {
	var err error
	if testDir, err = os.MkdirTemp("", "dbserver"); err != nil {
		panic(err)
	}
	if err := os.Setenv("TMPDIR", testDir); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(mcptest.Settled(m), goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(testDir) // of a temporary directory nobody needs to know
		os.Exit(code)
	}))
}

// samplePath makes the sample once for all tests of the package, and for the
// example after them: under the race detector it takes longer than a call may.
var samplePath = sync.OnceValues(func() (string, error) {
	return Sample(context.Background(), filepath.Join(testDir, "mcpool", "sample"))
})

func serveSample(t testing.TB, options Database) *Server {
	t.Helper()
	path, err := samplePath()
	if err != nil {
		t.Fatal(err)
	}
	options.DSN = path
	return serve(t, options)
}

func serve(t testing.TB, options Database) *Server {
	t.Helper()
	s, err := New(Options{Databases: []Database{options}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

// An answer is the result of a tool, read back.
type answer struct {
	Content []struct{ Type, Text string }
	IsError bool

	StructuredContent struct {
		Columns     []struct{ Name, Type string }
		Rows        [][]any
		RowCount    int    `json:"row_count"`
		Truncated   bool   `json:"truncated"`
		TruncatedBy string `json:"truncated_by"`
		Notices     []string
		Handle      string
		Complete    *bool
		Status      string
		LastError   string `json:"last_error"`
		Error       struct {
			Code, Layer, Message, Next string
			Retryable                  bool
			DidYouMean                 []string `json:"did_you_mean"`
		}
	}
	structured json.RawMessage
}

func (a *answer) text() string { return a.Content[0].Text }

// allTools are the tools of a server that has all of them.
func allTools() *toolset {
	t := newToolset([]*database{{Database: Database{Mode: Write}}})
	t.seal()
	return t
}

// outputs are the output schemas by tool.
var outputs = sync.OnceValue(func() map[string]*jsonschema.Resolved {
	var list struct {
		Tools []struct {
			Name         string
			OutputSchema *jsonschema.Schema
		}
	}
	if err := json.Unmarshal(allTools().list, &list); err != nil {
		panic(err)
	}
	schemas := map[string]*jsonschema.Resolved{}
	for _, tool := range list.Tools {
		resolved, err := tool.OutputSchema.Resolve(nil)
		if err != nil {
			panic(err)
		}
		schemas[tool.Name] = resolved
	}
	return schemas
})

func try(ctx context.Context, s *Server, tool string, arguments any) (*answer, error) {
	return tryCall(ctx, s, rpc.Call{}, tool, arguments)
}

// do calls a tool on behalf of a caller.
func do(t testing.TB, s *Server, c rpc.Call, tool string, arguments any) *answer {
	t.Helper()
	a, err := tryCall(t.Context(), s, c, tool, arguments)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func tryAs(ctx context.Context, s *Server, principal, tool string, arguments any) (*answer, error) {
	return tryCall(ctx, s, rpc.Call{Caller: rpc.Caller{Principal: principal}}, tool, arguments)
}

func tryCall(ctx context.Context, s *Server, c rpc.Call, tool string, arguments any) (*answer, error) {
	params, err := json.Marshal(map[string]any{"name": tool, "arguments": arguments})
	if err != nil {
		return nil, err
	}
	c.Method, c.Params = "tools/call", params
	got, err := s.Do(ctx, c)
	if err != nil {
		return nil, err
	}
	a := new(answer)
	decoder := json.NewDecoder(strings.NewReader(string(got.Bytes())))
	decoder.UseNumber()
	if err := decoder.Decode(a); err != nil {
		return nil, fmt.Errorf("result of %s is not JSON: %w\n%s", tool, err, got.Bytes())
	}
	var raw struct{ StructuredContent json.RawMessage }
	var value any
	if err := errors.Join(json.Unmarshal(got.Bytes(), &raw), json.Unmarshal(raw.StructuredContent, &value)); err != nil {
		return nil, err
	}
	a.structured = raw.StructuredContent
	schema := outputs()[tool]
	if schema == nil { // a tool of one's own
		if schema = outputs()["read_data"]; strings.Contains(string(got.Bytes()), `"committed":`) {
			schema = outputs()["write_data"]
		}
	}
	if err := schema.Validate(value); err != nil {
		return nil, fmt.Errorf("structuredContent of %s does not fit its schema: %w\n%s", tool, err, raw.StructuredContent)
	}
	if len(a.Content) != 1 || a.Content[0].Type != "text" {
		return nil, fmt.Errorf("content of %s is not one text", tool)
	}
	return a, nil
}

// call calls a tool. Every answer in these tests is checked against its output
// schema.
func call(t testing.TB, s *Server, tool string, arguments any) *answer {
	t.Helper()
	a, err := try(t.Context(), s, tool, arguments)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

type object = map[string]any

func read(t testing.TB, s *Server, query string, params ...any) *answer {
	t.Helper()
	if params == nil {
		params = []any{}
	}
	return call(t, s, "read_data", object{"query": query, "params": params})
}

func wantCode(t testing.TB, a *answer, code string) {
	t.Helper()
	e := a.StructuredContent.Error
	if !a.IsError || e.Code != code {
		t.Fatalf("got isError %t and code %q, want %q: %s", a.IsError, e.Code, code, a.structured)
	}
	if e.Message == "" || e.Next == "" || e.Layer == "" {
		t.Errorf("error without message, next or layer: %s", a.structured)
	}
	if !strings.Contains(a.text(), code) || !strings.Contains(a.text(), e.Next) {
		t.Errorf("text does not say the error: %s", a.text())
	}
}

func TestDiscoverOpensNoDatabase(t *testing.T) {
	s := serve(t, Database{DSN: "/nowhere.db"})
	got, err := s.Do(t.Context(), rpc.Call{Method: "server/discover"})
	if want := `{"supportedVersions":[],"capabilities":{"tools":{},"resources":{}}}`; err != nil || string(got.Bytes()) != want {
		t.Errorf("got %s, %v, want %s", got.Bytes(), err, want)
	}
}

func TestToolsList(t *testing.T) {
	s := serve(t, Database{DSN: "/nowhere.db"}) // listed though the database is down
	got, err := s.Do(t.Context(), rpc.Call{Method: "tools/list"})
	if err != nil {
		t.Fatal(err)
	}
	// A token is 3 to 4 characters of such JSON.
	if n := len(got.Bytes()); n > 2500*7/2 {
		t.Errorf("tools/list has %d bytes, which is more than about 2,500 tokens", n)
	}
	var list struct {
		Tools []struct {
			Name, Title, Description string
			InputSchema              struct {
				Type                 string
				AdditionalProperties *bool
			}
			OutputSchema struct{ Type string }
			Annotations  map[string]bool
		}
	}
	if err := json.Unmarshal(got.Bytes(), &list); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, tool := range list.Tools {
		names = append(names, tool.Name)
		if tool.Title == "" || tool.Description == "" || tool.InputSchema.Type != "object" || tool.OutputSchema.Type != "object" ||
			tool.InputSchema.AdditionalProperties == nil || *tool.InputSchema.AdditionalProperties {
			t.Errorf("%s is not fully described: %+v", tool.Name, tool)
		}
		for hint, want := range map[string]bool{"readOnlyHint": true, "destructiveHint": false, "idempotentHint": true, "openWorldHint": false} {
			if got, ok := tool.Annotations[hint]; !ok || got != want {
				t.Errorf("%s: %s is %t, %t", tool.Name, hint, got, ok)
			}
		}
	}
	if got := strings.Join(names, " "); got != "list_tables describe_table read_data fetch_rows explain_query database_info" {
		t.Errorf("tools are %s", got)
	}
}

func TestWrongCallsAreProtocolErrors(t *testing.T) {
	s := serveSample(t, Database{})
	for _, c := range []struct {
		method, params string
		code           int
	}{
		{"prompts/list", `{}`, rpc.CodeMethodNotFound},
		{"", ``, rpc.CodeMethodNotFound},
		{"tools/call", `{"name":"write_data","arguments":{}}`, rpc.CodeInvalidParams},
		{"tools/call", `{"name":7}`, rpc.CodeInvalidParams},
		{"tools/call", ``, rpc.CodeInvalidParams},
	} {
		_, err := s.Do(t.Context(), rpc.Call{Method: c.method, Params: []byte(c.params)})
		var e *rpc.Error
		if !errors.As(err, &e) || e.Code != c.code {
			t.Errorf("%s %s: got %v, want code %d", c.method, c.params, err, c.code)
		}
	}
}

func TestWrongArgumentsAreToolErrors(t *testing.T) {
	s := serveSample(t, Database{})
	for _, c := range []struct {
		tool, arguments, says string
	}{
		{"list_tables", `{"x":1}`, `"x"`},
		{"list_tables", `[]`, "not an object"},
		{"describe_table", `{}`, "table_name"},
		{"describe_table", `{"table_name":""}`, "table_name"},
		{"describe_table", `{"table_name":7}`, "table_name"},
		{"read_data", `{"limit":7}`, "query"},
		{"read_data", `{"query":"SELECT 1","limit":0}`, "limit"},
		{"read_data", `{"query":"SELECT 1","limit":"7"}`, "limit"},
		{"read_data", `{"query":"SELECT 1","limit":1.5}`, "limit"},
		{"read_data", `{"query":"SELECT 1","params":{"a":1}}`, "params"},
		{"read_data", `{"query":"SELECT ?","params":[[1]]}`, "params"},
		{"read_data", `{"query":"SELECT ?","params":[]}`, "has 1 placeholders, and params has 0 values"},
		{"read_data", `{"query":"SELECT ?","params":[1,2]}`, "has 1 placeholders, and params has 2 values"},
		{"read_data", `{"query":"SELECT ?2","params":[1,2,3]}`, "has 2 placeholders, and params has 3 values"},
		{"read_data", `{"query":"SELECT 1","params":[null]}`, "has 0 placeholders, and params has 1 values"},
		{"explain_query", `{"query":"SELECT ?","params":[1,2]}`, "has 1 placeholders, and params has 2 values"},
		{"read_data", `{"query":"SELECT :a","params":[1]}`, `"a"`},
		{"read_data", `{"query":"SELECT ?","params":[9223372036854775808]}`, "9223372036854775808"},
		{"read_data", `{"query":"SELECT ?","params":[1e999]}`, "1e999"},
		{"read_data", `{"query":"SELECT 1\u0000; DROP TABLE sales"}`, "zero byte"},
		{"explain_query", `{"query":"\u0000SELECT 1"}`, "zero byte"},
	} {
		a := call(t, s, c.tool, json.RawMessage(c.arguments))
		wantCode(t, a, engine.InvalidArgument)
		if !strings.Contains(a.StructuredContent.Error.Message, c.says) {
			t.Errorf("%s %s: %q does not say %q", c.tool, c.arguments, a.StructuredContent.Error.Message, c.says)
		}
	}
}

func TestNewRefusesWhatMakesNoSense(t *testing.T) {
	prepare := func(context.Context) (string, error) { return "", nil }
	for _, o := range []Database{
		{},
		{DSN: "x.db", Prepare: prepare},
		{DSN: "oracle://localhost/x"},
		{DSN: "x.db", Engine: "oracle"},
		{DSN: "x.db", Mode: "rw"},
		{DSN: "x.db", MaxAffected: 5},
		{DSN: "x.db", WriteDSN: "y.db"},
		{DSN: "x.db", Name: "a b"},
		{DSN: "x.db", DenyTables: []string{"a["}},
		{DSN: "x.db", Masks: []Mask{{Columns: []string{"a"}, With: "stars"}}},
		{DSN: "x.db", MaxRows: -1},
		{DSN: "x.db", MaxBytes: -1},
		{DSN: "x.db", SpoolBytes: -1},
		{DSN: "x.db", SpoolBytes: 1 << 30},
		{DSN: "x.db", Timeout: -1},
		{DSN: "x.db", MaxConnections: -1},
		{DSN: "x.db", Role: "reader"},
		{DSN: "x.db", PrincipalSetting: "app.user"},
		{DSN: "x.db", TLSMode: "verify-full"},
		{DSN: "x.db", CAFile: "ca.pem"},
		{DSN: "sqlserver://h/x", Role: "reader"},
		{DSN: "mysql://h/x", PrincipalSetting: "app user"},
	} {
		if _, err := New(Options{Databases: []Database{o}}); err == nil {
			t.Errorf("New(%+v) succeeded", o)
		}
	}
	for _, o := range []Options{{Key: []byte("short")}, {HandleTTL: -1}, {MaxCallsPerPrincipal: -1}} {
		if o.Databases = []Database{{DSN: "x.db"}}; !refused(o) {
			t.Errorf("New(%+v) succeeded", o)
		}
	}
	if !refused(Options{}) {
		t.Error("New without a database succeeded")
	}
}

func refused(o Options) bool {
	_, err := New(o)
	return err != nil
}

func TestFailedOpeningIsTriedAgain(t *testing.T) {
	path, err := samplePath()
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "later.db")
	s := serve(t, Database{DSN: link})
	for range 2 {
		a := call(t, s, "list_tables", object{})
		wantCode(t, a, engine.Unreachable)
		if e := a.StructuredContent.Error; !e.Retryable || !strings.Contains(e.Message, "no such file") {
			t.Errorf("error is %+v", e)
		}
	}
	info := call(t, s, "database_info", object{}).StructuredContent
	if info.Status != "down" || !strings.Contains(info.LastError, "no such file") {
		t.Errorf("status is %q, last error %q", info.Status, info.LastError)
	}
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if a := read(t, s, "SELECT 1"); a.IsError {
		t.Errorf("after the file came: %s", a.structured)
	}
	if info := call(t, s, "database_info", object{}).StructuredContent; info.Status != "ready" || info.LastError != "" {
		t.Errorf("status is %q, last error %q", info.Status, info.LastError)
	}
}

func TestFileThatIsNoDatabaseIsUnreachable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.db")
	if err := os.WriteFile(file, []byte(strings.Repeat("not a database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	wantCode(t, call(t, serve(t, Database{DSN: file}), "list_tables", object{}), engine.Unreachable)
	wantCode(t, call(t, serve(t, Database{DSN: filepath.Dir(file)}), "list_tables", object{}), engine.Unreachable)
}

func TestOpeningHappensOnceForAllCallers(t *testing.T) {
	var prepared atomic.Int32
	proceed := make(chan struct{})
	s := serve(t, Database{Prepare: func(context.Context) (string, error) {
		if prepared.Add(1) == 1 {
			<-proceed
			return "", errors.New("not yet")
		}
		return samplePath()
	}})
	impatient, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	started := make(chan struct{}, 20)
	for i := range 20 {
		ctx := t.Context()
		if i == 0 {
			ctx = impatient
		}
		wg.Go(func() {
			started <- struct{}{}
			switch a, err := try(ctx, s, "list_tables", object{}); {
			case i == 0 && !errors.Is(err, context.Canceled):
				t.Errorf("the caller who gave up got %v", err)
			case i > 0 && err != nil:
				t.Error(err)
			case i > 0 && a.IsError && a.StructuredContent.Error.Code != engine.Unreachable:
				t.Errorf("got %s", a.structured)
			}
		})
	}
	for range 20 {
		<-started
	}
	cancel() // the opening does not belong to who caused it
	close(proceed)
	wg.Wait()
	if a := call(t, s, "list_tables", object{}); a.IsError {
		t.Errorf("the next call: %s", a.structured)
	}
	// One failed; those who came after it shared a second.
	if n := prepared.Load(); n != 2 {
		t.Errorf("prepared %d times", n)
	}
}

func TestLostFileIsPreparedAgain(t *testing.T) {
	path, err := samplePath()
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "x.db")
	s := serve(t, Database{MaxLifetime: time.Nanosecond, Prepare: func(context.Context) (string, error) { // each call needs a connection
		return link, os.Symlink(path, link)
	}})
	if a := read(t, s, "SELECT 1"); a.IsError {
		t.Fatal(string(a.structured))
	}
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	wantCode(t, read(t, s, "SELECT 1"), engine.Unreachable)
	if a := read(t, s, "SELECT 1"); a.IsError {
		t.Fatal(string(a.structured))
	}
}

func TestCloseEndsCallsUnderWay(t *testing.T) {
	path, err := samplePath()
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Options{Databases: []Database{{DSN: path}}})
	if err != nil {
		t.Fatal(err)
	}
	if a := read(t, s, "SELECT 1"); a.IsError {
		t.Fatal(string(a.structured))
	}
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			a, err := try(t.Context(), s, "read_data", object{"query": endless})
			if err != nil || a.StructuredContent.Error.Code != engine.Cancelled {
				t.Errorf("got %+v, %v", a, err)
			}
		})
	}
	for pool(t, s)["in_use"] < 3 {
		runtime.Gosched() // statements run inside the engine, which tells of no event
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := try(t.Context(), s, "list_tables", object{}); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestCallsRunAtTheSameTime(t *testing.T) {
	s := serveSample(t, Database{MaxConnections: 4})
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			a, err := try(t.Context(), s, "read_data", object{"query": "SELECT ?, count(*) FROM stores", "params": []any{i}})
			if err != nil {
				t.Error(err)
				return
			}
			if got := fmt.Sprint(a.StructuredContent.Rows); got != fmt.Sprintf("[[%d 21]]", i) {
				t.Errorf("call %d got %s", i, got)
			}
		})
	}
	wg.Wait()
	if stats := pool(t, s); stats["open"] > 4 || stats["in_use"] != 0 {
		t.Errorf("connections: %v", stats)
	}
}

func TestDatabaseInfo(t *testing.T) {
	s := serveSample(t, Database{Name: "shop", MaxRows: 50})
	a := call(t, s, "database_info", object{})
	var info databaseInfo
	if err := json.Unmarshal(a.structured, &info); err != nil {
		t.Fatal(err)
	}
	if info.Database != "shop" || info.Engine != "sqlite" || info.Version == "" || info.Mode != "read_only" || info.Status != "ready" {
		t.Errorf("info is %+v", info)
	}
	if info.ReadOnly == nil || !info.ReadOnly.Verified || len(info.ReadOnly.EnforcedBy) < 3 {
		t.Errorf("read-only is %+v", info.ReadOnly)
	}
	if info.Limits["rows"] != 50 || info.Limits["default_rows"] != 50 || info.Limits["statement_timeout_ms"] != 30000 || info.Limits["spool_rows"] != DefaultSpoolRows || info.Limits["spool_bytes"] != DefaultSpoolBytes {
		t.Errorf("limits are %v", info.Limits)
	}
	if info.Pool["max_connections"] != DefaultMaxConnections || info.Pool["open"] != 1 {
		t.Errorf("pool is %v", info.Pool)
	}
	if info.Size == 0 || !filepath.IsAbs(info.Place) {
		t.Errorf("file is %q, %d bytes", info.Place, info.Size)
	}
}

// pool is what database_info tells of the connections.
func pool(t testing.TB, s *Server) map[string]int64 {
	t.Helper()
	var info databaseInfo
	if err := json.Unmarshal(call(t, s, "database_info", object{}).structured, &info); err != nil {
		t.Fatal(err)
	}
	return info.Pool
}
