package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.uber.org/goleak"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/gateway"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

func TestMain(m *testing.M) {
	mcptest.StdioMain()
	goleak.VerifyTestMain(mcptest.Settled(m))
}

// A recorder is a gateway over one pool, and what is recorded of both.
type recorder struct {
	t       *testing.T
	record  *Telemetry
	spans   *tracetest.InMemoryExporter
	reader  *sdkmetric.ManualReader
	pool    *mcpool.Pool
	gateway *gateway.Gateway
	session string // of the legacy client
}

func newRecorder(t *testing.T, server mcpool.Server) *recorder {
	t.Helper()
	r := &recorder{t: t, spans: tracetest.NewInMemoryExporter(), reader: sdkmetric.NewManualReader()}
	var err error
	if r.record, err = newTelemetry(resource.Empty(), 0, r.spans, r.reader); err != nil {
		t.Fatal(err)
	}
	server.Name = "one"
	config := mcpool.DefaultConfig()
	config.Sharing, config.MaxConnections, config.CallsPerConnection = mcpool.ShareAll, 1, 64
	config.Hooks = r.record.Pool(server)
	if r.pool, err = mcpool.New(server, &config); err != nil {
		t.Fatal(err)
	}
	r.gateway, err = gateway.New([]gateway.Server{{Name: "one", Handler: r.pool}}, &gateway.Options{Hooks: r.record.Gateway()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.Background()
		for _, close := range []func(context.Context) error{r.gateway.Close, r.pool.Close, r.record.Close} {
			if err := close(ctx); err != nil {
				t.Error(err)
			}
		}
	})
	return r
}

// flushed returns the spans that have ended, by their ids.
func (r *recorder) flushed() map[string]tracetest.SpanStub {
	r.t.Helper()
	if err := r.record.traces.ForceFlush(context.Background()); err != nil {
		r.t.Fatal(err)
	}
	spans := make(map[string]tracetest.SpanStub)
	for _, s := range r.spans.GetSpans() {
		spans[s.SpanContext.SpanID().String()] = s
	}
	return spans
}

const modernMeta = `"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"elicitation":{}}`

// begin has a legacy client begin a session.
func (r *recorder) begin() {
	r.t.Helper()
	w := r.post(`{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`, nil)
	if r.session = w.Header().Get("Mcp-Session-Id"); r.session == "" {
		r.t.Fatalf("%d %s", w.Code, w.Body)
	}
}

func (r *recorder) post(body string, header http.Header) *httptest.ResponseRecorder {
	request := httptest.NewRequest("POST", "http://localhost/mcp", bytes.NewReader([]byte(body)))
	for name, values := range header {
		request.Header[name] = values
	}
	request.Header.Set("Content-Type", "application/json")
	if r.session != "" {
		request.Header.Set("Mcp-Session-Id", r.session)
	}
	w := httptest.NewRecorder()
	r.gateway.ServeHTTP(w, request)
	return w
}

// call has a client call a tool. meta is what its _meta has besides what the era
// wants, params what its params have besides.
func (r *recorder) call(id any, tool string, arguments any, meta map[string]string, params string, header http.Header) *httptest.ResponseRecorder {
	all := ""
	if r.session == "" {
		all = modernMeta
		header = header.Clone()
		if header == nil {
			header = make(http.Header)
		}
		header.Set("Mcp-Protocol-Version", "2026-07-28")
		header.Set("Mcp-Method", "tools/call")
		header.Set("Mcp-Name", tool)
	}
	for key, value := range meta {
		if all != "" {
			all += ","
		}
		all += fmt.Sprintf("%q:%q", key, value)
	}
	name, _ := json.Marshal(tool)
	wire, _ := json.Marshal(arguments)
	number, _ := json.Marshal(id)
	return r.post(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":"tools/call","params":{"name":%s,"arguments":%s%s,"_meta":{%s}}}`,
		number, name, wire, params, all), header)
}
