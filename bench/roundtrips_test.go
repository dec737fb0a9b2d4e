package main

import (
	"testing"

	"github.com/mcpool-dev/mcpool/internal/transport"
)

// TestRoundTrips counts what ours sends until a call is answered: on first
// contact, on another connection, and from then on.
func TestRoundTrips(t *testing.T) {
	p := startFarPeer(0)
	defer p.Close()
	for _, m := range []maker{{poolName, openPoolClient}, {bareName, openBareClient}} {
		for era, want := range map[transport.Era][3]float64{
			transport.Legacy: {4, 3, 1},
			transport.Modern: {2, 2, 1},
		} {
			got := p.travel(m, era)
			if got := [3]float64{got.first.requests, got.again.requests, got.later.requests}; got != want {
				t.Errorf("%s, %v: requests %v, want %v", m.name, era, got, want)
			}
		}
	}
}
