package admin

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mcpool-dev/mcpool/gateway"
)

// gatewayCollector makes metrics of one Status of a gateway when it is scraped.
type gatewayCollector struct{ *gateway.Gateway }

func ofGateway(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("mcpool_gateway_"+name, help, labels, nil)
}

var (
	gatewayRequests = ofGateway("requests_in_flight", "Requests of clients that are being answered, subscriptions included.")
	gatewayParked   = ofGateway("parked_calls", "Calls that wait for a modern client to answer what their server asked.")
	gatewayStanding = ofGateway("standing_sessions", "Legacy sessions that are told of changes, or can be.")
	gatewaySSE      = ofGateway("sse_clients", "Clients over HTTP+SSE.")
	gatewayJoined   = ofGateway("joined_clients", "Clients of programs that have joined the gateway.")
	gatewayInFlight = ofGateway("calls_in_flight", "Calls to a server under way, those that wait for a connection included.", "server")
	gatewayLists    = ofGateway("lists", "1 for a server that lists what it has, 0 for one that does not, so that clients are shown its last list.", "server")
	gatewayCalls    = ofGateway("calls_total", "Calls that have ended, or were not made, by the eras of client and server and by what became of them.",
		"server", "client_era", "server_era", "result")
)

func (gatewayCollector) Describe(out chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{gatewayRequests, gatewayParked, gatewayStanding, gatewaySSE, gatewayJoined,
		gatewayInFlight, gatewayLists, gatewayCalls} {
		out <- desc
	}
}

func (g gatewayCollector) Collect(out chan<- prometheus.Metric) {
	s := g.Status()
	for _, of := range []struct {
		desc *prometheus.Desc
		n    int
	}{{gatewayRequests, s.CallsInFlight}, {gatewayParked, s.ParkedCalls}, {gatewayStanding, s.Standing}, {gatewaySSE, s.OverSSE}, {gatewayJoined, s.Joined}} {
		out <- constant(of.desc, prometheus.GaugeValue, float64(of.n))
	}
	for _, server := range s.Servers {
		out <- constant(gatewayInFlight, prometheus.GaugeValue, float64(server.CallsInFlight), server.Name)
		out <- constant(gatewayLists, prometheus.GaugeValue, float64(one(server.ListFault == nil)), server.Name)
		for _, c := range server.Calls {
			out <- constant(gatewayCalls, prometheus.CounterValue, float64(c.Count), server.Name, c.ClientEra, c.ServerEra, string(c.Outcome))
		}
	}
}
