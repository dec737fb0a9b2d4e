package mcpool

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// Latency is a distribution of durations. Quantiles are right to within an
// eighth of their value, and the upper end of what was measured.
type Latency struct {
	Count              uint64
	Sum                time.Duration
	P50, P90, P99, Max time.Duration
	// Buckets count the durations up to a bound, each including those before
	// it; the last bound is over an hour, and Count counts what is beyond.
	Buckets []Bucket
}

// A Bucket counts the durations of at most UpTo.
type Bucket struct {
	UpTo  time.Duration
	Count uint64
}

// latency measures durations without a lock. A duration in microseconds falls
// into the octave of its highest bit, and there into one of eight parts.
type latency struct {
	parts [octaves * 8]atomic.Uint64
	sum   atomic.Int64
	max   atomic.Int64
}

const octaves = 31 // up to 2^33 µs, over two hours; longer ones count there too

func part(d time.Duration) int {
	us := uint64(max(0, d.Microseconds()))
	if us < 8 {
		return int(us)
	}
	octave := bits.Len64(us) - 1 // ≥ 3
	n := (octave-2)*8 + int(us>>(octave-3)&7)
	return min(n, octaves*8-1)
}

// upTo is the largest duration that falls into part i.
func upTo(i int) time.Duration {
	if i < 8 {
		return time.Duration(i+1)*time.Microsecond - 1
	}
	octave, eighth := i/8+2, i%8
	return time.Duration(8+eighth+1)<<(octave-3)*time.Microsecond - 1
}

func (l *latency) add(d time.Duration) {
	l.parts[part(d)].Add(1)
	if d == 0 {
		return
	}
	l.sum.Add(int64(d))
	for {
		m := l.max.Load()
		if int64(d) <= m || l.max.CompareAndSwap(m, int64(d)) {
			return
		}
	}
}

// snapshot is what was measured, and zeros besides.
func (l *latency) snapshot(zeros uint64) Latency {
	var counts [octaves * 8]uint64
	s := Latency{Sum: time.Duration(l.sum.Load()), Max: time.Duration(l.max.Load())}
	for i := range counts {
		counts[i] = l.parts[i].Load()
		s.Count += counts[i]
	}
	counts[0] += zeros
	s.Count += zeros
	var seen uint64
	for i, n := range counts {
		for _, q := range []struct {
			of float64
			to *time.Duration
		}{{.5, &s.P50}, {.9, &s.P90}, {.99, &s.P99}} {
			rank := uint64(math.Ceil(q.of * float64(s.Count)))
			if n > 0 && seen < rank && rank <= seen+n {
				*q.to = min(upTo(i), s.Max)
			}
		}
		if seen += n; i%8 == 7 && i < len(counts)-1 {
			s.Buckets = append(s.Buckets, Bucket{upTo(i), seen})
		}
	}
	return s
}
