package slots

import (
	"math"
	"time"
)

// How many connections to open is a matter of what waits and of what will
// come. Opening takes long (D, seconds) and calls are short (S, a fraction of
// one), so most of those who wait when an opening starts are served by the
// connections there are before it ends: only what will be left counts, and it
// is enough to have that done in another D. Beside it stands the trend: the
// calls that come have to fit the slots (Little's law). Opening one connection
// per waiter instead costs several times as many sessions for the same waits;
// TestBurst and TestStep have the figures.

// cold is the part of D in which those who had to wait for the very first
// connections shall be served: they have waited a whole D already.
const cold = 0.25

// window is the part of D that a rate is taken over.
const window = 0.07

// What is assumed before anything was measured, and how many measurements that
// counts for: a remote database server. Openings are few and much alike, calls
// are many and differ.
var (
	openPrior  = average{value: 2, n: 0}
	servePrior = average{value: 0.3, n: 16}
)

// average is a moving average of seconds.
type average struct {
	value float64
	n     int
}

func (a *average) add(d time.Duration) {
	a.n++
	a.value += (max(d.Seconds(), 1e-6) - a.value) * max(0.01, 1/float64(a.n))
}

// demand is how long openings and calls take.
type demand struct {
	opened average
	served average
}

// opening is how long an opening takes.
func (d *demand) opening() time.Duration {
	return time.Duration(d.opened.value * float64(time.Second))
}

// pace is how fast the callers of a group come: the lower of the rates of the
// last two windows. A storm that is over at once shows in one window only,
// and its callers are the backlog's affair; a load that has risen shows in
// both, at its full rate.
type pace struct {
	start        moment // of the window that is counted now
	came         uint64 // callers until then
	last, before float64
}

// rate takes in how many callers there were until now, and returns how many
// come each second.
func (r *pace) rate(came uint64, now moment, window float64) float64 {
	switch dt := (now - r.start).Seconds(); {
	case r.start == 0 || came < r.came: // a connection and its count have gone
		r.start, r.came = now, came
	case dt >= window:
		r.last, r.before = float64(came-r.came)/dt, r.last
		r.start, r.came = now, came
	}
	return min(r.last, r.before)
}

// wanted is how many connections the group should be opening now for those
// who wait and those to come.
func (p *Pool[K, C]) wanted(g *group[K, C], now moment) int {
	live := len(g.conns())
	perConn := float64(g.key.Slots)
	if live > 0 {
		perConn = float64(g.conns()[0].room())
	}
	open, serve := p.demand.opened.value, p.demand.served.value
	rate := g.pace.rate(g.came(), now, open*window)

	pending := float64(g.queue.n) + float64(g.queue.wholes)*(perConn-1)
	left := max(0, pending-float64(live)*perConn*open/serve)
	within := open
	if live == 0 {
		within = open * cold
	}
	backlog := int(math.Ceil(left*serve/(perConn*within))) - live
	trend := int(math.Ceil(rate*serve/perConn)) - live
	// Never more than would give every waiter a slot of its own.
	return min(max(backlog, trend), int(math.Ceil(pending/perConn)))
}

// came counts the callers of the group so far.
func (g *group[K, C]) came() uint64 {
	n := uint64(g.queue.n)
	for _, c := range g.conns() {
		lent, _ := c.callsLocked()
		n += lent
	}
	return n
}
