package slots

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// warm opens n connections and measures nothing else.
func (s *server) warm(n int, key *Key[string]) {
	s.t.Helper()
	delay := s.delay
	s.delay = 0
	var held []Lease[string, *link]
	for range n {
		l, err := s.pool.Acquire(s.t.Context(), key, Ask{Whole: true, Timeout: time.Minute})
		if err != nil {
			s.t.Fatal(err)
		}
		held = append(held, l)
	}
	for _, l := range held {
		l.Release()
	}
	s.delay = delay
	s.pool.mu.Lock()
	s.pool.demand = demand{openPrior, servePrior} // what was measured was not the server
	s.pool.mu.Unlock()
}

// mostOpening is as package mcpool has it for servers over HTTP.
func mostOpening(slots int) int { return max(16, 128/slots) }

// TestBurst has 50 callers at once, calls of 300 ms and openings of 2 s, over
// some warm connections.
func TestBurst(t *testing.T) {
	for _, test := range []struct {
		warm, slots int
		most        int           // openings
		mean        time.Duration // longest mean of waiting and calling
	}{
		{0, 1, 31, 2600 * time.Millisecond},
		{1, 1, 7, 2850 * time.Millisecond},
		{5, 1, 1, 1650 * time.Millisecond},
		{0, 8, 5, 2600 * time.Millisecond},
		{1, 8, 0, 1100 * time.Millisecond},
		{5, 8, 0, 400 * time.Millisecond},
		{0, 64, 1, 2300 * time.Millisecond},
		{1, 64, 0, 300 * time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := &server{slots: test.slots, delay: 2 * time.Second}
			start(t, s, Options[string, *link]{MaxOpening: mostOpening(test.slots)})
			key := a(50, test.slots)
			s.warm(test.warm, key)
			began := time.Now()
			var total time.Duration
			var mu sync.Mutex
			var all sync.WaitGroup
			for range 50 {
				all.Go(func() {
					l := s.get(key)
					time.Sleep(300 * time.Millisecond)
					l.Release()
					mu.Lock()
					total += time.Since(began)
					mu.Unlock()
				})
			}
			all.Wait()
			opens, _, _ := s.seen()
			opens -= test.warm
			if mean := total / 50; opens > test.most || mean > test.mean {
				t.Errorf("%d warm connections of %d slots: %d openings, mean %v; want at most %d and %v",
					test.warm, test.slots, opens, mean, test.most, test.mean)
			} else {
				t.Logf("%d warm × %d: %d openings, mean %v", test.warm, test.slots, opens, mean)
			}
			s.end()
		})
	}
}

// TestStep has the load rise from 5 to 200 calls a second for 20 s, with
// calls of 300 ms on average and openings of 2 s. Ideal are as many slots as
// calls are in flight then, 60. Figures are means over eight random loads.
func TestStep(t *testing.T) {
	const loads = 8
	for _, test := range []struct {
		slots int
		ideal float64 // connections
	}{{8, 7.5}, {1, 60}} {
		opens, p99 := 0, time.Duration(0)
		for seed := range uint64(loads) {
			n, wait := step(t, test.slots, seed)
			opens += n
			p99 += wait
		}
		meanOpens, meanP99 := float64(opens)/loads, p99/loads
		t.Logf("%d slots: %.1f openings where %.1f are ideal, p99 of waits %v", test.slots, meanOpens, test.ideal, meanP99)
		if meanOpens > 1.4*test.ideal || meanP99 > 2100*time.Millisecond {
			t.Errorf("%d slots: %.1f openings, p99 %v; want at most %.1f and 2.1s", test.slots, meanOpens, meanP99, 1.4*test.ideal)
		}
	}
}

// step returns how many connections a load cost, and the 99th percentile of
// its waits.
func step(t *testing.T, slots int, seed uint64) (opens int, p99 time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{slots: slots, delay: 2 * time.Second}
		start(t, s, Options[string, *link]{MaxOpening: mostOpening(slots)})
		random := rand.New(rand.NewPCG(seed, 1))
		var mu sync.Mutex
		var waits []time.Duration
		var all sync.WaitGroup
		load := func(rate float64, record bool) {
			for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
				time.Sleep(time.Duration(random.ExpFloat64() / rate * 1e9))
				took := time.Duration(random.ExpFloat64() * 0.3 * 1e9)
				all.Go(func() {
					came := time.Now()
					l := s.get(a(200, slots))
					wait := time.Since(came)
					time.Sleep(took)
					l.Release()
					if record {
						mu.Lock()
						waits = append(waits, wait)
						mu.Unlock()
					}
				})
			}
		}
		load(5, false)
		load(200, true)
		all.Wait()
		opens, _, _ = s.seen()
		slices.Sort(waits)
		p99 = waits[len(waits)*99/100]
		s.end()
	})
	return opens, p99
}
