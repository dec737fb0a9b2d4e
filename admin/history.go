package admin

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/mcpool-dev/mcpool"
)

const (
	// historyStep is how often a sample is taken, and historyLong how long it is
	// kept.
	historyStep = 5 * time.Second
	historyLong = time.Hour
	historyMost = int(historyLong / historyStep)
)

// history is how the pools stood in the last hour: some 30 KB for each.
type history struct {
	mu   sync.Mutex // guards what follows
	of   map[string]*track
	last map[string]mcpool.Stats

	pools map[string]*mcpool.Pool // of the last sample; Run's alone
}

// A track is the samples of one pool, or of all together.
type track struct {
	samples []sample // a ring, once it is full
	next    int
}

// A sample is what happened in one step, and how the pool stood at its end.
type sample struct {
	calls, errors        uint64
	waiting, connections int
	p99                  float64 // in seconds, of the calls of the step
}

func newHistory() *history {
	return &history{of: map[string]*track{}, last: map[string]mcpool.Stats{}}
}

// Run takes the samples of which /admin/v1/history is made, until ctx ends.
// Streams of /admin/v1/events end then. It may be called once.
func (a *Admin) Run(ctx context.Context) {
	defer close(a.ended)
	a.sample()
	tick := time.NewTicker(historyStep)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			a.sample()
		case <-ctx.Done():
			return
		}
	}
}

func (a *Admin) sample() {
	pools := a.Pools()
	stats := make([]mcpool.Stats, len(pools))
	now := make(map[string]*mcpool.Pool, len(pools))
	for i, p := range pools {
		stats[i] = p.Stats()
		now[p.Name()] = p
	}
	for server, before := range a.history.pools {
		if now[server] != before {
			a.history.replace(server, now[server] != nil)
		}
	}
	a.history.pools = now
	a.history.add(stats)
}

// replace notes that another pool has taken the place of that of a server, and
// counts from 0; or that there is none any more.
func (h *history) replace(server string, another bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if another {
		h.last[server] = mcpool.Stats{}
		return
	}
	delete(h.last, server)
	delete(h.of, server)
}

// add takes a sample of each pool. The first of a pool is only what the next one
// is compared with.
func (h *history) add(stats []mcpool.Stats) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all sample
	var buckets []mcpool.Bucket
	any := false
	for _, s := range stats {
		before, known := h.last[s.Server]
		h.last[s.Server] = s
		if !known {
			continue
		}
		any = true
		calls := within(before.Call, s.Call)
		one := sample{s.Calls - before.Calls, s.Errors - before.Errors, s.Waiting, s.Connections, p99(calls)}
		h.track(s.Server).add(one)
		all.calls += one.calls
		all.errors += one.errors
		all.waiting += one.waiting
		all.connections += one.connections
		if buckets == nil {
			buckets = make([]mcpool.Bucket, len(calls))
		}
		for i, b := range calls {
			buckets[i].UpTo = b.UpTo
			buckets[i].Count += b.Count
		}
	}
	if any {
		all.p99 = p99(buckets)
		h.track(everyServer).add(all)
	}
}

func (h *history) track(server string) *track {
	t := h.of[server]
	if t == nil {
		t = &track{}
		h.of[server] = t
	}
	return t
}

func (t *track) add(s sample) {
	if len(t.samples) < historyMost {
		t.samples = append(t.samples, s)
		return
	}
	t.samples[t.next] = s
	t.next = (t.next + 1) % historyMost
}

// within counts the durations that were measured between two moments, cumulated
// as those of Latency are.
func within(before, after mcpool.Latency) []mcpool.Bucket {
	buckets := make([]mcpool.Bucket, len(after.Buckets))
	for i, b := range after.Buckets {
		buckets[i] = b
		if i < len(before.Buckets) {
			buckets[i].Count -= before.Buckets[i].Count
		}
	}
	return buckets
}

// p99 is the quantile of buckets, in seconds: as if durations were spread evenly
// over the bucket that it falls into.
func p99(buckets []mcpool.Bucket) float64 {
	if len(buckets) == 0 {
		return 0
	}
	rank := .99 * float64(buckets[len(buckets)-1].Count)
	var from time.Duration
	var below uint64
	for _, b := range buckets {
		if n := b.Count - below; n > 0 && float64(b.Count) >= rank {
			return (float64(from) + float64(b.UpTo-from)*(rank-float64(below))/float64(n)) / float64(time.Second)
		}
		from, below = b.UpTo, b.Count
	}
	return 0
}

// historyView is samples as JSON has them: the oldest first, the last at most a
// step old.
type historyView struct {
	Step   float64 `json:"step_seconds"`
	Series series  `json:"series"`
}

type series struct {
	Calls       []uint64  `json:"calls"`
	Errors      []uint64  `json:"errors"`
	Waiting     []int     `json:"waiting"`
	Connections []int     `json:"connections"`
	P99         []float64 `json:"p99_seconds"`
}

func (a *Admin) getHistory(r *http.Request) (any, error) {
	server := r.URL.Query().Get("server")
	if server == "" {
		server = everyServer
	}
	if _, err := a.named(server); err != nil {
		return nil, err
	}
	long, err := seconds(r, "seconds", historyLong, historyLong)
	if err != nil {
		return nil, err
	}
	return a.history.view(server, int((long+historyStep-1)/historyStep)), nil
}

// view returns the last samples, at most so many.
func (h *history) view(server string, most int) historyView {
	h.mu.Lock()
	defer h.mu.Unlock()
	v := historyView{historyStep.Seconds(), series{[]uint64{}, []uint64{}, []int{}, []int{}, []float64{}}}
	t := h.of[server]
	if t == nil {
		return v
	}
	n := len(t.samples)
	for i := max(0, n-most); i < n; i++ {
		s := t.samples[(t.next+i)%n]
		v.Series.Calls = append(v.Series.Calls, s.calls)
		v.Series.Errors = append(v.Series.Errors, s.errors)
		v.Series.Waiting = append(v.Series.Waiting, s.waiting)
		v.Series.Connections = append(v.Series.Connections, s.connections)
		v.Series.P99 = append(v.Series.P99, s.p99)
	}
	return v
}
