// Package repeats keeps a log to what is new about a failure that repeats itself.
package repeats

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// every is how often a failure that lasts is said again.
const every = time.Minute

// A Failure is one that may happen again and again until it is over. The zero
// value has not happened. It is safe for concurrent use.
type Failure struct {
	mu     sync.Mutex // guards what follows
	lasts  bool
	said   time.Time
	unsaid int // how often it has happened since
}

// Happened logs it with level warn if it is the first time, or a minute since that
// was done, and then how many times it has happened since as "times". In between it
// is logged with level debug.
func (f *Failure) Happened(log *slog.Logger, what string, attrs ...any) {
	f.mu.Lock()
	f.unsaid++
	level, times := slog.LevelDebug, f.unsaid
	if now := time.Now(); !f.lasts || now.Sub(f.said) >= every {
		level, f.lasts, f.said, f.unsaid = slog.LevelWarn, true, now, 0
	}
	f.mu.Unlock()
	if level == slog.LevelWarn && times > 1 {
		attrs = append(attrs, "times", times)
	}
	log.Log(context.Background(), level, what, attrs...)
}

// Lasts reports whether it has happened, and is not over.
func (f *Failure) Lasts() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lasts
}

// Over says that all is well: the next time is the first.
func (f *Failure) Over() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lasts, f.unsaid = false, 0
}
