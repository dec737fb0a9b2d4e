package main

import (
	"context"
	"time"

	"github.com/mcpool-dev/mcpool/gateway"
	"github.com/mcpool-dev/mcpool/telemetry"
)

// record makes what traces and metrics are sent by; nil where nobody wants them.
func (s *service) record() (*telemetry.Telemetry, error) {
	o := telemetry.Options{
		Endpoint: s.conf.Telemetry.Endpoint, HeadersFile: s.conf.Telemetry.HeadersFile,
		SampleRatio: s.conf.Telemetry.SampleRatio, ServiceName: s.conf.Telemetry.ServiceName,
		Version: version(), Log: s.log.Logger,
	}
	if s.silent || !telemetry.Wanted(o) {
		return nil, nil
	}
	return telemetry.New(context.Background(), o)
}

// hooks are those of a gateway that is recorded.
func hooks(record *telemetry.Telemetry) gateway.Hooks {
	if record == nil {
		return gateway.Hooks{}
	}
	return record.Gateway()
}

// lastTelemetry is how long the end of the program waits for a collector to take
// what it was not sent yet.
const lastTelemetry = 3 * time.Second

func closeTelemetry(ctx context.Context, record *telemetry.Telemetry) {
	if record == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lastTelemetry)
	defer cancel()
	_ = record.Close(ctx) // what could not be sent is lost, and the log was told
}
