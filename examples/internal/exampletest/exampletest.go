// Package exampletest has what the tests of the examples have in common.
package exampletest

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	_ "modernc.org/sqlite"

	"github.com/mcpool-dev/mcpool/dbplugin"
	"github.com/mcpool-dev/mcpool/examples/internal/program"
	"github.com/mcpool-dev/mcpool/examples/internal/script"
	"github.com/mcpool-dev/mcpool/gateway"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
	"github.com/mcpool-dev/mcpool/rpc"
)

// patience bounds a run of an agent, which takes less than a second.
const patience = time.Minute

// Main runs the tests with a sample database of their own, and fails if
// goroutines are left.
func Main(m *testing.M) {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	for _, name := range []string{"HOME", "XDG_CACHE_HOME"} { // where os.UserCacheDir looks
		if err := os.Setenv(name, dir); err != nil {
			panic(err)
		}
	}
	// Under the race detector it takes longer than a call may.
	if _, err := program.Sample(context.Background()); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(mcptest.Settled(m), goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(dir) // of a temporary directory nobody needs to know
		os.Exit(code)
	}))
}

// Agent has the agent ask the scripted model, about the sample in its own
// process and about one behind a gateway, and compares the answer with what the
// database file says.
func Agent(t *testing.T, a program.Agent) {
	want := fmt.Sprintf("The revenue from tea in the North was %d cents in 2024.\n", figure(t))
	ask := func(t *testing.T, args ...string) {
		t.Helper()
		if got, err := run(t, a, args...); err != nil || got != want {
			t.Errorf("got %q, %v\nwant %q", got, err, want)
		}
	}
	t.Run("in process", func(t *testing.T) {
		ask(t, "-scripted")
	})
	t.Run("over HTTP", func(t *testing.T) {
		db := &meeting{tool: `"describe_table"`, size: 3, all: make(chan struct{})}
		url := serve(t, db)
		model := httptest.NewServer(script.Handler(functions(t, db), slog.Default()))
		t.Cleanup(model.Close)
		t.Setenv(a.Provider+"_API_KEY", script.Key)
		t.Setenv(a.Provider+"_BASE_URL", model.URL)
		ask(t, "-mcp", url, "-model", script.Model, script.Question)
		if !db.met() {
			t.Error("the gateway's database was not asked")
		}
	})
}

// Answers of OpenAI's API for Stuck: one that is not whole, and a function call.
const (
	CutOff  = `{"choices":[{"index":0,"finish_reason":"length","message":{"role":"assistant","content":"The"}}]}`
	Endless = `{"choices":[{"index":0,"finish_reason":"tool_calls","message":{"role":"assistant","tool_calls":[{"id":"1","type":"function","function":{"name":"get_database_info","arguments":"{}"}}]}}]}`
)

// Stuck has the agent ask a model that always gives the same answer, and wants
// an error that has the words.
func Stuck(t *testing.T, a program.Agent, answer, words string) {
	model := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // so that the connection can be used again
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, answer) // a client that has gone fails the test by itself
	}))
	t.Cleanup(model.Close)
	t.Setenv(a.Provider+"_API_KEY", "any")
	got, err := run(t, a, "-base-url", model.URL)
	if err == nil || got != "" || !strings.Contains(err.Error(), words) {
		t.Errorf("got %q, %v\nwant an error that says %q", got, err, words)
	}
}

func run(t *testing.T, a program.Agent, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var out bytes.Buffer
	err := a.Run(ctx, args, &out)
	return out.String(), err
}

// figure reads what the scripted model is to answer from the file itself.
func figure(t *testing.T) (cents int) {
	t.Helper()
	path, err := program.Sample(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRowContext(t.Context(), `SELECT sum(amount_cents) FROM sales
		WHERE product_id IN (SELECT product_id FROM products WHERE category = 'tea')
		AND store_id IN (SELECT store_id FROM stores WHERE region = 'North')
		AND date_key BETWEEN 20240101 AND 20241231`).Scan(&cents); err != nil {
		t.Fatal(err)
	}
	return cents
}

// serve serves the sample through a gateway. Calls pass by db on their way.
func serve(t *testing.T, db *meeting) (url string) {
	t.Helper()
	server, err := program.SampleServer()
	if err != nil {
		t.Fatal(err)
	}
	db.Handler = server
	g, err := gateway.New([]gateway.Server{{Name: "sales", Handler: db}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(g)
	t.Cleanup(func() {
		if err := errors.Join(g.Close(context.Background()), server.Close()); err != nil {
			t.Error(err)
		}
		front.Close()
	})
	return front.URL + "/mcp"
}

// A meeting holds back the calls of a tool until size of them have come.
type meeting struct {
	rpc.Handler
	tool string
	size int

	mu   sync.Mutex // guards come
	come int
	all  chan struct{} // closed when all have come
}

func (m *meeting) Do(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
	if call.Method == "tools/call" && strings.Contains(string(call.Params), m.tool) {
		m.mu.Lock()
		if m.come++; m.come == m.size {
			close(m.all)
		}
		m.mu.Unlock()
		select {
		case <-m.all:
		case <-ctx.Done():
			return rpc.Answer{}, ctx.Err()
		case <-time.After(patience / 4):
			return rpc.Answer{}, errors.New("the calls of one turn are not made at once")
		}
	}
	return m.Handler.Do(ctx, call)
}

func (m *meeting) met() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.come == m.size
}

// Reason is why the functions of Unreachable fail.
const Reason = "the line is dead"

// Unreachable returns functions of a database that cannot be reached.
func Unreachable(t *testing.T) []dbplugin.Function {
	t.Helper()
	server, err := program.SampleServer()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return functions(t, dead{server})
}

// A dead server tells which tools it has, and no more.
type dead struct{ rpc.Handler }

func (d dead) Do(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
	if call.Method == "tools/call" {
		return rpc.Answer{}, errors.New(Reason)
	}
	return d.Handler.Do(ctx, call)
}

func functions(t *testing.T, server rpc.Handler) []dbplugin.Function {
	t.Helper()
	plugin, err := dbplugin.New(server, nil)
	if err != nil {
		t.Fatal(err)
	}
	functions, err := plugin.Functions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return functions
}
