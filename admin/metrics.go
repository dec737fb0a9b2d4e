package admin

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/mcpool-dev/mcpool"
)

// metricsHandler serves what there is to show, and the metrics of the Go runtime
// and of the process, from a registry of its own: what a program that contains us
// registers elsewhere is not ours to publish.
func metricsHandler(o Options) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		poolCollector(o.Pools),
		databaseCollector(o.Databases),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	if o.Gateway != nil {
		registry.MustRegister(gatewayCollector{o.Gateway})
	}
	if o.Requests != nil {
		registry.MustRegister(o.Requests)
	}
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
}

// poolCollector makes metrics of one Stats per pool when it is scraped. Their
// labels are few and fixed: the server, and a state or reason of those that
// the pool knows. Nothing that a caller can invent is a label.
type poolCollector func() []*mcpool.Pool

func (pools poolCollector) Describe(out chan<- *prometheus.Desc) {
	for _, m := range metrics {
		out <- m.desc
	}
	for _, h := range histograms {
		out <- h.desc
	}
	for _, c := range counts {
		out <- c.desc
	}
	out <- connections
	out <- breaker
}

func (pools poolCollector) Collect(out chan<- prometheus.Metric) {
	for _, p := range pools() {
		s := p.Stats()
		for _, m := range metrics {
			out <- constant(m.desc, m.kind, m.value(&s), s.Server)
		}
		for _, h := range histograms {
			l := h.value(&s)
			out <- prometheus.MustNewConstHistogram(h.desc, l.Count, l.Sum.Seconds(), buckets(l), s.Server)
		}
		for _, of := range []struct {
			state string
			n     int
		}{{"in_use", s.InUse}, {"idle", s.Idle}, {"opening", s.Opening}, {"retired", s.Retired}} {
			out <- constant(connections, prometheus.GaugeValue, float64(of.n), s.Server, of.state)
		}
		for _, state := range mcpool.Breakers() {
			out <- constant(breaker, prometheus.GaugeValue, float64(one(s.Breaker == state)), s.Server, string(state))
		}
		for _, c := range counts {
			c.each(&s, func(reason string, n uint64) {
				out <- constant(c.desc, prometheus.CounterValue, float64(n), s.Server, reason)
			})
		}
	}
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("mcpool_"+name, help, append([]string{"server"}, labels...), nil)
}

// constant is a metric of a value at the time of a scrape.
func constant(desc *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(desc, kind, value, labels...)
}

var (
	connections = describe("connections", "Connections by state; in use and idle ones make up the pool.", "state")
	breaker     = describe("breaker_state", "1 for the state that the breaker is in: closed, open (callers are told at once that the server is away) or half-open.", "state")
)

// counts are the counters of what a pool knows the reasons of.
var counts = []counted{
	by("acquires", "Slots and whole connections asked for, by what came of it.", "result", mcpool.AcquireResults(), func(s *mcpool.Stats) map[mcpool.AcquireResult]uint64 { return s.Acquires }),
	by("pins", "Times that a connection came to be one caller's, by reason.", "reason", mcpool.PinReasons(), func(s *mcpool.Stats) map[mcpool.PinReason]uint64 { return s.Pins }),
	by("retries", "Times that a call was sent again, by reason.", "reason", mcpool.RetryReasons(), func(s *mcpool.Stats) map[mcpool.RetryReason]uint64 { return s.Retries }),
	by("opens", "Openings begun, by reason.", "reason", mcpool.OpenReasons(), func(s *mcpool.Stats) map[mcpool.OpenReason]uint64 { return s.Opens }),
	by("open_failures", "Connections that could not be opened, by the reason to open them.", "reason", mcpool.OpenReasons(), func(s *mcpool.Stats) map[mcpool.OpenReason]uint64 { return s.OpenFailures }),
	by("closed", "Connections closed, by reason.", "reason", mcpool.CloseReasons(), func(s *mcpool.Stats) map[mcpool.CloseReason]uint64 { return s.Closed }),
}

// counted is a count of Stats for each of all reasons.
type counted struct {
	desc *prometheus.Desc
	each func(s *mcpool.Stats, tell func(reason string, n uint64))
}

func by[R ~string](name, help, label string, all []R, of func(*mcpool.Stats) map[R]uint64) counted {
	return counted{describe(name+"_total", help, label), func(s *mcpool.Stats, tell func(string, uint64)) {
		for _, reason := range all {
			tell(string(reason), of(s)[reason])
		}
	}}
}

// A metric is one value of Stats.
type metric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*mcpool.Stats) float64
}

var metrics = []metric{
	gauge("groups", "Groups with a connection or a waiting caller.", func(s *mcpool.Stats) int { return s.Groups }),
	gauge("pinned", "Connections that are one caller's: a session's, or lent whole.", func(s *mcpool.Stats) int { return s.Pinned }),
	gauge("max_opening", "Connections that may be opened at once now.", func(s *mcpool.Stats) int { return s.MaxOpening }),
	gauge("slots", "Room for calls on the connections that are open.", func(s *mcpool.Stats) int { return s.Slots }),
	gauge("calls_in_flight", "Calls that have not been answered.", func(s *mcpool.Stats) int { return s.CallsInFlight }),
	gauge("settling", "Cancelled calls that the server may still be working on.", func(s *mcpool.Stats) int { return s.Settling }),
	gauge("paused", "1 while the pool is paused.", func(s *mcpool.Stats) int { return one(s.Paused) }),
	gauge("waiting", "Callers waiting for a slot.", func(s *mcpool.Stats) int { return s.Waiting }),
	gauge("oldest_wait_seconds", "How long the first waiting caller has waited.", func(s *mcpool.Stats) float64 { return s.OldestWait.Seconds() }),
	gauge("reuse_ratio", "Share of the calls that had a connection that cost none of their own.", func(s *mcpool.Stats) float64 { return s.ReuseRatio }),

	counter("opened", "Connections opened.", func(s *mcpool.Stats) uint64 { return s.Opened }),
	counter("opens_elided", "Openings not needed any more when they were to begin.", func(s *mcpool.Stats) uint64 { return s.OpensElided }),
	counter("spares_used", "Connections that were ready for the session that took them.", func(s *mcpool.Stats) uint64 { return s.SparesUsed }),
	counter("leaked", "Leases found to be held for too long.", func(s *mcpool.Stats) uint64 { return s.Leaked }),
	counter("released", "Slots and whole connections given back.", func(s *mcpool.Stats) uint64 { return s.Released }),
	counter("waited", "Slots and whole connections lent that had to be waited for.", func(s *mcpool.Stats) uint64 { return s.Waited }),
	counter("wait_time_seconds", "Time that callers have waited.", func(s *mcpool.Stats) float64 { return s.WaitTime.Seconds() }),
	counter("late_binds", "Waiters served by an old connection while a new one was being opened, which they did not need.", func(s *mcpool.Stats) uint64 { return s.LateBinds }),
	counter("calls", "Calls made through the pool.", func(s *mcpool.Stats) uint64 { return s.Calls }),
	counter("carried", "Calls that have had a connection.", func(s *mcpool.Stats) uint64 { return s.Carried }),
	counter("cache_hits", "Calls answered from what the server had said before.", func(s *mcpool.Stats) uint64 { return s.CacheHits }),
	counter("errors", "Calls that got no answer, or an error of the protocol.", func(s *mcpool.Stats) uint64 { return s.Errors }),
	counter("retry_budget_spent", "Times that a call was sent again although it may have run.", func(s *mcpool.Stats) uint64 { return s.RetryBudgetSpent }),
	counter("retry_budget_exhausted", "Calls not sent again because a fifth of all had been.", func(s *mcpool.Stats) uint64 { return s.RetryBudgetExhausted }),
	counter("health_checks", "Health checks of idle connections.", func(s *mcpool.Stats) uint64 { return s.HealthChecks }),
	counter("health_failures", "Health checks that failed.", func(s *mcpool.Stats) uint64 { return s.HealthFailures }),
}

func one(is bool) int {
	if is {
		return 1
	}
	return 0
}

func gauge[N int | float64](name, help string, value func(*mcpool.Stats) N) metric {
	return metric{describe(name, help), prometheus.GaugeValue, func(s *mcpool.Stats) float64 { return float64(value(s)) }}
}

func counter[N uint64 | float64](name, help string, value func(*mcpool.Stats) N) metric {
	return metric{describe(name+"_total", help), prometheus.CounterValue, func(s *mcpool.Stats) float64 { return float64(value(s)) }}
}

// histograms are those of the pool's distributions.
var histograms = []struct {
	desc  *prometheus.Desc
	value func(*mcpool.Stats) mcpool.Latency
}{
	{describe("open_seconds", "Time to open a connection."), func(s *mcpool.Stats) mcpool.Latency { return s.Open }},
	{describe("wait_seconds", "Time from asking for a slot to having it."), func(s *mcpool.Stats) mcpool.Latency { return s.Wait }},
	{describe("call_seconds", "Time from having a slot to the answer, each time sent."), func(s *mcpool.Stats) mcpool.Latency { return s.Call }},
	{describe("lease_seconds", "Time from having a slot or a whole connection to giving it back, by a clock that ticks every 10 ms."), func(s *mcpool.Stats) mcpool.Latency { return s.Lease }},
}

// Buckets outside of these bounds are left out: each is a time series per
// server and histogram, and what calls take is between.
const (
	leastBucket = 500 * time.Microsecond
	mostBucket  = 2 * time.Minute
)

// buckets are those of l as Prometheus counts them. The bounds double, and a
// nanosecond is added to have them end in a whole microsecond, which is all
// that is measured.
func buckets(l mcpool.Latency) map[float64]uint64 {
	counts := make(map[float64]uint64)
	for _, b := range l.Buckets {
		if b.UpTo >= leastBucket && b.UpTo <= mostBucket {
			counts[(b.UpTo + time.Nanosecond).Seconds()] = b.Count
		}
	}
	return counts
}
