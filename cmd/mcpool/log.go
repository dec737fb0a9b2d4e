package main

import (
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/mcpool-dev/mcpool/config"
	"github.com/mcpool-dev/mcpool/gateway"
)

// A logger is the log of a program that serves.
type logger struct {
	*slog.Logger
	level slog.LevelVar
	share atomic.Pointer[float64] // of requests that have a line
}

func newLogger(w io.Writer, conf config.Log) *logger {
	l := new(logger)
	options := &slog.HandlerOptions{Level: &l.level}
	if conf.Format == config.LogJSON {
		l.Logger = slog.New(slog.NewJSONHandler(w, options))
	} else {
		l.Logger = slog.New(slog.NewTextHandler(w, options))
	}
	l.set(conf)
	return l
}

// set changes what is logged, but not how.
func (l *logger) set(conf config.Log) {
	l.level.Set(conf.Level)
	l.share.Store(&conf.Access)
}

// request writes a line for a request, if it is one of those to have one.
func (l *logger) request(a gateway.Access) {
	share := *l.share.Load()
	failed := a.Status < http.StatusContinue || a.Status >= http.StatusBadRequest
	if !failed && isProbe(a.Path) { // every few seconds, and of no use
		return
	}
	if share == 0 || !failed && share < 1 && rand.Float64() >= share { // #nosec G404 -- a sample
		return
	}
	l.LogAttrs(context.Background(), slog.LevelInfo, "request",
		slog.String("request_id", a.RequestID), slog.String("method", a.Method), slog.String("path", a.Path), slog.String("call", a.Call),
		slog.String("server", a.Server), slog.String("tool", a.Tool), slog.String("principal", a.Principal), slog.String("from", a.From),
		slog.Int("status", a.Status), slog.Int64("bytes", a.Bytes), slog.Duration("duration", a.Duration.Round(time.Microsecond)))
}

// logUsage says what the settings of a log are for.
var logUsage = map[string]string{
	"log_level":  "least `level` logged: debug, info, warn or error (default info)",
	"log_format": "`format` of the log: text or json (default text)",
	"log_access": "requests over HTTP to log: off, all, or a `share` such as 0.01; those that fail are logged with either of the two (default off)",
}

// log adds the flags of a log to those that are given.
func (f *flags) log(given map[string]string) {
	for _, name := range config.LogSettingNames() {
		f.setting(name, logUsage[name], given)
	}
}
