package admin_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/admin"
	"github.com/mcpool-dev/mcpool/dbserver"
	"github.com/mcpool-dev/mcpool/gateway"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

// A house is a gateway over a pool and a database, and its metrics.
type house struct {
	gateway, admin http.Handler
}

func newHouse(t *testing.T) *house {
	t.Helper()
	file := filepath.Join(t.TempDir(), "empty.db")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := dbserver.New(dbserver.Options{Databases: []dbserver.Database{{Name: "sales", DSN: file}}})
	if err != nil {
		t.Fatal(err)
	}
	config := mcpool.DefaultConfig()
	one, err := mcpool.New(mcpool.Server{Name: "one", URL: "http://one.test/mcp", RoundTripper: mcptest.RoundTripper(&mcptest.Server{})}, &config)
	if err != nil {
		t.Fatal(err)
	}
	pools := []*mcpool.Pool{one, newPool(t, "db", db)}
	g, err := gateway.New([]gateway.Server{{Name: "one", Handler: pools[0]}, {Name: "db", Handler: pools[1]}},
		&gateway.Options{Principal: func(r *http.Request) (string, error) { return r.Header.Get("X-Principal"), nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, close := range []func() error{func() error { return g.Close(context.Background()) }, func() error { return one.Close(context.Background()) }, db.Close} {
			if err := close(); err != nil {
				t.Error(err)
			}
		}
	})
	requests := admin.NewRequests()
	return &house{
		requests.Count("mcp", g),
		requests.Count("admin", admin.New(admin.Options{Pools: func() []*mcpool.Pool { return pools }, Gateway: g, Databases: func() []*dbserver.Server { return []*dbserver.Server{db} }, Requests: requests})),
	}
}

// metrics are our lines of /metrics.
func (h *house) metrics(t *testing.T) string {
	t.Helper()
	w := request(h.admin, "GET", "/metrics")
	if w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	var ours strings.Builder
	for line := range strings.Lines(w.Body.String()) {
		if strings.Contains(line, "mcpool_") {
			ours.WriteString(line)
		}
	}
	return ours.String()
}

// series are the metrics without their values.
func series(metrics string) []string {
	all := make(map[string]bool)
	for line := range strings.Lines(metrics) {
		if name, _, ok := strings.Cut(strings.TrimSpace(line), "} "); ok && line[0] != '#' {
			all[name] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

const mark = "made-up"

// visit has callers say what they like wherever they can, in words of that
// round.
func (h *house) visit(round int) {
	made := fmt.Sprint(mark, round)
	post := func(method, params string, header map[string]string) {
		meta := `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},` +
			`"io.modelcontextprotocol/clientInfo":{"name":"` + made + `","version":"` + made + `"},"` + made + `":"` + made + `"}`
		r := httptest.NewRequest("POST", "http://localhost/mcp?"+made, strings.NewReader(`{"jsonrpc":"2.0","id":"`+made+`","method":"`+method+`","params":{`+params+meta+`}}`))
		r.Header = http.Header{"Content-Type": {"application/json"}, "Mcp-Protocol-Version": {"2026-07-28"}, "Mcp-Method": {method}, "X-Principal": {made}, "Baggage": {"a=" + made}}
		for name, value := range header {
			r.Header.Set(name, value)
		}
		h.gateway.ServeHTTP(httptest.NewRecorder(), r)
	}
	post(made, "", nil)
	for _, tool := range []string{"one__echo", "one__" + made, "one__verbatim", "db__read_data", "db__" + made, made} {
		post("tools/call", `"name":"`+tool+`","arguments":{"text":"`+made+`","id":"`+made+`"},`, map[string]string{"Mcp-Name": tool})
	}
	for _, query := range []string{"SELECT '" + made + "'", "SELECT 1 FROM [" + made + "]"} {
		post("tools/call", `"name":"db__read_data","arguments":{"query":"`+query+`"},`, map[string]string{"Mcp-Name": "db__read_data"})
	}
	post("resources/read", `"uri":"one+`+made+`://x",`, map[string]string{"Mcp-Name": "one+" + made + "://x"})
	for _, h := range []http.Handler{h.gateway, h.admin} {
		request(h, "GET", "/"+made)
		request(h, "BREW", "/status?"+made)
		request(h, "GET", "/metrics?"+made)
	}
}

func TestCallersMakeNoLabels(t *testing.T) {
	h := newHouse(t)
	h.visit(0)
	first := series(h.metrics(t))
	for round := range 5 {
		h.visit(round + 1)
	}
	metrics := h.metrics(t)
	if strings.Contains(metrics, mark) {
		t.Errorf("what callers say is in\n%s", metrics)
	}
	if later := series(metrics); !slices.Equal(first, later) {
		t.Errorf("callers have made series: first %d, then %d", len(first), len(later))
	}
	for _, want := range []string{
		`mcpool_gateway_calls_total{client_era="modern",result="ok",server="one",server_era="legacy"} 6`,
		`mcpool_gateway_calls_total{client_era="modern",result="tool_error",server="db",server_era="none"} 12`,
		`mcpool_gateway_lists{server="one"} 1`,
		`mcpool_gateway_parked_calls 0`,
		`mcpool_gateway_standing_sessions 0`,
		`mcpool_database_statements_total{database="sales",result="ok"} 6`,
		`mcpool_database_statements_total{database="sales",result="unknown_object"} 6`,
		`mcpool_database_in_use{database="sales"} 0`,
		`mcpool_database_waited_total{database="sales"} 0`,
		`mcpool_database_spooled_rows_total{database="sales"} 0`,
		`mcpool_http_requests_total{code="405",handler="admin"} 6`,
		`mcpool_http_requests_in_flight{handler="admin"} 1`, // this very one
	} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("no %s in\n%s", want, metrics)
		}
	}
}

func TestAllMetricsAreNamedAsPrometheusWants(t *testing.T) {
	h := newHouse(t)
	h.visit(0)
	problems, err := promlint.New(strings.NewReader(h.metrics(t))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestRequestsAreCounted(t *testing.T) {
	requests := admin.NewRequests()
	h := requests.Count("x", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/nothing":
		case "/early":
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusTeapot)
		case "/flush":
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Errorf("Flush: %v", err)
			}
			fmt.Fprint(w, "x")
		case "/abort":
			panic(http.ErrAbortHandler)
		}
	}))
	for _, path := range []string{"/nothing", "/early", "/flush"} {
		request(h, "GET", path)
	}
	func() {
		defer func() {
			if recover() != http.ErrAbortHandler {
				t.Error("the panic was kept")
			}
		}()
		request(h, "GET", "/abort")
	}()
	metrics := request(admin.New(admin.Options{Requests: requests}), "GET", "/metrics").Body.String()
	for _, want := range []string{
		`mcpool_http_requests_total{code="0",handler="x"} 1`, `mcpool_http_requests_total{code="200",handler="x"} 2`,
		`mcpool_http_requests_total{code="418",handler="x"} 1`, `mcpool_http_requests_in_flight{handler="x"} 0`,
	} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("no %s in %s", want, metrics)
		}
	}
}
