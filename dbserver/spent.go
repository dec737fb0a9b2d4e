package dbserver

import (
	"sync"
	"time"
)

// A spentTokens knows the tokens that have been used and are not expired.
type spentTokens struct {
	mu    sync.Mutex
	until map[string]time.Time
}

// first reports whether a token is used for the first time.
func (s *spentTokens) first(token string, until time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, used := s.until[token]; used {
		return false
	}
	if s.until == nil {
		s.until = map[string]time.Time{}
	}
	now := time.Now()
	for t, until := range s.until { // few: each was a commit of the last two minutes
		if now.After(until) {
			delete(s.until, t)
		}
	}
	s.until[token] = until
	return true
}
