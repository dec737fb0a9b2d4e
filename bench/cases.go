package main

import (
	"context"
	"fmt"
	"runtime"
	"sync"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/internal/transport"
	"github.com/mcpool-dev/mcpool/rpc"
)

// A trial is one subject in one case, ready to run.
type trial struct {
	subject string
	unit    int             // operations in one run
	run     func(times int) // does times × unit operations
	stop    func()
	took    *[]float64   // nanoseconds of each in the last run; nil where they are not timed one by one
	usage   func() usage // of the process that is measured; nil for this one
}

// A benchCase is what is measured, and on whom.
type benchCase struct {
	name     string
	procs    int  // GOMAXPROCS; 0 for all there are
	parallel bool // its goroutines have to run at once, or nothing contends
	long     bool // its operations take so long that few fit into a round
	open     []func() trial
}

// waiters and callers are the crowds: if time or memory for each grew with
// their number, it would show.
var (
	waiters = []int{1_000, 10_000, 20_000}
	callers = []int{1_000, 10_000}
)

const (
	bareName     = "bare connection"
	callName     = "call in process"
	handOffName  = "hand-off to a waiter, one processor"
	handOverName = "hand-off as puddle's own benchmark has it"
)

func freeName(goroutines int) string {
	return fmt.Sprintf("acquire and release, free slot of 8 × 64, goroutines: %d", goroutines)
}
func cancelName(n int) string { return fmt.Sprintf("%d waiters cancelled at once", n) }
func crowdName(n int) string  { return fmt.Sprintf("%d callers at once on 6 × 8 slots", n) }

// cases returns all cases; those that are compared with each other are
// together, and are measured so.
func cases() [][]benchCase {
	list := [][]benchCase{
		{onAll(freeName(1), free(1))},
		{onAll(freeName(2), free(2))},
		{onAll(freeName(32), free(32))},
		{onAll(handOffName, handOff)},
		{onAll(handOverName, handOver)},
		{{name: callName, open: []func() trial{pooledCall, bareCall}}},
		{}, {},
	}
	list[1][0].parallel, list[2][0].parallel = true, true
	list[3][0].procs = 1
	for _, n := range waiters {
		list[6] = append(list[6], onAll(cancelName(n), cancelled(n)))
	}
	for _, n := range callers {
		list[7] = append(list[7], onAll(crowdName(n), crowd(n)))
	}
	return list
}

// onAll makes a case of all subjects.
func onAll(name string, open func(subject) trial) benchCase {
	c := benchCase{name: name}
	for _, s := range subjects() {
		c.open = append(c.open, func() trial {
			t := open(s)
			t.subject = s.name
			return t
		})
	}
	return c
}

// free takes free slots from so many goroutines.
func free(goroutines int) func(subject) trial {
	return func(s subject) trial {
		l := s.openFull(8, 64)
		const unit = 32 * 128
		return trial{unit: unit, stop: l.close, run: func(times int) {
			inParallel(goroutines, func() {
				must(l.pairs(context.Background(), times*unit/goroutines, nil))
			})
		}}
	}
}

// handOff has two goroutines share one slot. Whoever gives it back asks for
// it again and finds that the other has it, so each release serves a waiter.
// When the scheduler comes between the two steps the other finds nobody
// waiting; yielding now and then brings them back.
func handOff(s subject) trial {
	l := s.openFull(1, 1)
	const unit = 256
	return trial{unit: unit, stop: l.close, run: func(times int) { alternate(l, times*unit) }}
}

func alternate(l lender, n int) {
	inParallel(2, func() {
		i := 0
		must(l.pairs(context.Background(), n/2, func() {
			if i++; i%16 == 1 {
				runtime.Gosched()
			}
		}))
	})
}

// handOver is puddle's BenchmarkAcquire_ReleaseAfterAcquire: one goroutine
// acquires what another gives back meanwhile.
func handOver(s subject) trial {
	l := s.openFull(1, 1)
	const unit = 256
	return trial{unit: unit, stop: l.close, run: func(times int) {
		releases := make(chan func())
		var releaser sync.WaitGroup
		releaser.Go(func() {
			for release := range releases {
				release()
			}
		})
		release, err := l.hold(context.Background())
		must(err)
		for range times * unit {
			releases <- release
			release, err = l.hold(context.Background())
			must(err)
		}
		release()
		close(releases)
		releaser.Wait()
	}}
}

// cancelled has n goroutines wait for the one slot of a pool, and cancels them
// all.
func cancelled(n int) func(subject) trial {
	return func(s subject) trial {
		l := s.openFull(1, 1)
		return trial{unit: n, stop: l.close, run: func(times int) {
			release, err := l.hold(context.Background())
			must(err)
			defer release()
			for range times {
				ctx, cancel := context.WithCancel(context.Background())
				var started, ended sync.WaitGroup
				for range n {
					started.Add(1)
					ended.Go(func() {
						started.Done()
						if _, err := l.hold(ctx); err == nil {
							panic("a slot was lent that somebody else has")
						}
					})
				}
				started.Wait()
				cancel()
				ended.Wait()
			}
		}}
	}
}

// crowd has n goroutines make one short call each.
func crowd(n int) func(subject) trial {
	return func(s subject) trial {
		l := s.openFull(6, 8)
		return trial{unit: n, stop: l.close, run: func(times int) {
			for range times {
				inParallel(n, func() { must(l.pairs(context.Background(), 1, runtime.Gosched)) })
			}
		}}
	}
}

func inParallel(goroutines int, f func()) {
	if goroutines == 1 {
		f()
		return
	}
	var all sync.WaitGroup
	for range goroutines {
		all.Go(f)
	}
	all.Wait()
}

// pooledCall is a call through a pool to a server in this process.
func pooledCall() trial {
	c := everythingOn()
	p, err := mcpool.New(mcpool.Server{Name: "bench", Handler: handler{}}, &c)
	must(err)
	return calls(poolName, p.Do, func() { must(p.Close(context.Background())) })
}

// bareCall is the same call on one of the connections that pool would open.
func bareCall() trial {
	endpoint := transport.InProcess("bench", handler{})
	c, err := endpoint.Open(context.Background(), transport.Known{}, rpc.Capabilities{}, nil)
	must(err)
	do := func(ctx context.Context, call rpc.Call) (rpc.Answer, error) { return c.Call(ctx, call, nil) }
	return calls(bareName, do, func() {
		c.Close(context.Background())
		endpoint.Close()
	})
}

func calls(subject string, do func(context.Context, rpc.Call) (rpc.Answer, error), stop func()) trial {
	const unit = 256
	return trial{subject: subject, unit: unit, stop: stop, run: func(times int) {
		for range times * unit {
			_, err := do(context.Background(), call)
			must(err)
		}
	}}
}
