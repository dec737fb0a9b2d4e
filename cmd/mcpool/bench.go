package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/mcpool-dev/mcpool"
)

// How slow the server is unless told otherwise: as slow as the source system's
// was, whose first call took 2,168 ms and whose reused call took 318 ms.
const (
	benchOpenDelay = 1800 * time.Millisecond
	benchCallDelay = 300 * time.Millisecond
)

// The slowest server: with six connections and one call on each, the last of
// benchMany calls still gets its turn within a pool's connection timeout, 35 s.
const (
	benchMaxOpenDelay = 10 * time.Second
	benchMaxCallDelay = 2 * time.Second
)

func runBench(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := newFlags(stdio{out: stdout, err: stderr}, "bench [flags]",
		`Measure what a pool saves, in under 30 s: a database server on this machine,
as slow as a remote one, is called without a pool, over one session that all
calls share, and through mcpool.`)
	openDelay := f.period("open-delay", benchOpenDelay, "how long the server takes to open a connection")
	callDelay := f.period("call-delay", benchCallDelay, "how long the server takes for a call")
	asJSON := f.Bool("json", false, "print JSON, with times in seconds")
	if err := f.parse(args, 0); err != nil {
		return err
	}
	if *openDelay > benchMaxOpenDelay {
		return usagef("--open-delay %v: want 0s to %v", *openDelay, benchMaxOpenDelay)
	}
	if *callDelay > benchMaxCallDelay {
		return usagef("--call-delay %v: want 0s to %v", *callDelay, benchMaxCallDelay)
	}
	progress := newProgress(stderr, *asJSON)
	report, err := bench(ctx, *openDelay, *callDelay, progress)
	progress.end()
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("bench stopped: %w", context.Cause(ctx))
	case err != nil:
		return fmt.Errorf("bench: %w", err)
	case *asJSON:
		err = report.writeJSON(stdout)
	default:
		err = report.writeTable(stdout)
	}
	return errors.Join(err, report.failures())
}

// bench measures all contenders. Calls that fail are in the report; the error
// is what kept the report from being made.
func bench(ctx context.Context, openDelay, callDelay time.Duration, progress *progress) (_ *benchReport, err error) {
	db, err := newDatabases(sample("sales"), slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	progress.say("opening the sample database")
	tools, err := warmDatabase(ctx, db)
	if err != nil {
		return nil, err
	}
	narrow := mcpool.DefaultConfig()
	narrow.CallsPerConnection = 1
	var trials []*trial
	defer func() {
		for _, t := range trials {
			err = errors.Join(err, t.end())
		}
	}()
	for _, c := range []struct {
		name      string
		contender contender
	}{
		{"no pool", &noPool{}},
		{"one session", &oneSession{}},
		{"mcpool", &pooled{config: mcpool.DefaultConfig()}},
		{"mcpool, one call per connection", &pooled{config: narrow}},
	} {
		server, err := startBenchServer(db, tools, openDelay, callDelay)
		if err != nil {
			return nil, err
		}
		trials = append(trials, &trial{
			contender: c.contender, server: server, progress: progress, figures: &figures{Name: c.name},
		})
	}
	if err := runTrials(ctx, trials[0], trials[1], trials[2], trials[3]); err != nil {
		return nil, err
	}
	report := &benchReport{OpenDelay: seconds(openDelay), CallDelay: seconds(callDelay), Source: sourceFigures()}
	for _, t := range trials {
		report.Late = max(report.Late, t.server.lateness())
	}
	for _, t := range trials[:3] {
		report.Contenders = append(report.Contenders, t.figures)
	}
	report.Narrow = trials[3].figures
	return report, nil
}

// runTrials makes all measurements. The contender without a pool spends its
// time waiting for connections, so it makes its single calls beside the
// others; many calls at once have the machine to themselves.
func runTrials(ctx context.Context, noPool, oneSession, pool, narrow *trial) error {
	var lanes sync.WaitGroup
	var slow, quick error
	lanes.Go(func() { slow = noPool.single(ctx) })
	lanes.Go(func() {
		if quick = oneSession.single(ctx); quick == nil {
			quick = pool.single(ctx)
		}
	})
	lanes.Wait()
	if err := errors.Join(slow, quick); err != nil {
		return err
	}
	if err := narrow.start(ctx); err != nil {
		return err
	}
	all := []*trial{noPool, oneSession, pool, narrow}
	for _, t := range all {
		if err := t.atOnce(ctx, benchMany); err != nil {
			return err
		}
	}
	for _, t := range all {
		if err := t.step(ctx, "shutdown"); err != nil {
			return err
		}
		if err := t.shutdown(); err != nil {
			return err
		}
	}
	return nil
}
