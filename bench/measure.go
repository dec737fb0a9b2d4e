package main

import (
	"cmp"
	"runtime"
	"slices"
	"syscall"
	"time"
)

// A figure is what one operation cost.
type figure struct {
	wall, cpu     float64 // nanoseconds
	allocs, bytes float64
	p50, p99      float64 // nanoseconds, of operations that are timed one by one
}

// A series is the figures of one subject in one case, one a round.
type series []figure

// measure runs the subjects of some cases in turns, so that what disturbs the
// machine disturbs all of them, and each round begins with another one. It
// returns their series by case and subject.
func measure(cases []benchCase, rounds int, atLeast time.Duration) map[string]map[string]series {
	type entry struct {
		trial
		of    benchCase
		times int
		got   series
	}
	var all []*entry
	for _, c := range cases {
		for _, open := range c.open {
			e := &entry{trial: open(), of: c}
			defer e.stop()
			round := atLeast
			if c.parallel || c.long {
				round *= longer
			}
			c.onProcs(func() { e.times = e.calibrate(round) })
			all = append(all, e)
		}
	}
	for round := range rounds {
		for i := range all {
			e := all[(i+round)%len(all)]
			e.of.onProcs(func() { e.got = append(e.got, e.of.round(e.trial, e.times)) })
		}
	}
	result := map[string]map[string]series{}
	for _, e := range all {
		if result[e.of.name] == nil {
			result[e.of.name] = map[string]series{}
		}
		result[e.of.name][e.subject] = e.got
	}
	return result
}

// Goroutines contend when they run at once. A round of a parallel case in
// which they used fewer processors than parallelAt on average is tried again,
// so many times at most; of these tries the most parallel one counts.
const (
	parallelAt = 1.6
	mostTries  = 8
	// longer is how many times as long such a round is: the system takes a
	// while to give the second goroutine a processor of its own. A long case
	// has it too.
	longer = 5
)

func (c benchCase) round(t trial, times int) figure {
	best := t.measure(times)
	for try := 1; c.parallel && best.processors() < parallelAt && try < mostTries; try++ {
		if f := t.measure(times); f.processors() > best.processors() {
			best = f
		}
	}
	return best
}

// processors is how many were in use on average.
func (f figure) processors() float64 { return f.cpu / f.wall }

// onProcs runs f with the GOMAXPROCS of the case.
func (c benchCase) onProcs(f func()) {
	if c.procs > 0 {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(c.procs))
	}
	f()
}

// calibrate returns how many times to run for a round that is long enough.
func (t trial) calibrate(atLeast time.Duration) int {
	for times := 1; ; times *= 2 {
		start := time.Now()
		t.run(times)
		if took := time.Since(start); took >= atLeast/2 {
			return max(1, int(float64(times)*float64(atLeast)/float64(took)))
		}
	}
}

func (t trial) measure(times int) figure {
	usage := usageOfThis
	if t.usage != nil {
		usage = t.usage
	}
	runtime.GC() // no subject pays for the garbage of the one before
	before, start := usage(), time.Now()
	t.run(times)
	wall, after := time.Since(start), usage()
	ops := float64(times * t.unit)
	f := figure{
		wall: float64(wall) / ops, cpu: float64(after.Processor-before.Processor) / ops,
		allocs: float64(after.Allocations-before.Allocations) / ops,
		bytes:  float64(after.Bytes-before.Bytes) / ops,
	}
	if t.took != nil {
		f.p50, f.p99 = median(*t.took), quantile(*t.took, 0.99)
	}
	return f
}

// A usage is what a process has used so far.
type usage struct {
	Processor          time.Duration
	Allocations, Bytes uint64
}

func usageOfThis() usage {
	var heap runtime.MemStats
	used := processorTime()
	runtime.ReadMemStats(&heap)
	return usage{used, heap.Mallocs, heap.TotalAlloc}
}

// processorTime is what the process has used so far, of all processors.
func processorTime() time.Duration {
	var used syscall.Rusage
	must(syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

func wall(f figure) float64      { return f.wall }
func cpu(f figure) float64       { return f.cpu }
func allocs(f figure) float64    { return f.allocs }
func allocated(f figure) float64 { return f.bytes }
func p50(f figure) float64       { return f.p50 }
func p99(f figure) float64       { return f.p99 }

func (s series) values(of func(figure) float64) []float64 {
	list := make([]float64, len(s))
	for i, f := range s {
		list[i] = of(f)
	}
	return list
}

func (s series) median(of func(figure) float64) float64 { return median(s.values(of)) }
func (s series) least(of func(figure) float64) float64  { return slices.Min(s.values(of)) }

// paired is the median of how the two compare, round by round: what slowed a
// round down slowed both.
func paired(a, b series, of func(figure) float64, compare func(a, b float64) float64) float64 {
	list := a.values(of)
	for i, other := range b.values(of) {
		list[i] = compare(list[i], other)
	}
	return median(list)
}

func ratio(a, b float64) float64      { return a / b }
func difference(a, b float64) float64 { return a - b }

func median(list []float64) float64 {
	list = slices.SortedFunc(slices.Values(list), cmp.Compare[float64])
	n := len(list)
	return (list[(n-1)/2] + list[n/2]) / 2
}

// quantile is the least of the list that so much of it does not exceed.
func quantile(list []float64, part float64) float64 {
	list = slices.SortedFunc(slices.Values(list), cmp.Compare[float64])
	return list[min(len(list)-1, int(part*float64(len(list))))]
}
