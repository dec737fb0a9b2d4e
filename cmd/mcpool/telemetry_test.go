package main

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	metricspb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	tracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	spanpb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

// A collector takes in OTLP over HTTP.
type collector struct {
	url string

	mu       sync.Mutex // guards what follows
	services []string   // that have sent something
	tokens   []string   // of the requests
	spans    []*spanpb.Span
	metrics  []string // their names
	text     strings.Builder
}

func newCollector(t testing.TB) *collector {
	c := &collector{}
	s := httptest.NewServer(c)
	t.Cleanup(s.Close)
	c.url = s.URL
	return c
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		unpacked, err := gzip.NewReader(body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		body = unpacked
	}
	data, err := io.ReadAll(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tokens = append(c.tokens, r.Header.Get("X-Token"))
	switch r.URL.Path {
	case "/v1/traces":
		var request tracepb.ExportTraceServiceRequest
		err = proto.Unmarshal(data, &request)
		fmt.Fprintln(&c.text, &request)
		for _, resource := range request.ResourceSpans {
			c.services = append(c.services, stringOf(resource.Resource.Attributes, "service.name"))
			for _, scope := range resource.ScopeSpans {
				c.spans = append(c.spans, scope.Spans...)
			}
		}
	case "/v1/metrics":
		var request metricspb.ExportMetricsServiceRequest
		err = proto.Unmarshal(data, &request)
		fmt.Fprintln(&c.text, &request)
		for _, resource := range request.ResourceMetrics {
			for _, scope := range resource.ScopeMetrics {
				for _, m := range scope.Metrics {
					c.metrics = append(c.metrics, m.Name)
				}
			}
		}
	default:
		err = fmt.Errorf("nothing is at %s", r.URL.Path)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
}

func stringOf(attributes []*common.KeyValue, key string) string {
	for _, a := range attributes {
		if a.Key == key {
			return a.Value.GetStringValue()
		}
	}
	return ""
}

// TestServeSendsTelemetry has each way of saying where to send what.
func TestServeSendsTelemetry(t *testing.T) {
	for name, test := range map[string]struct {
		file        string // with the collector's URL in it
		environment map[string]string
		flags       []string
		service     string
		token       string
	}{
		"the file": {
			file:    `, "telemetry": {"otlp_endpoint": %q, "headers_file": "headers", "sample_ratio": 1, "service_name": "ours"}`,
			service: "ours", token: "t-1",
		},
		"MCP_POOL_": {
			environment: map[string]string{"MCP_POOL_TELEMETRY_OTLP_ENDPOINT": "URL", "MCP_POOL_TELEMETRY_SERVICE_NAME": "env"},
			service:     "env",
		},
		"OTEL_": {
			environment: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "URL", "OTEL_SERVICE_NAME": "otel", "OTEL_EXPORTER_OTLP_HEADERS": "x-token=t-2"},
			service:     "otel", token: "t-2",
		},
		"flags": {
			flags:   []string{"--telemetry-otlp-endpoint", "URL", "--telemetry-sample-ratio", "1"},
			service: "mcpool",
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCollector(t)
			for variable, value := range test.environment {
				t.Setenv(variable, strings.ReplaceAll(value, "URL", c.url))
			}
			if test.file != "" {
				test.file = fmt.Sprintf(test.file, c.url)
			}
			file := configure(t, "mcp.json", `{"mcpServers": {"one": {"url": %q}}%s}`, upstream(t, &mcptest.Server{}), test.file)
			if err := os.WriteFile(filepath.Join(filepath.Dir(file), "headers"), []byte("# of the collector\n\nX-Token: t-1\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			args := []string{"--config", file}
			for _, flag := range test.flags {
				args = append(args, strings.ReplaceAll(flag, "URL", c.url))
			}
			p := serve(t, args...)
			client := connect(t, web(t), p.url+"/mcp")
			if _, err := client.call(t.Context(), "echo", "the-argument"); err != nil {
				t.Fatal(err)
			}
			p.stop()
			p.end(t)
			c.mu.Lock()
			defer c.mu.Unlock()
			if len(c.services) == 0 || c.services[0] != test.service || c.tokens[0] != test.token {
				t.Errorf("%q sent with the tokens %q, want %q and %q", c.services, c.tokens, test.service, test.token)
			}
			kinds := make(map[string]int)
			for _, s := range c.spans {
				kinds[fmt.Sprint(s.Name, " ", s.Kind)]++
			}
			for _, want := range []string{"tools/call echo SPAN_KIND_SERVER", "tools/call echo SPAN_KIND_CLIENT", "mcpool.acquire SPAN_KIND_INTERNAL", "mcpool.open SPAN_KIND_CLIENT"} {
				if kinds[want] == 0 {
					t.Errorf("no span %s in %v", want, kinds)
				}
			}
			for _, want := range []string{"mcp.server.operation.duration", "mcp.client.operation.duration", "mcp.client.session.duration"} {
				if !slices.Contains(c.metrics, want) {
					t.Errorf("no metric %s in %q", want, c.metrics)
				}
			}
			if text := c.text.String(); strings.Contains(text, "the-argument") || strings.Contains(text, client.session) {
				t.Errorf("arguments, or the id of the session, were sent: %s", text)
			}
		})
	}
}

// TestTheSampleRatioHolds has no trace recorded, but the metrics.
func TestTheSampleRatioHolds(t *testing.T) {
	c := newCollector(t)
	p := serve(t, "--config", behind(t, upstream(t, &mcptest.Server{})), "--telemetry-otlp-endpoint", c.url, "--telemetry-sample-ratio", "1e-12")
	client := connect(t, web(t), p.url+"/mcp")
	if _, err := client.call(t.Context(), "echo", "1"); err != nil {
		t.Fatal(err)
	}
	p.stop()
	p.end(t)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.spans) > 0 || len(c.metrics) == 0 {
		t.Errorf("%d spans and %d metrics were sent", len(c.spans), len(c.metrics))
	}
}

// TestACollectorThatIsAwayHarmsNoCall has one that refuses connections and one
// that never answers.
func TestACollectorThatIsAwayHarmsNoCall(t *testing.T) {
	release := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	t.Cleanup(func() { close(release); silent.Close() })
	// So that much is tried, and fails, while calls are made.
	for variable, value := range map[string]string{"OTEL_BSP_SCHEDULE_DELAY": "1", "OTEL_BSP_EXPORT_TIMEOUT": "50", "OTEL_BSP_MAX_QUEUE_SIZE": "16",
		"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "4", "OTEL_METRIC_EXPORT_INTERVAL": "10", "OTEL_METRIC_EXPORT_TIMEOUT": "50"} {
		t.Setenv(variable, value)
	}
	for name, url := range map[string]string{"it refuses": "http://127.0.0.1:1", "it is silent": silent.URL} {
		t.Run(name, func(t *testing.T) {
			p := serve(t, "--config", behind(t, upstream(t, &mcptest.Server{})), "--telemetry-otlp-endpoint", url)
			client := connect(t, web(t), p.url+"/mcp")
			for n := range 500 {
				if _, err := client.call(t.Context(), "echo", fmt.Sprint(n)); err != nil {
					t.Fatal(err)
				}
			}
			p.await(t, &p.err, `(?m)telemetry was not sent.* what=metrics .*\n`)
			p.await(t, &p.err, `(?m)telemetry was not sent.* what=traces .*\n`)
			end := mcptest.Within(t, 15*time.Second)
			p.stop()
			p.end(t)
			end()
			for _, what := range []string{"what=traces", "what=metrics"} {
				if n := strings.Count(p.err.String(), what); n != 1 {
					t.Errorf("the log has %s %d times, want once:\n%s", what, n, &p.err)
				}
			}
		})
	}
}
