package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/mcpool-dev/mcpool/internal/transport"
)

const directName = "no hop"

// A passage is one kind of call that is measured through each hop.
type passage struct {
	era     transport.Era // of the client and the server
	answers string        // of the server
	tool    string
	result  []byte
	what    string // the result, in words
	callers int
	most    float64 // the target: so much of the proxy's processor time
	small   bool    // there is a bound on its allocations
}

func (p passage) name() string {
	how := map[string]string{"json": "JSON", "sse": "SSE"}[p.answers]
	return fmt.Sprintf("%s, %s, %s, callers: %d", p.what, p.era, how, p.callers)
}

// passages are those whose processor time is compared.
func passages() []passage {
	var list []passage
	each := func(p passage, callers ...int) {
		for _, p.era = range []transport.Era{transport.Legacy, transport.Modern} {
			for _, p.answers = range []string{"json", "sse"} {
				for _, p.callers = range callers {
					list = append(list, p)
				}
			}
		}
	}
	each(passage{tool: tool, result: peerResult, what: "100 bytes", most: 0.9, small: true}, 8, 64)
	for _, size := range resultSizes {
		for _, idLast := range []bool{false, true} {
			name, place := largeTool(size, idLast), "first"
			if idLast {
				place = "last"
			}
			each(passage{tool: name, result: largeResults[name].result, most: 1.15,
				what: fmt.Sprintf("%d KiB, `id` %s", size>>10, place)}, 8)
		}
	}
	return slices.DeleteFunc(list, func(p passage) bool { return !strings.Contains(p.name(), onlyCalls) })
}

// onlyCalls is in the names of the passages that are measured.
var onlyCalls string

// alone are the passages whose latency is compared.
func alone() []passage {
	var list []passage
	for _, p := range passages() {
		if p.small && p.callers == 8 {
			p.callers = 1
			list = append(list, p)
		}
	}
	return list
}

// hops are the processes that calls pass through, and the peer behind them.
type hops struct {
	peer                     string
	gateway, proxy, buffered *hop
	calls, broken            int64 // through proxy
}

func startHops(peer string) *hops {
	return &hops{peer: peer, gateway: startHop(gatewayHop, peer), proxy: startHop(proxyHop, peer), buffered: startHop(bufferedHop, peer)}
}

func (h *hops) stop() {
	h.gateway.stop()
	h.proxy.stop()
	h.buffered.stop()
}

// through are the ways to the peer.
func (h *hops) through(p passage) benchCase {
	c := benchCase{name: p.name(), long: true}
	add := func(subject, url string, usage func() usage) {
		c.open = append(c.open, func() trial {
			l := newLoad(url, p.era, p.tool, p.result, p.callers, subject == proxyName)
			t := l.trial(subject, usage)
			if l.breaks {
				t.stop = func() {
					h.calls, h.broken = h.calls+l.calls.Load(), h.broken+l.broken.Load()
					l.tripper.CloseIdleConnections()
				}
			}
			return t
		})
	}
	add(gatewayName, h.gateway.url+"/mcp/"+peerName(p.era, p.answers), h.gateway.usage)
	add(proxyName, h.proxy.url+peerPath(p.era, p.answers), h.proxy.usage)
	add(bufferedName, h.buffered.url+peerPath(p.era, p.answers), h.buffered.usage)
	if p.callers == 1 {
		add(directName, h.peer+peerPath(p.era, p.answers), nil)
	}
	return c
}

const (
	gatewayName  = "`gateway`"
	proxyName    = "`ReverseProxy`"
	bufferedName = "`ReverseProxy`, requests read first"
)

// measureGateway measures what a call costs in the gateway, beside a proxy that
// knows nothing of MCP, and how much longer it takes.
func measureGateway(rounds int, round time.Duration) string {
	peer, stop := startPeer()
	defer stop()
	h := startHops(peer)
	defer h.stop()
	r := &results{cases: map[string]map[string]series{}}
	for _, p := range append(alone(), passages()...) {
		maps.Copy(r.cases, measure([]benchCase{h.through(p)}, rounds, round))
	}
	verdicts := r.passed()
	var bridged *bridge
	if onlyCalls == "" {
		bridged = measureBridge(rounds)
		verdicts = append(verdicts, bridged.verdict())
	}
	var b strings.Builder
	writeVerdicts(&b, verdicts)
	b.WriteString("\n| call | hop | processor time | × proxy | bytes | allocations | calls/s |\n|---|---|--:|--:|--:|--:|--:|\n")
	for _, p := range passages() {
		title := p.name()
		for _, subject := range []string{gatewayName, proxyName, bufferedName} {
			s := r.of(title, subject)
			fmt.Fprintf(&b, "| %s | %s | %.0f µs | %.2f | %.0f | %.0f | %.0f |\n", orNone(subject == gatewayName, title), subject,
				s.median(cpu)/1000, paired(s, r.of(title, proxyName), cpu, ratio),
				s.median(allocated), s.median(allocs), 1e9/s.median(wall))
		}
	}
	fmt.Fprintf(&b, "\n%s broke off %d of %d answers.\n", proxyName, h.broken, h.calls)
	b.WriteString("\n| one caller | hop | p50 | p99 | adds to p50 | adds to p99 |\n|---|---|--:|--:|--:|--:|\n")
	for _, p := range alone() {
		title := p.name()
		for _, subject := range []string{directName, gatewayName, proxyName, bufferedName} {
			s, direct := r.of(title, subject), r.of(title, directName)
			fmt.Fprintf(&b, "| %s | %s | %.0f µs | %.0f µs | %.0f µs | %.0f µs |\n", orNone(subject == directName, title), subject,
				s.median(p50)/1000, s.median(p99)/1000, paired(s, direct, p50, difference)/1000, paired(s, direct, p99, difference)/1000)
		}
	}
	if bridged != nil {
		bridged.write(&b)
	}
	return b.String()
}

func orNone(first bool, title string) string {
	if first {
		return title
	}
	return ""
}

// passed compares the gateway with the proxy.
func (r *results) passed() []verdict {
	var list []verdict
	for _, p := range passages() {
		ours, proxy := r.of(p.name(), gatewayName), r.of(p.name(), proxyName)
		part, bytes := paired(ours, proxy, cpu, ratio), ours.median(allocated)
		v := verdict{
			what:   "processor time of a call: " + p.name(),
			target: fmt.Sprintf("≤ %.2f × %s", p.most, proxyName),
			figure: fmt.Sprintf("%.2f × (%.0f µs)", part, ours.median(cpu)/1000),
			met:    part <= p.most,
			why:    why[gatewayName],
		}
		if p.small {
			v.target += ", ≤ 16 KB allocated"
			v.figure += fmt.Sprintf(", %.1f KB", bytes/1000)
			v.met = v.met && bytes <= 16_000
		}
		list = append(list, v)
	}
	for _, p := range alone() {
		ours, proxy := r.of(p.name(), gatewayName), r.of(p.name(), proxyName)
		direct := r.of(p.name(), directName)
		adds, its := paired(ours, direct, p50, difference), paired(proxy, direct, p50, difference)
		more := paired(ours, proxy, p99, difference)
		list = append(list, verdict{
			what:   "latency that is added: " + p.name(),
			target: fmt.Sprintf("p50 ≤ that of %s, p99 ≤ 1 ms more", proxyName),
			figure: fmt.Sprintf("p50 %.0f µs beside %.0f µs, p99 %+.0f µs", adds/1000, its/1000, more/1000),
			met:    adds <= its && more <= 1e6,
			why:    why[gatewayName],
		})
	}
	return list
}
