package gateway

import (
	"fmt"
	"sync"
)

const (
	// DefaultMaxCalls is the bound on the calls of one server where
	// Server.MaxCalls is 0.
	DefaultMaxCalls = 4096
	// DefaultMaxCallsPerPrincipal is the bound on the calls of one principal
	// where Options.MaxCallsPerPrincipal is 0.
	DefaultMaxCallsPerPrincipal = 1024
)

// limits bounds the calls under way, those that wait for a connection
// included.
type limits struct {
	each int // for one principal

	mu    sync.Mutex // guards what follows
	of    map[*backend]int
	whose map[string]int
}

func newLimits(each int) *limits {
	return &limits{each: each, of: make(map[*backend]int), whose: make(map[string]int)}
}

// A limitError is a call that was not made: too many are under way.
type limitError struct {
	server string // "" if they are those of the principal
	most   int
}

func (e *limitError) Error() string {
	if e.server == "" {
		return fmt.Sprintf("%d calls of yours are under way, and no more are taken (max_calls_per_principal). It did not run.", e.most)
	}
	return fmt.Sprintf("%s: %d calls are under way, and no more are taken (max_calls). It did not run.", e.server, e.most)
}

// enter counts a call in, and leave out. most bounds the calls of the principal;
// 0 for what bounds those of each.
func (l *limits) enter(s *backend, principal string, most int) (leave func(), err error) {
	if most == 0 {
		most = l.each
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.of[s] >= s.MaxCalls:
		return nil, &limitError{s.Name, s.MaxCalls}
	case l.whose[principal] >= most:
		return nil, &limitError{most: most}
	}
	l.of[s]++
	l.whose[principal]++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.of[s]--; l.of[s] == 0 {
			delete(l.of, s) // it may be served no more
		}
		if l.whose[principal]--; l.whose[principal] == 0 {
			delete(l.whose, principal)
		}
	}, nil
}
