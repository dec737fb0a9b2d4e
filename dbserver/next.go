package dbserver

import (
	"errors"
	"slices"
)

// Next returns a server that is to take the place of s, as when a configuration
// was changed: both serve until s is closed. Databases that are named as kept, and
// that s has, are shared, with their connections, their counters and the rows that
// are kept behind pages. What options say of them is not looked at: it may not
// differ, nor may MaxCallsPerPrincipal. Others are begun, or end with s.
//
// Handles and tokens of s are good at the next server; a handle of a database
// that was not kept is answered with an error that says so. Options.Key is not
// looked at. The error is [ErrClosed] after Close of s, and otherwise as that of
// [New]; then s is as it was.
func (s *Server) Next(options Options, kept []string) (*Server, error) {
	if err := options.check(); err != nil {
		return nil, err
	}
	if err := s.begin(); err != nil {
		return nil, err
	}
	defer s.work.Done() // until then s does not let go of what is shared
	var shared []*database
	for _, d := range s.databases {
		if slices.Contains(kept, d.Name) {
			shared = append(shared, d)
		}
	}
	s.spools.users.Add(1)
	next, err := (&Server{sealer: s.sealer, spools: s.spools, spent: s.spent}).begun(options, shared)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed { // and what is shared may have ended
		return nil, errors.Join(ErrClosed, next.Close())
	}
	return next, nil
}
