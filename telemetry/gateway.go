package telemetry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	"go.opentelemetry.io/otel/semconv/v1.41.0/mcpconv"
	"go.opentelemetry.io/otel/trace"

	"github.com/mcpool-dev/mcpool/gateway"
	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
)

// A served is a request of a client that is being answered.
type served struct {
	began  time.Time
	method string
	target string
	metric []attribute.KeyValue
}

type servedKey struct{}

// Gateway returns the hooks of a gateway: a server span and a duration for each
// request.
func (t *Telemetry) Gateway() gateway.Hooks {
	return gateway.Hooks{RequestStart: t.requestStart, RequestEnd: t.requestEnd}
}

func (t *Telemetry) requestStart(ctx context.Context, e gateway.RequestStart) context.Context {
	s := &served{began: time.Now(), method: knownMethod(e.Method)}
	about := targetOf(s.method, e.Params)
	s.target = about.name
	if e.Protocol != "" {
		s.metric = append(s.metric, protocolVersion(e.Protocol))
	}
	if e.OverHTTP {
		s.metric = append(s.metric, semconv.NetworkTransportTCP, semconv.NetworkProtocolName("http"))
	}
	attributes := append(about.attributes, s.metric...)
	attributes = append(attributes, methodName(brief(e.Method)), semconv.JSONRPCRequestID(requestID(e.ID)))
	if e.Session != "" {
		attributes = append(attributes, attribute.String("mcp.session.id", sessionLabel(e.Session)))
	}
	// The name of a tool is one that the client has made up until a server is
	// found for it.
	ctx, _ = t.tracer.Start(within(ctx, e.Trace), s.method, trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(s.began),
		trace.WithAttributes(attributes...))
	return context.WithValue(ctx, servedKey{}, s)
}

func (t *Telemetry) requestEnd(ctx context.Context, e gateway.RequestEnd) {
	s, _ := ctx.Value(servedKey{}).(*served)
	if s == nil {
		return
	}
	span := trace.SpanFromContext(ctx)
	metric := s.metric
	if e.Server != "" {
		span.SetName(spanName(s.method, s.target))
		server := keyServer.String(e.Server)
		span.SetAttributes(server)
		metric = append(metric, server)
	}
	if e.Outcome != gateway.Answered {
		kind, description := string(e.Outcome), ""
		if e.Err != nil {
			description = e.Err.Message
			if e.Outcome == gateway.Failed {
				kind = errorType(e.Err.Code)
				metric = append(metric, t.served.AttrRPCResponseStatusCode(kind))
				span.SetAttributes(semconv.RPCResponseStatusCode(strconv.Itoa(e.Err.Code)))
			}
		}
		fail(span, kind, description)
		metric = append(metric, t.served.AttrErrorType(mcpconv.ErrorTypeAttr(kind)))
	}
	span.End()
	t.served.Record(ctx, time.Since(s.began).Seconds(), metricMethod(s.method), metric...)
}

// requestID is a request's id as it is shown.
func requestID(id []byte) string {
	if len(id) > 0 && id[0] == '"' {
		return brief(jsonrpc.String(id))
	}
	return brief(string(id))
}

// sessionLabel tells one session from another, and gives none away.
func sessionLabel(name string) string {
	sum := sha256.Sum256([]byte("mcpool session\x00" + name))
	return hex.EncodeToString(sum[:8])
}
