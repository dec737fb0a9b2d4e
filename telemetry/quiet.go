package telemetry

import (
	"context"
	"log/slog"
	"sync"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// complaints are what the log is told of a collector that does not take what it
// is sent: the first at once, and then how many there were in each logEvery.
// The SDK alone would tell each.
type complaints struct {
	log  *slog.Logger
	what string

	mu     sync.Mutex // guards what follows
	last   time.Time
	unsaid int
}

func newComplaints(log *slog.Logger, what string) *complaints {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &complaints{log: log, what: what}
}

func (c *complaints) add(err error) {
	c.mu.Lock()
	now := time.Now()
	if !c.last.IsZero() && now.Sub(c.last) < logEvery {
		c.unsaid++
		c.mu.Unlock()
		return
	}
	unsaid := c.unsaid
	c.last, c.unsaid = now, 0
	c.mu.Unlock()
	c.log.Warn("telemetry was not sent and is lost", "what", c.what, "error", err, "failures_before", unsaid)
}

// quietSpans complains of its failures itself.
type quietSpans struct {
	sdktrace.SpanExporter
	complaints *complaints
}

func (q quietSpans) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	if err := q.SpanExporter.ExportSpans(ctx, spans); err != nil {
		q.complaints.add(err)
	}
	return nil
}

// quietMetrics complains of its failures itself.
type quietMetrics struct {
	sdkmetric.Exporter
	complaints *complaints
}

func (q quietMetrics) Export(ctx context.Context, metrics *metricdata.ResourceMetrics) error {
	if err := q.Exporter.Export(ctx, metrics); err != nil {
		q.complaints.add(err)
	}
	return nil
}
