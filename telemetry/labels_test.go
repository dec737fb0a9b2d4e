package telemetry

import (
	"fmt"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

// TestCallersMakeNoAttributeOfMetrics has clients, and a server, say what they
// like wherever they can.
func TestCallersMakeNoAttributeOfMetrics(t *testing.T) {
	const mark = "made-up"
	r := newRecorder(t, mcpool.Server{URL: "http://one.test/secret-path/mcp?key=" + mark, RoundTripper: mcptest.RoundTripper(&mcptest.Server{})})
	for n := range 3 {
		made := fmt.Sprint(mark, n)
		meta := map[string]string{"traceparent": parentOf(n), "tracestate": "x=" + made, "baggage": "y=" + made, made: made}
		r.call(made, made, map[string]any{"id": made}, meta, "", nil)                              // a tool that there is not
		r.call(made, "verbatim", map[string]any{"text": made, "params": 7}, meta, "", nil)         // an error in the server's words
		r.post(`{"jsonrpc":"2.0","id":1,"method":"`+made+`","params":{"_meta":{`+modernMeta+`}}}`, // a method that there is not
			map[string][]string{"Mcp-Protocol-Version": {"2026-07-28"}, "Mcp-Method": {made}})
	}
	r.begin()
	for n := range 3 {
		r.post(fmt.Sprintf(`{"jsonrpc":"2.0","id":"%[1]s%[2]d","method":"%[1]s/%[2]d","params":{"name":"%[1]s"}}`, mark, n), nil)
	}
	var all metricdata.ResourceMetrics
	if err := r.reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	series, methods := 0, make(map[string]bool)
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			for _, point := range m.Data.(metricdata.Histogram[float64]).DataPoints {
				series++
				for _, a := range point.Attributes.ToSlice() {
					if text := string(a.Key) + "=" + a.Value.String(); strings.Contains(text, mark) || strings.Contains(text, "secret-path") {
						t.Errorf("%s has %s", m.Name, text)
					}
				}
				if method, ok := point.Attributes.Value(attribute.Key("mcp.method.name")); ok {
					methods[method.String()] = true
				}
			}
		}
	}
	if series == 0 || series > 16 || !methods["_OTHER"] || !methods["tools/call"] {
		t.Errorf("%d series of the methods %v", series, methods)
	}
	for _, s := range r.flushed() {
		if strings.Contains(s.Name, mark) && !strings.Contains(s.Name, "tools/call") {
			t.Errorf("a span has the name %s", s.Name)
		}
		for _, a := range s.Attributes {
			if text := a.Value.String(); strings.Contains(text, "key="+mark) || strings.Contains(text, "secret-path") || len(text) > maxText {
				t.Errorf("the span %s has %s=%s", s.Name, a.Key, text)
			}
		}
	}
}
