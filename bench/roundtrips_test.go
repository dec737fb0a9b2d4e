package main

import (
	"testing"

	"github.com/mcpool-dev/mcpool/internal/transport"
)

// TestRoundTrips counts what a pool sends until a call is answered: on first
// contact, on another connection, and from then on.
func TestRoundTrips(t *testing.T) {
	p := startFarPeer(0)
	defer p.Close()
	for era, want := range map[transport.Era][3]float64{
		transport.Legacy: {4, 3, 1},
		transport.Modern: {2, 1, 1},
	} {
		took := p.travel(maker{poolName, openPoolClient}, era)
		if got := [3]float64{took.first.requests, took.again.requests, took.later.requests}; got != want {
			t.Errorf("%v: requests %v, want %v", era, got, want)
		}
	}
}
