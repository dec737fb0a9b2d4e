package mcpool

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/mcpool-dev/mcpool/internal/slots"
)

const (
	// leakFirst is of how many leases of each slot it is remembered where they
	// were taken, and leakSample of how many after them one is: the stack costs
	// some 400 ns, as much as the rest of the lease several times over. What
	// leaks keeps its slot, so that others come to slots that were lent little.
	leakFirst  = 8
	leakSample = 256
	// leakMost bounds how many are remembered.
	leakMost = 1024
	// leakFrames is how much of the stack is remembered.
	leakFrames = 16
)

// leaks finds leases that are held for long and says where they were taken.
// One timer sweeps all of them: giving a lease back costs nothing.
type leaks struct {
	mu     sync.Mutex // guards all below
	taken  []taken
	full   bool        // of leases that are still held, until the next sweep
	timer  *time.Timer // nil while there is nothing to sweep
	closed bool
}

// taken is where a lease was taken.
type taken struct {
	slot   slots.Lease[group, *link]
	at     time.Time
	frames [leakFrames]uintptr
	said   bool
}

// watched reports whether it is to be remembered where a lease was taken.
func watched(slot slots.Lease[group, *link]) bool {
	n := slot.Turn()
	return n < leakFirst || n%leakSample == 0
}

// watchLease remembers where a lease is taken: by the caller of its caller.
func (p *Pool) watchLease(slot slots.Lease[group, *link], after time.Duration) {
	l := &p.leaks
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.full && len(l.taken) >= leakMost {
		l.forget()
		l.full = len(l.taken) >= leakMost
	}
	if l.closed || l.full {
		return
	}
	t := taken{slot: slot, at: time.Now()}
	runtime.Callers(3, t.frames[:]) // without Callers, watchLease and Acquire
	l.taken = append(l.taken, t)
	if l.timer == nil {
		l.timer = time.AfterFunc(after, p.sweepLeases)
	}
}

// forget drops what was given back.
func (l *leaks) forget() {
	kept := l.taken[:0]
	for _, t := range l.taken {
		if t.slot.Held() {
			kept = append(kept, t)
		}
	}
	clear(l.taken[len(kept):])
	l.taken = kept
}

// sweepLeases reports the leases that are held for LeakAfter, once each.
func (p *Pool) sweepLeases() {
	if !p.enter() {
		return
	}
	defer p.work.Done()
	after := p.terms.Load().config.LeakAfter
	for _, t := range p.leaks.sweep(after, p.sweepLeases) {
		p.leaked.Add(1)
		p.log.Warn("lease held for long, is it ever released?", "conn", t.slot.Conn().name,
			"held", time.Since(t.at), "taken_at", t.place())
	}
}

// sweep returns what is to be reported, and sets the timer again.
func (l *leaks) sweep(after time.Duration, again func()) []taken {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timer, l.full = nil, false
	l.forget()
	var long []taken
	for i := range l.taken {
		if t := &l.taken[i]; !t.said && after > 0 && time.Since(t.at) >= after {
			t.said = true
			long = append(long, *t)
		}
	}
	if len(l.taken) > 0 && after > 0 && !l.closed {
		l.timer = time.AfterFunc(max(after/2, time.Millisecond), again)
	}
	return long
}

func (l *leaks) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.timer != nil {
		l.timer.Stop()
	}
}

// place is where the lease was taken, from the caller of Acquire outwards.
func (t *taken) place() string {
	var lines []string
	frames := runtime.CallersFrames(t.frames[:])
	for {
		frame, more := frames.Next()
		if frame.Function != "" {
			lines = append(lines, fmt.Sprintf("%s (%s:%d)", frame.Function, frame.File, frame.Line))
		}
		if !more {
			return strings.Join(lines, " < ")
		}
	}
}
