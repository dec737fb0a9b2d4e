package dbserver

import (
	"context"
	"errors"
	"maps"
	"strings"
	"sync"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

// Stats is what a database has done and how it stands, at one moment. Counters
// never fall.
type Stats struct {
	Database       string // its name
	MaxConnections int    // most calls at a time
	Open           int    // connections to it, for reading and for writing
	InUse          int    // calls that run
	Waiting        int    // calls that wait for their turn
	Waited         uint64 // calls that had to
	// Statements counts those that have ended by their result: "ok", "cancelled",
	// the code of an error in lower case, as "read_only_violation", or "failed"
	// where there is none. What has not happened is not there. Statements that
	// ask for the catalogue or for a plan are not counted.
	Statements map[string]uint64
	// SpooledRows are the rows that were kept behind a page, for fetch_rows.
	SpooledRows uint64
}

// Stats returns that of each database, in the order of the options. It does no
// I/O.
func (s *Server) Stats() []Stats {
	list := make([]Stats, len(s.databases))
	for i, d := range s.databases {
		d.turns.mu.Lock()
		running, waiting, waited := d.turns.running, d.turns.waiting, d.turns.waited
		d.turns.mu.Unlock()
		list[i] = Stats{Database: d.Name, MaxConnections: d.MaxConnections, Open: d.engine.Open(), InUse: running,
			Waiting: waiting, Waited: waited, Statements: d.ended.all(), SpooledRows: d.spooled.Load()}
	}
	return list
}

// results count statements that have ended.
type results struct {
	mu sync.Mutex // guards of
	of map[string]uint64
}

func (r *results) count(err error) {
	result := resultOf(err)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of == nil {
		r.of = make(map[string]uint64)
	}
	r.of[result]++
}

func (r *results) all() map[string]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.of)
}

// resultOf is how a statement ended. The codes of errors are ours, not the
// database's.
func resultOf(err error) string {
	var told *engine.Error
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &told):
		return strings.ToLower(told.Code)
	case errors.Is(err, engine.ErrTimeout):
		return strings.ToLower(engine.StatementTimeout)
	case errors.Is(err, engine.ErrExhausted):
		return strings.ToLower(engine.PoolExhausted)
	case errors.Is(err, context.Canceled), errors.Is(err, ErrClosed):
		return "cancelled"
	}
	return "failed"
}
