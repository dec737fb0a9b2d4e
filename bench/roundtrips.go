package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mcpool-dev/mcpool/internal/transport"
)

// roundTrip is how long the way to the far peer and back takes.
const roundTrip = 20 * time.Millisecond

// A farPeer is the peer in this process, behind a network that is simulated
// with a wait for each exchange of a request and its response. It counts the
// requests; but not those that end a session, for which nobody who calls
// waits. And it counts the sessions that it gives out.
type farPeer struct {
	*httptest.Server
	requests, sessions atomic.Int64
}

func startFarPeer(roundTrip time.Duration) *farPeer {
	p, near := new(farPeer), peerHandler()
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodDelete {
			p.requests.Add(1)
		}
		time.Sleep(roundTrip)
		near.ServeHTTP(w, r)
		if w.Header().Get(headerSession) != "" {
			p.sessions.Add(1)
		}
	}))
	return p
}

// address is that of the far peer of an era. The TCP connection is open
// already: how long that takes is the same for all.
func (p *farPeer) address(era transport.Era) address {
	to := overHTTP(era, "sse")(p.URL)
	request, err := http.NewRequest(http.MethodGet, to.url, nil) // answered 405
	must(err)
	response, err := to.tripper.RoundTrip(request)
	must(err)
	_, err = io.Copy(io.Discard, response.Body)
	must(err)
	must(response.Body.Close())
	return to
}

// A trip is what it took to get an answer.
type trip struct{ requests, ms float64 }

// trips are those of a client that meets a server for the first time, of its
// first call on another connection, and of a later call on that.
type trips struct{ first, again, later trip }

// travel has a client make these calls.
func (p *farPeer) travel(m maker, era transport.Era) trips {
	to := p.address(era)
	defer to.hangUp()
	took := func(f func()) trip {
		before, start := p.requests.Load(), time.Now()
		f()
		return trip{float64(p.requests.Load() - before), float64(time.Since(start)) / float64(time.Millisecond)}
	}
	var c client
	var t trips
	var a, b session
	t.first = took(func() { c = m.open(to); a = c.connect(); a.call() })
	t.again = took(func() { b = c.connect(); b.call() })
	t.later = took(b.call)
	a.close()
	b.close()
	c.close()
	return t
}

// trippers are the clients whose trips are counted in an era. Against a modern
// server go-sdk's opens no stream and asks for the right version anyway.
func trippers(era transport.Era) []maker {
	list := clients()
	if era == transport.Legacy {
		list = append(list, maker{goSDKPinnedName, openGoSDKPinned})
	}
	return list
}

// wanted are the most requests that a pool may need, the call included.
var wanted = []struct {
	what   string
	era    transport.Era
	of     func(trips) trip
	atMost float64
}{
	{"first contact", transport.Legacy, func(t trips) trip { return t.first }, 4},
	{"first call on another connection", transport.Legacy, func(t trips) trip { return t.again }, 3},
	{"later call", transport.Legacy, func(t trips) trip { return t.later }, 1},
	{"first contact", transport.Modern, func(t trips) trip { return t.first }, 2},
	{"first call on another connection", transport.Modern, func(t trips) trip { return t.again }, 1},
	{"later call", transport.Modern, func(t trips) trip { return t.later }, 1},
}

// measureRoundTrips counts and times the trips of each client, in turns.
func measureRoundTrips(rounds int, _ time.Duration) string {
	p := startFarPeer(roundTrip)
	defer p.Close()
	got := map[transport.Era]map[string][]trips{transport.Legacy: {}, transport.Modern: {}}
	for range rounds {
		for era, by := range got {
			for _, m := range trippers(era) {
				by[m.name] = append(by[m.name], p.travel(m, era))
			}
		}
	}
	var verdicts []verdict
	for _, w := range wanted {
		t := medianTrip(got[w.era][poolName], w.of)
		verdicts = append(verdicts, verdict{
			what:   fmt.Sprintf("%s: %s, %s", poolName, w.era, w.what),
			target: fmt.Sprintf("≤ %.0f requests, the call included", w.atMost),
			figure: fmt.Sprintf("%.0f", t.requests),
			met:    t.requests <= w.atMost,
		})
	}
	var b strings.Builder
	writeVerdicts(&b, verdicts)
	b.WriteString("\n| era | client | first contact | first call on another connection | later call |\n|---|---|--:|--:|--:|\n")
	for _, era := range []transport.Era{transport.Legacy, transport.Modern} {
		title := era.String()
		for _, m := range trippers(era) {
			fmt.Fprintf(&b, "| %s | %s |", title, m.name)
			for _, w := range wanted {
				if w.era == era {
					t := medianTrip(got[era][m.name], w.of)
					fmt.Fprintf(&b, " %.0f, %.0f ms |", t.requests, t.ms)
				}
			}
			b.WriteByte('\n')
			title = ""
		}
	}
	return b.String()
}

func medianTrip(all []trips, of func(trips) trip) trip {
	var requests, ms []float64
	for _, t := range all {
		requests, ms = append(requests, of(t).requests), append(ms, of(t).ms)
	}
	return trip{median(requests), median(ms)}
}
