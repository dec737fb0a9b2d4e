package main

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/internal/transport"
)

// Modern clients keep nothing between calls: many a program connects for each.
// To a legacy server that is a session for each call; behind the gateway it is
// a few for all.
const (
	bridgeCallers = 16
	bridgeCalls   = 4 // of each caller in a round, beside one to begin with
)

// A bridge is what calls of that kind came to.
type bridge struct {
	perSecond map[string]map[string][]float64 // by client and by way
	sessions  map[string][]float64            // by way, in a round
	calls     int                             // in a round
}

// bridgers are the clients that connect for each call.
func bridgers() []maker { return []maker{{goSDKName, openGoSDK}, {bareName, openBareClient}} }

// measureBridge has the same clients call a far legacy server, at its own URL
// and through a gateway nearby that begins anew in each round. Its first calls,
// which open its connections, are not timed.
func measureBridge(rounds int) *bridge {
	far := startFarPeer(roundTrip)
	defer far.Close()
	got := &bridge{perSecond: map[string]map[string][]float64{}, sessions: map[string][]float64{}, calls: bridgeCallers * (1 + bridgeCalls)}
	for range rounds {
		for _, m := range bridgers() {
			if got.perSecond[m.name] == nil {
				got.perSecond[m.name] = map[string][]float64{}
			}
			h := startHop(gatewayHop, far.URL)
			for way, url := range map[string]string{
				directName:  far.URL + peerPath(transport.Legacy, "sse"),
				gatewayName: h.url + "/mcp/" + peerName(transport.Legacy, "sse"),
			} {
				sessions := far.sessions.Load()
				connectAndCall(m, url, 1)
				took := connectAndCall(m, url, bridgeCalls)
				got.perSecond[m.name][way] = append(got.perSecond[m.name][way], bridgeCallers*bridgeCalls/took.Seconds())
				got.sessions[way] = append(got.sessions[way], float64(far.sessions.Load()-sessions))
			}
			h.stop()
		}
	}
	return got
}

// connectAndCall has callers connect, call once and close, each so often.
func connectAndCall(m maker, url string, each int64) time.Duration {
	to := overHTTP(transport.Legacy, "sse")("")
	to.url = url
	defer to.hangUp()
	start := time.Now()
	var left atomic.Int64
	left.Store(bridgeCallers * each)
	var all sync.WaitGroup
	for range bridgeCallers {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				c := m.open(to)
				s := c.connect()
				s.call()
				s.close()
				c.close()
			}
		})
	}
	all.Wait()
	return time.Since(start)
}

// ratio is how many times as many calls a client makes through the gateway.
func (b *bridge) ratio(client string) float64 {
	var list []float64
	for i, through := range b.perSecond[client][gatewayName] {
		list = append(list, through/b.perSecond[client][directName][i])
	}
	return median(list)
}

func (b *bridge) verdict() verdict {
	allowed := float64(mcpool.DefaultConfig().MaxConnections)
	most := quantile(b.sessions[gatewayName], 1)
	v := verdict{
		what:   fmt.Sprintf("modern client that connects for each call, legacy server %v away, callers: %d", roundTrip, bridgeCallers),
		target: fmt.Sprintf("≥ 4 × calls/s of connecting to the server itself, ≤ %.0f sessions", allowed),
		met:    most <= allowed,
	}
	var said []string
	for _, m := range bridgers() {
		ratio := b.ratio(m.name)
		v.met = v.met && ratio >= 4
		said = append(said, fmt.Sprintf("%s %.1f ×", m.name, ratio))
	}
	v.figure = fmt.Sprintf("%s, %.0f sessions for %d calls", strings.Join(said, ", "), most, b.calls)
	return v
}

func (b *bridge) write(out *strings.Builder) {
	fmt.Fprintf(out, "\n| client that connects for each call | way | calls/s | sessions for %d calls |\n|---|---|--:|--:|\n", b.calls)
	for _, m := range bridgers() {
		for _, way := range []string{directName, gatewayName} {
			fmt.Fprintf(out, "| %s | %s | %.0f | %.0f |\n", orNone(way == directName, m.name), way,
				median(b.perSecond[m.name][way]), median(b.sessions[way]))
		}
	}
}
