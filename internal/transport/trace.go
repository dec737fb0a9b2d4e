package transport

import (
	"encoding/json"
	"maps"
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

// traceMeta splices the trace of a call into its _meta, and takes out what is
// there of another.
func traceMeta(meta json.RawMessage, t *rpc.Trace) (json.RawMessage, error) {
	for _, member := range [...]struct{ key, value string }{
		{rpc.TraceParentKey, t.Parent},
		{rpc.TraceStateKey, t.State},
		{rpc.TraceBaggageKey, t.Baggage},
	} {
		if member.value == "" {
			meta = jsonrpc.Delete(meta, member.key)
			continue
		}
		value, err := json.Marshal(member.value)
		if err == nil {
			meta, err = jsonrpc.Set(meta, value, member.key)
		}
		if err != nil {
			return nil, err
		}
	}
	return meta, nil
}

// traceHeader returns a header with the trace of a call; the header itself
// where there is none. Its values have been found fit for headers by those who
// made the trace, see [rpc.ReadTrace].
func traceHeader(header http.Header, t *rpc.Trace) http.Header {
	if t == nil {
		return header
	}
	header = maps.Clone(header) // the values stay those of the connection
	for _, field := range [...]struct{ name, value string }{
		{headerTraceParent, t.Parent},
		{headerTraceState, t.State},
		{headerTraceBaggage, t.Baggage},
	} {
		if field.value != "" {
			header[field.name] = []string{field.value}
		}
	}
	return header
}
