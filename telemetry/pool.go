package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	"go.opentelemetry.io/otel/semconv/v1.41.0/mcpconv"
	"go.opentelemetry.io/otel/trace"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

// Pool returns the hooks of the pool of a server: a client span and a duration
// for each time that a call is sent, a span for each slot that is asked for and
// for each connection that is opened, and how long sessions last.
func (t *Telemetry) Pool(server mcpool.Server) mcpool.Hooks {
	p := &pool{Telemetry: t, server: append(addressOf(server), keyServer.String(server.Name))}
	return mcpool.Hooks{
		AcquireStart: p.acquireStart, AcquireEnd: p.acquireEnd,
		CallStart: p.callStart, CallEnd: p.callEnd,
		OpenStart: p.openStart, OpenEnd: p.openEnd,
		CloseStart: p.closeStart, CloseEnd: p.closeEnd,
	}
}

// A pool is one that is recorded.
type pool struct {
	*Telemetry
	server []attribute.KeyValue // what its metrics and spans have in common
}

// A session is a connection of the legacy era: the modern one has no sessions.
type session struct {
	began    time.Time
	protocol string
}

// addressOf is where a server is, without its path and without secrets.
func addressOf(server mcpool.Server) []attribute.KeyValue {
	switch {
	case server.Command != "":
		return []attribute.KeyValue{semconv.NetworkTransportPipe}
	case server.URL == "":
		return nil
	}
	if rest, unix := strings.CutPrefix(server.URL, "http+unix://"); unix {
		socket, _, _ := strings.Cut(rest, "/")
		path, err := url.PathUnescape(socket)
		if err != nil {
			return nil
		}
		return []attribute.KeyValue{semconv.NetworkTransportUnix, semconv.NetworkProtocolName("http"), semconv.ServerAddress(path)}
	}
	u, err := url.Parse(server.URL)
	if err != nil {
		return nil
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		port = map[string]int{"http": 80, "https": 443}[u.Scheme]
	}
	return []attribute.KeyValue{semconv.NetworkTransportTCP, semconv.NetworkProtocolName("http"), semconv.ServerAddress(u.Hostname()), semconv.ServerPort(port)}
}

func (p *pool) acquireStart(ctx context.Context, e mcpool.AcquireStart) context.Context {
	ctx, _ = p.tracer.Start(ctx, "mcpool.acquire", trace.WithAttributes(keyServer.String(e.Server), keyWhole.Bool(e.Whole)))
	return ctx
}

func (p *pool) acquireEnd(ctx context.Context, e mcpool.AcquireEnd) {
	span := trace.SpanFromContext(ctx)
	span.SetAttributes(keyWaited.Float64(e.Waited.Seconds()), keyConnection.String(e.Conn))
	if e.Err != nil {
		fail(span, errorKind(e.Err), "")
	}
	span.End()
}

// A sent is a call that has been sent.
type sent struct {
	span   trace.Span
	method string
	metric []attribute.KeyValue
}

type sentKey struct{}

func (p *pool) callStart(ctx context.Context, e mcpool.CallStart) context.Context {
	s := &sent{method: knownMethod(e.Method), metric: slices.Clip(p.server)}
	if e.Protocol != "" {
		s.metric = append(s.metric, protocolVersion(e.Protocol))
	}
	about := targetOf(s.method, e.Call.Params)
	attributes := append(about.attributes, s.metric...)
	attributes = append(attributes, methodName(brief(e.Method)), keyConnection.String(e.Conn))
	if !trace.SpanContextFromContext(ctx).IsValid() {
		ctx = within(ctx, e.Call.Trace) // who calls is no gateway
	}
	ctx, s.span = p.tracer.Start(ctx, spanName(s.method, about.name), trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attributes...))
	e.Call.Trace = from(s.span, e.Call.Trace)
	return context.WithValue(ctx, sentKey{}, s)
}

func (p *pool) callEnd(ctx context.Context, e mcpool.CallEnd) {
	s, _ := ctx.Value(sentKey{}).(*sent)
	if s == nil {
		return
	}
	metric, kind, description := s.metric, "", ""
	var answer *rpc.Error
	switch {
	case errors.As(e.Err, &answer):
		kind, description = errorType(answer.Code), answer.Message
		metric = append(metric, p.called.AttrRPCResponseStatusCode(kind))
		s.span.SetAttributes(semconv.RPCResponseStatusCode(strconv.Itoa(answer.Code)))
	case e.Err != nil:
		kind = errorKind(e.Err)
	case s.method == "tools/call" && saysIsError(e.Result):
		kind = "tool_error"
	}
	if kind != "" {
		fail(s.span, kind, description)
		metric = append(metric, p.called.AttrErrorType(mcpconv.ErrorTypeAttr(kind)))
	}
	s.span.End()
	p.called.Record(ctx, e.Took.Seconds(), metricMethod(s.method), metric...)
}

// saysIsError reports whether a result says that its tool failed. A large one is
// not looked through.
func saysIsError(result json.RawMessage) bool {
	if len(result) >= jsonrpc.Large {
		return false
	}
	value, _ := jsonrpc.Get(result, "isError")
	return string(value) == "true"
}

// errorKind is the error.type of what is no answer. The text of such errors is
// for the log: it may say more than a collector is to know.
func errorKind(err error) string {
	for _, known := range []struct {
		err  error
		kind string
	}{
		{context.Canceled, "cancelled"}, {context.DeadlineExceeded, "timeout"}, {mcpool.ErrAcquireTimeout, "acquire_timeout"},
		{mcpool.ErrQueueFull, "queue_full"}, {mcpool.ErrUnavailable, "unavailable"}, {mcpool.ErrPoolClosed, "closed"},
		{mcpool.ErrSessionLost, "session_lost"},
	} {
		if errors.Is(err, known.err) {
			return known.kind
		}
	}
	return otherValue
}

func (p *pool) openStart(ctx context.Context, e mcpool.OpenStart) context.Context {
	ctx, _ = p.tracer.Start(ctx, "mcpool.open", trace.WithSpanKind(trace.SpanKindClient), trace.WithNewRoot(),
		trace.WithAttributes(append(slices.Clip(p.server), keyGroup.String(e.Group))...))
	return ctx
}

func (p *pool) openEnd(ctx context.Context, e mcpool.OpenEnd) {
	span := trace.SpanFromContext(ctx)
	if e.Err != nil {
		fail(span, errorKind(e.Err), "")
	} else {
		span.SetAttributes(keyConnection.String(e.Conn))
	}
	if e.Protocol != "" {
		span.SetAttributes(protocolVersion(e.Protocol))
	}
	span.End()
	if e.Protocol != "" && e.Protocol < firstModern {
		p.mu.Lock()
		p.sessions[e.Conn] = session{time.Now(), e.Protocol}
		p.mu.Unlock()
	}
}

// firstModern is the first version of MCP without sessions.
const firstModern = "2026-07-28"

type closingKey struct{}

func (p *pool) closeStart(ctx context.Context, e mcpool.CloseStart) context.Context {
	return context.WithValue(ctx, closingKey{}, e)
}

// lostReasons are why a session ends that had not ended by itself.
var lostReasons = []mcpool.CloseReason{mcpool.ClosedLost, mcpool.ClosedUnhealthy}

func (p *pool) closeEnd(ctx context.Context, _ mcpool.CloseEnd) {
	e, _ := ctx.Value(closingKey{}).(mcpool.CloseStart)
	p.mu.Lock()
	s, is := p.sessions[e.Conn]
	delete(p.sessions, e.Conn)
	p.mu.Unlock()
	if !is {
		return
	}
	attributes := append(slices.Clip(p.server), protocolVersion(s.protocol))
	if slices.Contains(lostReasons, e.Reason) {
		attributes = append(attributes, p.lasted.AttrErrorType(mcpconv.ErrorTypeAttr(e.Reason)))
	}
	p.lasted.Record(ctx, time.Since(s.began).Seconds(), attributes...)
}
