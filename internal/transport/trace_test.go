package transport

import (
	"testing"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

func TestTraceIsSplicedIntoMeta(t *testing.T) {
	const parent, old = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbb-00"
	all := &rpc.Trace{Parent: parent, State: "a=b", Baggage: `c="<d>"`}
	for name, test := range map[string]struct {
		params string
		trace  *rpc.Trace
		want   map[string]string // in _meta, beside what the era wants
	}{
		"none":                      {`{"name":"t"}`, nil, map[string]string{}},
		"none of ours":              {`{"_meta":{"traceparent":"x"},"name":"t"}`, nil, map[string]string{"traceparent": "x"}},
		"no params":                 {``, all, map[string]string{"traceparent": parent, "tracestate": "a=b", "baggage": `c="<d>"`}},
		"no _meta":                  {`{"name":"t"}`, all, map[string]string{"traceparent": parent, "tracestate": "a=b", "baggage": `c="<d>"`}},
		"_meta of others":           {`{"_meta":{"x":"y"}}`, all, map[string]string{"x": "y", "traceparent": parent, "tracestate": "a=b", "baggage": `c="<d>"`}},
		"in place of the client's":  {`{"_meta":{"traceparent":"` + old + `","tracestate":"o=p"}}`, all, map[string]string{"traceparent": parent, "tracestate": "a=b", "baggage": `c="<d>"`}},
		"nothing of another's left": {`{"_meta":{"traceparent":"` + old + `","tracestate":"o=p","baggage":"q=r"}}`, &rpc.Trace{Parent: parent}, map[string]string{"traceparent": parent}},
		"null":                      {`{"_meta":null}`, &rpc.Trace{Parent: parent}, map[string]string{"traceparent": parent}},
	} {
		for _, era := range []Era{Legacy, Modern} {
			call := rpc.Call{Method: "tools/call", Trace: test.trace}
			if test.params != "" {
				call.Params = []byte(test.params)
			}
			x := newExchange(7, era, call, nil, nil)
			frame, err := x.frame(call)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			for _, key := range []string{"traceparent", "tracestate", "baggage", "x"} {
				if got := jsonrpc.GetString(frame, "params", "_meta", key); got != test.want[key] {
					t.Errorf("%s, %v: %s is %q, want %q: %s", name, era, key, got, test.want[key], frame)
				}
			}
		}
	}
}

// BenchmarkFrame makes requests without a trace, and with one.
func BenchmarkFrame(b *testing.B) {
	traced := &rpc.Trace{Parent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
	for name, trace := range map[string]*rpc.Trace{"plain": nil, "traced": traced} {
		b.Run(name, func(b *testing.B) {
			call := rpc.Call{Method: "tools/call", Params: []byte(`{"name":"echo","arguments":{"text":"hello"}}`), Trace: trace}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := newExchange(7, Legacy, call, nil, nil).frame(call); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
