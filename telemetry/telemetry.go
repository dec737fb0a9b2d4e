// Package telemetry tells a collector of OpenTelemetry, over OTLP/HTTP, what a
// gateway and its pools do: as traces and metrics in the words of the semantic
// conventions for MCP (version 1.41 of OpenTelemetry's).
//
// A request of a client is a server span, child of the span that the client
// names in traceparent; in it are the spans of waiting for a slot
// (mcpool.acquire) and of each time that its call is sent, a client span, which
// the server is named as the parent of what it does. So one trace leads from the
// client to the server, whatever connection the call was made on. Opening a
// connection (mcpool.open) is on nobody's account and a trace of its own.
//
// The metrics are mcp.server.operation.duration, mcp.client.operation.duration
// and mcp.client.session.duration. Their attributes have few values, which no
// client can make; names of tools, which clients can make, are in spans alone.
// Neither has arguments, results, ids of sessions, principals or tokens.
//
// What is recorded is sent in the background. Where the collector does not keep
// up it is dropped: no call waits for it, or fails.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	"go.opentelemetry.io/otel/semconv/v1.41.0/mcpconv"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// Options say where to, and what. The environment of OpenTelemetry (OTEL_…)
// holds for what they leave out, and for the rest of the SDK's settings.
type Options struct {
	// Endpoint is the URL of the collector, such as http://localhost:4318, to
	// which /v1/traces and /v1/metrics are added. "" for that of the environment.
	Endpoint string
	// HeadersFile names a file with headers of each request to the collector,
	// one on a line as "Name: value". It is read by New. "" for those of the
	// environment.
	HeadersFile string
	// SampleRatio is the share of traces that begin here which are recorded, above
	// 0 and at most 1. A trace that a client began is recorded if the client says
	// so. 0 for what OTEL_TRACES_SAMPLER says, all if it says nothing.
	SampleRatio float64
	// ServiceName is what we are called; "" for OTEL_SERVICE_NAME, or mcpool.
	ServiceName string
	// Version is this program's.
	Version string
	// Log is told when the collector cannot be reached, at most once a minute;
	// nil for nobody.
	Log *slog.Logger
}

// logEvery is how often the log is told that nothing can be sent.
const logEvery = time.Minute

// Telemetry records what its hooks are told. Close it.
type Telemetry struct {
	tracer  trace.Tracer
	traces  *sdktrace.TracerProvider // nil where none are sent
	metrics *sdkmetric.MeterProvider

	served mcpconv.ServerOperationDuration
	called mcpconv.ClientOperationDuration
	lasted mcpconv.ClientSessionDuration

	mu       sync.Mutex         // guards sessions
	sessions map[string]session // that are open, by the ID of their connection
}

// Wanted reports whether Options or the environment name a collector. Without
// one there is nothing to make.
func Wanted(o Options) bool {
	traces, metrics := wanted(o.Endpoint)
	return traces || metrics
}

func wanted(endpoint string) (traces, metrics bool) {
	if disabled, _ := strconv.ParseBool(os.Getenv("OTEL_SDK_DISABLED")); disabled {
		return false, false
	}
	named := endpoint != "" || os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != ""
	signal := func(name string) bool {
		return (named || os.Getenv("OTEL_EXPORTER_OTLP_"+name+"_ENDPOINT") != "") && os.Getenv("OTEL_"+name+"_EXPORTER") != "none"
	}
	return signal("TRACES"), signal("METRICS")
}

// New begins to send. It makes no request itself, so a collector that is away is
// no error; one that makes no sense is. It has the log told what the SDK tells
// the whole process of its troubles (otel.SetErrorHandler).
func New(ctx context.Context, o Options) (*Telemetry, error) {
	for _, name := range []string{"OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL"} {
		if protocol := os.Getenv(name); protocol != "" && protocol != "http/protobuf" {
			return nil, fmt.Errorf("telemetry: %s is %q: want http/protobuf, which alone is spoken here", name, protocol)
		}
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(newComplaints(o.Log, "sdk").add))
	headers, err := readHeaders(o.HeadersFile)
	if err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	about, err := describe(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	wantTraces, wantMetrics := wanted(o.Endpoint)
	var spans sdktrace.SpanExporter
	if wantTraces {
		var options []otlptracehttp.Option
		if o.Endpoint != "" {
			options = append(options, otlptracehttp.WithEndpointURL(join(o.Endpoint, "/v1/traces")))
		}
		if headers != nil {
			options = append(options, otlptracehttp.WithHeaders(headers))
		}
		if spans, err = otlptracehttp.New(ctx, options...); err != nil {
			return nil, fmt.Errorf("telemetry: traces: %w", err)
		}
		spans = quietSpans{spans, newComplaints(o.Log, "traces")}
	}
	var reader sdkmetric.Reader
	if wantMetrics {
		var options []otlpmetrichttp.Option
		if o.Endpoint != "" {
			options = append(options, otlpmetrichttp.WithEndpointURL(join(o.Endpoint, "/v1/metrics")))
		}
		if headers != nil {
			options = append(options, otlpmetrichttp.WithHeaders(headers))
		}
		exporter, err := otlpmetrichttp.New(ctx, options...)
		if err != nil {
			return nil, fmt.Errorf("telemetry: metrics: %w", err)
		}
		reader = sdkmetric.NewPeriodicReader(quietMetrics{exporter, newComplaints(o.Log, "metrics")})
	}
	return newTelemetry(about, o.SampleRatio, spans, reader)
}

// newTelemetry sends to what is not nil.
func newTelemetry(about *resource.Resource, ratio float64, spans sdktrace.SpanExporter, reader sdkmetric.Reader) (*Telemetry, error) {
	const scope = "github.com/mcpool-dev/mcpool"
	t := &Telemetry{sessions: map[string]session{}}
	t.tracer = noop.NewTracerProvider().Tracer(scope) // which leaves clients' traces as they are
	if spans != nil {
		options := []sdktrace.TracerProviderOption{sdktrace.WithResource(about), sdktrace.WithBatcher(spans)}
		if ratio > 0 {
			options = append(options, sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(ratio))))
		}
		t.traces = sdktrace.NewTracerProvider(options...)
		t.tracer = t.traces.Tracer(scope, trace.WithSchemaURL(semconv.SchemaURL))
	}

	metrics := []sdkmetric.Option{sdkmetric.WithResource(about)}
	if reader != nil {
		metrics = append(metrics, sdkmetric.WithReader(reader))
	}
	t.metrics = sdkmetric.NewMeterProvider(metrics...)
	meter := t.metrics.Meter(scope, metric.WithSchemaURL(semconv.SchemaURL))
	var errs [3]error
	t.served, errs[0] = mcpconv.NewServerOperationDuration(meter, buckets)
	t.called, errs[1] = mcpconv.NewClientOperationDuration(meter, buckets)
	t.lasted, errs[2] = mcpconv.NewClientSessionDuration(meter, buckets)
	return t, errors.Join(errs[:]...)
}

// buckets are those that the conventions want.
var buckets = metric.WithExplicitBucketBoundaries(0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300)

// Close sends what is left, until ctx ends. What the collector does not take is
// lost, and the log is told; no error comes of it.
func (t *Telemetry) Close(ctx context.Context) error {
	var err error
	if t.traces != nil {
		err = t.traces.Shutdown(ctx)
	}
	return errors.Join(err, t.metrics.Shutdown(ctx))
}

func join(endpoint, path string) string { return strings.TrimSuffix(endpoint, "/") + path }

// describe is what all that is sent is about.
func describe(ctx context.Context, o Options) (*resource.Resource, error) {
	about, err := resource.New(ctx,
		resource.WithTelemetrySDK(),
		resource.WithAttributes(semconv.ServiceName("mcpool"), semconv.ServiceVersion(o.Version)),
		resource.WithFromEnv())
	if err != nil || o.ServiceName == "" {
		return about, err
	}
	return resource.Merge(about, resource.NewSchemaless(semconv.ServiceName(o.ServiceName)))
}

// maxHeaders bounds a file of headers, in bytes.
const maxHeaders = 64 << 10

// readHeaders reads a file of headers; nil for no file. Its errors have nothing
// of the values.
func readHeaders(file string) (map[string]string, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if len(text) > maxHeaders {
		return nil, fmt.Errorf("%s is larger than %d KiB", file, maxHeaders>>10)
	}
	headers := map[string]string{}
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if name, value = strings.TrimSpace(name), strings.TrimSpace(value); !ok || name == "" || value == "" || strings.ContainsAny(name, " \t") {
			return nil, fmt.Errorf("%s:%d: want a header as \"Name: value\"", file, n)
		}
		headers[name] = value
	}
	return headers, nil
}
