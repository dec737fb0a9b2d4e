package gateway

import (
	"net/http"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

// Headers of the trace context, as net/http writes them.
const (
	headerTraceParent  = "Traceparent"
	headerTraceState   = "Tracestate"
	headerTraceBaggage = "Baggage"
)

// trace is what a message says of the trace that it is part of, nil for none.
func (m *message) trace() *rpc.Trace {
	parent, baggage := m.says[saysTraceParent], m.says[saysTraceBaggage]
	if parent == nil && baggage == nil {
		return nil
	}
	return rpc.ReadTrace(jsonrpc.String(parent), jsonrpc.String(m.says[saysTraceState]), jsonrpc.String(baggage))
}

// headerTrace is what a request over HTTP says of that, nil for none. The
// headers are found without a method of http.Header, as they are written so.
func headerTrace(header http.Header) *rpc.Trace {
	parent, baggage := header[headerTraceParent], header[headerTraceBaggage]
	if parent == nil && baggage == nil {
		return nil
	}
	return rpc.ReadTrace(only(parent), only(header[headerTraceState]), only(baggage))
}

// only is the value of a header that has one.
func only(values []string) string {
	if len(values) != 1 {
		return ""
	}
	return values[0]
}
