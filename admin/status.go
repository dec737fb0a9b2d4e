package admin

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/gateway"
)

// status is /status. Times that last are in seconds, and say so.
type status struct {
	Version string         `json:"version"`
	Ready   bool           `json:"ready"`
	Started time.Time      `json:"started"`
	Uptime  float64        `json:"uptime_seconds"`
	Gateway *gatewayStatus `json:"gateway,omitempty"`
	Pools   []poolStatus   `json:"pools"`
}

// gatewayStatus is [gateway.Status].
type gatewayStatus struct {
	CallsInFlight int                   `json:"calls_in_flight"`
	ParkedCalls   int                   `json:"parked_calls"`
	Standing      int                   `json:"standing_sessions"`
	OverSSE       int                   `json:"sse_clients"`
	Joined        int                   `json:"joined_clients"`
	Servers       []gatewayServerStatus `json:"servers"`
}

type gatewayServerStatus struct {
	Server        string     `json:"server"`
	CallsInFlight int        `json:"calls_in_flight"`
	ListFault     *listFault `json:"list_fault"` // null for none
}

// listFault is why clients are shown the last list of a server, or none.
type listFault struct {
	Since time.Time `json:"since"`
	Error string    `json:"error"`
}

type poolStatus struct {
	Server      string       `json:"server"`
	Stats       statsStatus  `json:"stats"`
	Connections []connStatus `json:"connections"`
}

// statsStatus is [mcpool.Stats], but for its name.
type statsStatus struct {
	Connections int `json:"connections"`
	InUse       int `json:"in_use"`
	Idle        int `json:"idle"`
	Opening     int `json:"opening"`
	Retired     int `json:"retired"`
	Pinned      int `json:"pinned"`
	Groups      int `json:"groups"`
	MaxOpening  int `json:"max_opening"`

	Slots         int            `json:"slots"`
	CallsInFlight int            `json:"calls_in_flight"`
	Settling      int            `json:"settling"`
	Paused        bool           `json:"paused"`
	Breaker       mcpool.Breaker `json:"breaker"`
	Waiting       int            `json:"waiting"`
	OldestWait    float64        `json:"oldest_wait_seconds"`

	Opened       uint64                        `json:"opened"`
	Opens        map[mcpool.OpenReason]uint64  `json:"opens"`
	OpenFailures map[mcpool.OpenReason]uint64  `json:"open_failures"`
	OpensElided  uint64                        `json:"opens_elided"`
	SparesUsed   uint64                        `json:"spares_used"`
	Closed       map[mcpool.CloseReason]uint64 `json:"closed"`

	Acquires  map[mcpool.AcquireResult]uint64 `json:"acquires"`
	Released  uint64                          `json:"released"`
	Waited    uint64                          `json:"waited"`
	WaitTime  float64                         `json:"wait_time_seconds"`
	LateBinds uint64                          `json:"late_binds"`
	Pins      map[mcpool.PinReason]uint64     `json:"pins"`

	Calls                uint64                        `json:"calls"`
	Carried              uint64                        `json:"carried"`
	CacheHits            uint64                        `json:"cache_hits"`
	Errors               uint64                        `json:"errors"`
	Retries              map[mcpool.RetryReason]uint64 `json:"retries"`
	RetryBudgetSpent     uint64                        `json:"retry_budget_spent"`
	RetryBudgetExhausted uint64                        `json:"retry_budget_exhausted"`
	Leaked               uint64                        `json:"leaked"`

	HealthChecks   uint64 `json:"health_checks"`
	HealthFailures uint64 `json:"health_failures"`

	ReuseRatio float64 `json:"reuse_ratio"`

	Open  latencyStatus `json:"open"`
	Wait  latencyStatus `json:"wait"`
	Call  latencyStatus `json:"call"`
	Lease latencyStatus `json:"lease"`
}

// latencyStatus is [mcpool.Latency] without the buckets, which are metrics.
type latencyStatus struct {
	Count uint64  `json:"count"`
	Sum   float64 `json:"sum_seconds"`
	P50   float64 `json:"p50_seconds"`
	P90   float64 `json:"p90_seconds"`
	P99   float64 `json:"p99_seconds"`
	Max   float64 `json:"max_seconds"`
}

type connStatus struct {
	ID              string    `json:"id"`
	State           string    `json:"state"`
	Group           string    `json:"group"`
	Era             string    `json:"era"`
	ProtocolVersion string    `json:"protocol_version"`
	ServerName      string    `json:"server_name"`
	ServerVersion   string    `json:"server_version"`
	Age             float64   `json:"age_seconds"`
	LastUse         time.Time `json:"last_use"`
	OpenTook        float64   `json:"open_took_seconds"`
	Slots           int       `json:"slots"`
	CallsInFlight   int       `json:"calls_in_flight"`
	Calls           uint64    `json:"calls"`
	Errors          uint64    `json:"errors"`
}

func (a *Admin) status(w http.ResponseWriter, r *http.Request) {
	s := status{
		Version: a.Version,
		Ready:   a.Ready(),
		Started: a.started.UTC(),
		Uptime:  time.Since(a.started).Seconds(),
		Gateway: gatewayOf(a.Gateway),
		Pools:   []poolStatus{},
	}
	for _, p := range a.Pools() {
		s.Pools = append(s.Pools, poolStatus{p.Name(), statusOf(p.Stats()), connsOf(p)})
	}
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	// It cannot fail but for the client having left, who need not be told.
	_ = enc.Encode(s)
}

func gatewayOf(g *gateway.Gateway) *gatewayStatus {
	if g == nil {
		return nil
	}
	s := g.Status()
	shown := &gatewayStatus{
		CallsInFlight: s.CallsInFlight, ParkedCalls: s.ParkedCalls,
		Standing: s.Standing, OverSSE: s.OverSSE, Joined: s.Joined,
	}
	for _, one := range s.Servers {
		server := gatewayServerStatus{Server: one.Name, CallsInFlight: one.CallsInFlight}
		if f := one.ListFault; f != nil {
			server.ListFault = &listFault{f.Since.UTC(), f.Err.Error()}
		}
		shown.Servers = append(shown.Servers, server)
	}
	return shown
}

func statusOf(s mcpool.Stats) statsStatus {
	return statsStatus{
		Connections: s.Connections, InUse: s.InUse, Idle: s.Idle,
		Opening: s.Opening, Retired: s.Retired, Pinned: s.Pinned, Groups: s.Groups, MaxOpening: s.MaxOpening,
		Slots: s.Slots, CallsInFlight: s.CallsInFlight, Settling: s.Settling,
		Paused: s.Paused, Breaker: s.Breaker,
		Waiting: s.Waiting, OldestWait: s.OldestWait.Seconds(),
		Opened: s.Opened, Opens: s.Opens, OpenFailures: s.OpenFailures,
		OpensElided: s.OpensElided, SparesUsed: s.SparesUsed, Closed: s.Closed,
		Acquires: s.Acquires, Released: s.Released, Waited: s.Waited,
		WaitTime: s.WaitTime.Seconds(), LateBinds: s.LateBinds, Pins: s.Pins,
		Calls: s.Calls, Carried: s.Carried, CacheHits: s.CacheHits, Errors: s.Errors, Retries: s.Retries,
		RetryBudgetSpent: s.RetryBudgetSpent, RetryBudgetExhausted: s.RetryBudgetExhausted, Leaked: s.Leaked,
		HealthChecks: s.HealthChecks, HealthFailures: s.HealthFailures,
		ReuseRatio: s.ReuseRatio,
		Open:       latencyOf(s.Open), Wait: latencyOf(s.Wait), Call: latencyOf(s.Call), Lease: latencyOf(s.Lease),
	}
}

func latencyOf(l mcpool.Latency) latencyStatus {
	return latencyStatus{
		Count: l.Count, Sum: l.Sum.Seconds(),
		P50: l.P50.Seconds(), P90: l.P90.Seconds(), P99: l.P99.Seconds(), Max: l.Max.Seconds(),
	}
}

func connsOf(p *mcpool.Pool) []connStatus {
	conns := []connStatus{} // [] in JSON, not null
	for _, c := range p.Conns() {
		conns = append(conns, connOf(c))
	}
	return conns
}

func connOf(c *mcpool.Conn) connStatus {
	return connStatus{
		ID: c.ID(), State: c.State(), Group: c.Group(),
		Era: c.Era(), ProtocolVersion: c.ProtocolVersion(),
		ServerName: c.ServerName(), ServerVersion: c.ServerVersion(),
		Age: c.Age().Seconds(), LastUse: c.LastUse().UTC(), OpenTook: c.OpenTook().Seconds(),
		Slots: c.Slots(), CallsInFlight: c.CallsInFlight(),
		Calls: c.Calls(), Errors: c.Errors(),
	}
}
