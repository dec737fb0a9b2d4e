package main

import (
	"fmt"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/mcpool-dev/mcpool/internal/transport"
)

// A route is a way to reach the peer.
type route struct {
	name string
	at   func(peer string) address // peer is the URL of the one over HTTP
	by   []maker
}

func routes() []route {
	withBase := append(clients(), maker{netHTTPName, openNetHTTP})
	return []route{
		{"streamable HTTP, legacy, answers by SSE", overHTTP(transport.Legacy, "sse"), withBase},
		{"streamable HTTP, legacy, answers in JSON", overHTTP(transport.Legacy, "json"), withBase},
		{"streamable HTTP, modern, answers by SSE", overHTTP(transport.Modern, "sse"), withBase},
		{"streamable HTTP, modern, answers in JSON", overHTTP(transport.Modern, "json"), withBase},
		{"HTTP+SSE of 2024-11-05", overHTTP(transport.Legacy, ssePath), clients()},
		{"stdio, legacy", overStdio(transport.Legacy), clients()},
		{"stdio, modern", overStdio(transport.Modern), clients()},
	}
}

func overHTTP(era transport.Era, answers string) func(string) address {
	return func(peer string) address {
		// Its TCP connections outlive the clients, so that none pays for them.
		// It keeps as many as our own transport does: of the two that are kept
		// by default one is often still busy with the end of a stream.
		tripper := http.DefaultTransport.(*http.Transport).Clone()
		tripper.MaxIdleConnsPerHost = 256
		return address{url: peer + peerPath(era, answers), tripper: tripper, sse: answers == ssePath}
	}
}

func overStdio(era transport.Era) func(string) address {
	return func(string) address { return address{child: era} }
}

func firstName(r route) string  { return r.name + ": first call" }
func reusedName(r route) string { return r.name + ": call" }

// cases are those of one route: the first call, and a call on an open
// connection.
func (r route) cases(peer string) []benchCase {
	first, reused := benchCase{name: firstName(r), long: true}, benchCase{name: reusedName(r), long: true}
	for _, m := range r.by {
		if m.name != netHTTPName { // which opens nothing
			first.open = append(first.open, func() trial { return firstCall(m, r.at(peer)) })
		}
		reused.open = append(reused.open, func() trial { return reusedCall(m, r.at(peer)) })
	}
	return []benchCase{first, reused}
}

// firstCall makes a client, has it open a connection and make one call, and
// closes both. What is timed ends with the answer.
func firstCall(m maker, to address) trial {
	t := trial{subject: m.name, unit: 1, stop: to.hangUp, took: new([]float64)}
	t.run = func(times int) {
		*t.took = (*t.took)[:0]
		for range times {
			start := time.Now()
			c := m.open(to)
			s := c.connect()
			s.call()
			*t.took = append(*t.took, float64(time.Since(start)))
			s.close()
			c.close()
		}
	}
	return t
}

// reusedCall makes calls on a connection that is open.
func reusedCall(m maker, to address) trial {
	c := m.open(to)
	s := c.connect()
	s.call()
	t := trial{subject: m.name, unit: 1, took: new([]float64), stop: func() {
		s.close()
		c.close()
		to.hangUp()
	}}
	t.run = func(times int) {
		*t.took = (*t.took)[:0]
		for range times {
			start := time.Now()
			s.call()
			*t.took = append(*t.took, float64(time.Since(start)))
		}
	}
	return t
}

// hangUp closes the TCP connections that are kept open for the next request.
func (a address) hangUp() {
	if a.tripper != nil {
		a.tripper.(*http.Transport).CloseIdleConnections()
	}
}

// measureTransports measures each client on each route.
func measureTransports(rounds int, round time.Duration) string {
	peer, stop := startPeer()
	defer stop()
	r := &results{cases: map[string]map[string]series{}}
	for _, route := range routes() {
		maps.Copy(r.cases, measure(route.cases(peer), rounds, round))
	}
	var b strings.Builder
	writeVerdicts(&b, r.calls())
	for _, kind := range []struct {
		title string
		name  func(route) string
	}{{"call on an open connection", reusedName}, {"first call", firstName}} {
		fmt.Fprintf(&b, "\n| %s | client | median | processor time | × go-sdk | bytes | allocations |\n"+
			"|---|---|--:|--:|--:|--:|--:|\n", kind.title)
		for _, route := range routes() {
			r.clientRows(&b, route, kind.name(route))
		}
	}
	return b.String()
}

// calls compares calls on connections of ours with those of the SDK.
func (r *results) calls() []verdict {
	var list []verdict
	for _, route := range routes() {
		name := reusedName(route)
		s, ok := r.cases[name][bareName]
		if !ok {
			continue
		}
		ratio, bytes := paired(s, r.of(name, goSDKName), cpu, ratio), s.median(allocated)
		list = append(list, verdict{
			what:   bareName + ": " + name + " with a result of 100 bytes",
			target: "≤ 0.5 × the processor time of go-sdk's client, ≤ 12 KiB allocated",
			figure: fmt.Sprintf("%.2f × (%.0f µs), %.1f KiB", ratio, s.median(cpu)/1000, bytes/1024),
			met:    ratio <= 0.5 && bytes <= 12<<10,
		})
	}
	return list
}

func (r *results) clientRows(b *strings.Builder, route route, name string) {
	title := route.name
	for _, m := range route.by {
		s, ok := r.cases[name][m.name]
		if !ok {
			continue
		}
		fmt.Fprintf(b, "| %s | %s | %.0f µs | %.0f µs | %.2f | %.0f | %.0f |\n", title, m.name,
			s.median(p50)/1000, s.median(cpu)/1000, paired(s, r.of(name, goSDKName), cpu, ratio),
			s.median(allocated), s.median(allocs))
		title = ""
	}
}
