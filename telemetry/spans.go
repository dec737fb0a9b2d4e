package telemetry

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	"go.opentelemetry.io/otel/semconv/v1.41.0/mcpconv"
	"go.opentelemetry.io/otel/trace"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

// Attributes of ours.
const (
	keyServer     = attribute.Key("mcpool.server")     // the name of its pool
	keyConnection = attribute.Key("mcpool.connection") // the ID of a connection
	keyGroup      = attribute.Key("mcpool.group")      // its label
	keyWaited     = attribute.Key("mcpool.waited")     // seconds
	keyWhole      = attribute.Key("mcpool.whole")      // a whole connection was asked for
)

// otherValue stands for a value that is none of those which are known.
const otherValue = "_OTHER"

// maxText bounds, in bytes, what a span has of a client's own words.
const maxText = 128

// methods are those of MCP, of either era. A client may send any other.
var methods = []string{
	"initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe",
	"server/discover", "subscriptions/listen", "completion/complete",
	"tools/list", "tools/call", "prompts/list", "prompts/get",
	"resources/list", "resources/read", "resources/templates/list",
	"tasks/get", "tasks/list", "tasks/result", "tasks/update", "tasks/cancel",
}

// knownMethod is the method, or otherValue for one that MCP does not have.
func knownMethod(method string) string {
	if slices.Contains(methods, method) {
		return method
	}
	return otherValue
}

// knownVersions are those of MCP.
var knownVersions = []string{"2026-07-28", "2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"}

// knownCodes are those of errors of JSON-RPC and MCP.
var knownCodes = []int{rpc.CodeParse, rpc.CodeInvalidRequest, rpc.CodeMethodNotFound, rpc.CodeInvalidParams, rpc.CodeInternal,
	rpc.CodeHeaderMismatch, rpc.CodeMissingCapability, rpc.CodeUnsupportedVersion, -32001, -32002, -32042, -32800}

// errorType is the error.type of an error of the protocol.
func errorType(code int) string {
	if slices.Contains(knownCodes, code) {
		return strconv.Itoa(code)
	}
	return otherValue
}

// brief cuts off what is too long, and what is no UTF-8 with it, which OTLP
// does not carry.
func brief(text string) string {
	if len(text) <= maxText && utf8.ValidString(text) {
		return text
	}
	return strings.ToValidUTF8(text[:min(len(text), maxText)], "")
}

// A target is what a call is about.
type target struct {
	name       string // of the tool or the prompt; "" for none
	attributes []attribute.KeyValue
}

func targetOf(method string, params json.RawMessage) target {
	switch method {
	case "tools/call":
		name := brief(jsonrpc.GetString(params, "name"))
		return target{name, []attribute.KeyValue{semconv.GenAIToolName(name), semconv.GenAIOperationNameExecuteTool}}
	case "prompts/get":
		name := brief(jsonrpc.GetString(params, "name"))
		return target{name, []attribute.KeyValue{semconv.GenAIPromptName(name)}}
	}
	return target{}
}

// spanName is "METHOD TARGET".
func spanName(method, target string) string {
	if target == "" {
		return method
	}
	return method + " " + target
}

// methodName is the attribute that each has.
func methodName(method string) attribute.KeyValue { return attribute.String("mcp.method.name", method) }

// metricMethod is methodName, as metrics take it.
func metricMethod(method string) mcpconv.MethodNameAttr { return mcpconv.MethodNameAttr(method) }

func protocolVersion(version string) attribute.KeyValue {
	if !slices.Contains(knownVersions, version) {
		version = otherValue
	}
	return attribute.String("mcp.protocol.version", version)
}

// fail says of a span that it has failed, and how.
func fail(span trace.Span, kind, description string) {
	span.SetStatus(codes.Error, brief(description))
	span.SetAttributes(semconv.ErrorTypeKey.String(kind))
}

// within returns a context with the span that a trace has for its parent.
func within(ctx context.Context, t *rpc.Trace) context.Context {
	if t == nil || t.Parent == "" {
		return ctx
	}
	id, errTrace := trace.TraceIDFromHex(t.Parent[3:35])
	span, errSpan := trace.SpanIDFromHex(t.Parent[36:52])
	flags, errFlags := strconv.ParseUint(t.Parent[53:], 16, 8)
	if errTrace != nil || errSpan != nil || errFlags != nil {
		return ctx
	}
	state, _ := trace.ParseTraceState(t.State) // one that cannot be read is not carried
	return trace.ContextWithRemoteSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: id, SpanID: span, TraceFlags: trace.TraceFlags(flags) & trace.FlagsSampled, TraceState: state, Remote: true,
	}))
}

// from is the trace whose parent is a span, with the baggage of another.
func from(span trace.Span, client *rpc.Trace) *rpc.Trace {
	baggage := ""
	if client != nil {
		baggage = client.Baggage
	}
	c := span.SpanContext()
	parent := "00-" + c.TraceID().String() + "-" + c.SpanID().String() + "-" + (c.TraceFlags() & trace.FlagsSampled).String()
	return rpc.ReadTrace(parent, c.TraceState().String(), baggage)
}
