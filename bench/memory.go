package main

import (
	"context"
	"runtime"

	"github.com/mcpool-dev/mcpool/internal/transport"
	"github.com/mcpool-dev/mcpool/rpc"
)

// idle is how many connections are opened to see what one costs.
const idle = 2000

// A keep is what an idle connection keeps.
type keep struct {
	bytes      float64 // on the heap
	goroutines float64
}

// idleConnection measures an idle connection, with 8 slots where it has them:
// of our transport alone, of an mcpool.Pool over it, and of the engine over
// connections that cost nothing.
func idleConnection() (bare, pooled, engine keep) {
	return kept(openTransports),
		kept(func() func() { return subject{open: openPool}.openFull(idle, 8).close }),
		kept(func() func() { return subject{open: openEngine}.openFull(idle, 8).close })
}

// kept measures the second of two runs: the first leaves behind what the
// runtime keeps of the goroutines that opened the connections.
func kept(open func() (close func())) keep {
	open()()
	heap, goroutines := liveHeap(), runtime.NumGoroutine()
	end := open()
	k := keep{
		bytes:      (float64(liveHeap()) - float64(heap)) / idle,
		goroutines: float64(runtime.NumGoroutine()-goroutines) / idle,
	}
	end()
	return k
}

func liveHeap() uint64 {
	runtime.GC() // the first may find what finalizers and pools still hold
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// openTransports opens connections of our transport that no pool keeps.
func openTransports() (close func()) {
	ctx := context.Background()
	endpoint, err := transport.HTTP("http://bench.invalid/mcp", transport.HTTPOptions{RoundTripper: legacyServer{}})
	must(err)
	conns := make([]transport.Conn, idle)
	for i := range conns {
		conns[i], err = endpoint.Open(ctx, transport.Known{Peer: transport.Peer{Era: transport.Legacy}}, rpc.Capabilities{}, nil)
		must(err)
	}
	return func() {
		for _, c := range conns {
			c.Close(ctx)
		}
		endpoint.Close()
	}
}
