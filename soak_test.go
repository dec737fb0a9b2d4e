//go:build soak

package mcpool_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
	"github.com/mcpool-dev/mcpool/rpc"
)

// TestSoak has callers on three pools for a long time, over real sockets and
// over child processes, while requests meet faults, sessions are forgotten,
// children are killed and pools are reset, drained and reloaded. What the
// process has (heap, goroutines, files, children) must not grow:
//
//	MCPOOL_SOAK=10m go test -tags soak -run TestSoak -v -timeout 20m .
//
// MCPOOL_SOAK is how long it takes; default 10m.
func TestSoak(t *testing.T) {
	long := 10 * time.Minute
	if value := os.Getenv("MCPOOL_SOAK"); value != "" {
		var err error
		if long, err = time.ParseDuration(value); err != nil {
			t.Fatalf("MCPOOL_SOAK: %v", err)
		}
	}
	before := look(t)
	faults := &mcptest.Faults{Server: &mcptest.Server{}, Plan: randomBytes(26)} // a calm seed
	web := httptest.NewServer(faults)
	path, args, env := mcptest.Child(mcptest.Normal)
	child := mcpool.Server{Name: "child", Command: path, Args: args, Env: env}
	k := &soak{t: t, faults: faults}
	k.pool(mcpool.Server{Name: "web", URL: web.URL}, mcpool.SharePrincipal, 0)
	k.pool(mcpool.Server{Name: "sessions", URL: web.URL}, mcpool.ShareSession, 0)
	k.pool(child, mcpool.ShareAll, 3)

	t.Logf("%s %s/%s, %d cores, %v, %d callers on each of %d pools", runtime.Version(), runtime.GOOS, runtime.GOARCH,
		runtime.NumCPU(), long, soakCallers, len(k.pools))
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	for i := range k.pools {
		for n := range soakCallers {
			k.work.Go(func() { k.callUntil(ctx, i, n) })
		}
	}
	k.work.Go(func() { k.disturb(ctx) })
	samples := k.watch(ctx)
	k.work.Wait()
	for _, p := range k.pools {
		closePool(t, p)
	}
	web.Close()
	leavesNothing(t, before)
	t.Logf("faults met: %v", faults.Met())
	k.judge(samples)
}

const (
	soakCallers = 8
	soakSample  = 10 * time.Second
	// warmUp is the part of the samples that is not judged: caches fill.
	warmUp = 0.2
)

type soak struct {
	t       *testing.T
	faults  *mcptest.Faults
	servers []mcpool.Server
	configs []mcpool.Config
	pools   []*mcpool.Pool
	work    sync.WaitGroup

	calls, answered, sessions atomic.Int64
}

func (k *soak) pool(server mcpool.Server, sharing mcpool.Sharing, slots int) {
	config := mcpool.DefaultConfig()
	config.Sharing, config.CallsPerConnection, config.ConnectionTimeout = sharing, slots, 2*time.Second
	config.IdleTimeout, config.MaxConnectionAge, config.HealthCheckInterval = 5*time.Second, 20*time.Second, time.Second
	p, err := mcpool.New(server, &config)
	if err != nil {
		k.t.Fatal(err)
	}
	k.servers, k.configs, k.pools = append(k.servers, server), append(k.configs, config), append(k.pools, p)
}

// callUntil makes calls until ctx ends. Sessions are new ones over and over, so
// that a pool which remembers them would grow; ids of calls are not, because
// the ledger does remember them.
func (k *soak) callUntil(ctx context.Context, pool, n int) {
	random := rand.New(rand.NewPCG(uint64(pool), uint64(n)))
	p := k.pools[pool]
	for ctx.Err() == nil {
		who := rpc.Caller{Principal: fmt.Sprint(n % 3), Session: fmt.Sprint(k.sessions.Add(1))}
		for range 1 + random.IntN(20) {
			patience, cancel := context.WithTimeout(ctx, time.Duration(5+random.IntN(500))*time.Millisecond)
			tool := []string{"write", "echo", "put", "progress"}[random.IntN(4)]
			_, err := call(patience, p, who, tool, fmt.Sprint(pool, n, random.IntN(50)), "ms", random.IntN(10), "steps", 2)
			cancel()
			if !lawful(err) {
				k.t.Errorf("I-ISOLATE: %v", err)
			}
			k.calls.Add(1)
			if err == nil {
				k.answered.Add(1)
			}
			time.Sleep(time.Duration(random.IntN(20)) * time.Millisecond)
		}
		p.EndSession(who)
	}
}

// disturb does what operators and accidents do, until ctx ends.
func (k *soak) disturb(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(rand.N(2 * time.Second)):
		}
		i := rand.IntN(len(k.pools))
		switch rand.IntN(7) {
		case 0, 1:
			killOne(k.t)
		case 2:
			k.faults.Server.Expire()
		case 3:
			k.pools[i].Reset()
		case 4:
			_ = k.pools[i].Drain(ctx)
		case 5:
			server := k.servers[i]
			if server.URL != "" {
				server.Header = map[string][]string{"X-Is": {fmt.Sprint(rand.Int())}}
			}
			if err := k.pools[i].Reload(server, &k.configs[i]); err != nil {
				k.t.Error(err)
			}
		case 6: // for the hints
			patience, cancel := context.WithTimeout(ctx, time.Second)
			_, _ = k.pools[i].ListTools(patience)
			cancel()
		}
	}
}

// A sample is what the process has at one moment.
type sample struct {
	heap       int // bytes in use after a collection
	goroutines int
	possession
}

// watch takes samples until ctx ends.
func (k *soak) watch(ctx context.Context) (samples []sample) {
	began := time.Now()
	every := time.NewTicker(soakSample)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return samples
		case <-every.C:
		}
		runtime.GC()
		var memory runtime.MemStats
		runtime.ReadMemStats(&memory)
		s := sample{int(memory.HeapInuse), runtime.NumGoroutine(), look(k.t)}
		samples = append(samples, s)
		k.t.Logf("%5.0fs  heap %5.1f MiB  %4d goroutines  %3d files  %2d children  %8d calls, %d answered",
			time.Since(began).Seconds(), float64(s.heap)/(1<<20), s.goroutines, s.files, s.children, k.calls.Load(), k.answered.Load())
	}
}

// judge compares the medians of the first and the last third after the warm-up.
// What is more by a tenth and some, which is what load makes of chance, has
// grown.
func (k *soak) judge(samples []sample) {
	samples = samples[int(warmUp*float64(len(samples))):]
	third := len(samples) / 3
	if third == 0 {
		k.t.Fatalf("%d samples are too few: run it for a minute or more", len(samples))
	}
	for _, of := range []struct {
		what string
		some int
		get  func(sample) int
	}{
		{"bytes of heap", 1 << 20, func(s sample) int { return s.heap }},
		{"goroutines", 20, func(s sample) int { return s.goroutines }},
		{"files", 10, func(s sample) int { return s.files }},
		{"children", 2, func(s sample) int { return s.children }},
	} {
		median := func(part []sample) int {
			values := make([]int, len(part))
			for i, s := range part {
				values[i] = of.get(s)
			}
			slices.Sort(values)
			return values[len(values)/2]
		}
		first, last := median(samples[:third]), median(samples[len(samples)-third:])
		k.t.Logf("%s: %d in the first third, %d in the last", of.what, first, last)
		if last > first+first/10+of.some {
			k.t.Errorf("%s have grown from %d to %d", of.what, first, last)
		}
	}
}
