package pooltest

import (
	"context"
	"sync"
	"time"
)

// Servers are how the servers of a pool are, as schedules change it. Make it
// with NewServers.
type Servers struct {
	mu      sync.Mutex // guards all below
	opening byte
	delay   time.Duration
	checks  byte
	healed  chan struct{} // closed when they are well
}

// Outcome is how an opening or a check turns out.
type Outcome int

const (
	Well Outcome = iota
	Fails
	FailsForGood
)

// NewServers returns servers that are well and quick.
func NewServers() *Servers { return &Servers{healed: make(chan struct{})} }

// Openings implements Pool: of eight ways to turn out, one fails, one for good,
// and one never ends.
func (s *Servers) Openings(how, delay byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opening, s.delay = how%8, []time.Duration{0, 0, 300 * time.Millisecond, 2 * time.Second}[delay%4]
}

// Checks implements Pool.
func (s *Servers) Checks(how byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checks = how % 8
}

// Heal implements Pool. It may be called once.
func (s *Servers) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opening, s.delay, s.checks = 0, 0, 0
	close(s.healed)
}

// Open takes as long as an opening does, or until ctx ends, whose cause it then
// returns.
func (s *Servers) Open(ctx context.Context) (Outcome, error) {
	s.mu.Lock()
	delay := s.delay
	if s.opening == 7 { // nobody answers
		delay = time.Hour
	}
	s.mu.Unlock()
	if delay > 0 {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-s.healed:
		case <-ctx.Done():
			return Fails, context.Cause(ctx)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return map[byte]Outcome{5: Fails, 6: FailsForGood}[s.opening], nil
}

// Checked is how a check turns out.
func (s *Servers) Checked() Outcome {
	s.mu.Lock()
	defer s.mu.Unlock()
	return map[byte]Outcome{6: Fails, 7: FailsForGood}[s.checks]
}
