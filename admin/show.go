package admin

import (
	"fmt"
	"net/http"
	"time"

	"github.com/mcpool-dev/mcpool"
)

// poolView is how a pool stands, in one line.
type poolView struct {
	Server        string         `json:"server"`
	Paused        bool           `json:"paused"`
	Breaker       mcpool.Breaker `json:"breaker"`
	Health        string         `json:"health"`
	Connections   int            `json:"connections"`
	InUse         int            `json:"in_use"`
	Idle          int            `json:"idle"`
	Opening       int            `json:"opening"`
	Retired       int            `json:"retired"`
	Slots         int            `json:"slots"`
	CallsInFlight int            `json:"calls_in_flight"`
	Waiting       int            `json:"waiting"`
	OldestWait    float64        `json:"oldest_wait_seconds"`
	Calls         uint64         `json:"calls"`
	Errors        uint64         `json:"errors"`
	ReuseRatio    float64        `json:"reuse_ratio"`
	Opened        uint64         `json:"opened"`
	// Avoided are the calls that had a connection and cost none of their own, and
	// AvoidedTime is what that many openings would have taken.
	Avoided     uint64        `json:"handshakes_avoided"`
	AvoidedTime float64       `json:"handshake_seconds_avoided"`
	Open        latencyStatus `json:"open"`
	Wait        latencyStatus `json:"wait"`
	Call        latencyStatus `json:"call"`
}

func poolViewOf(s mcpool.Stats) poolView {
	v := poolView{
		Server: s.Server, Paused: s.Paused, Breaker: s.Breaker,
		Connections: s.Connections, InUse: s.InUse, Idle: s.Idle, Opening: s.Opening, Retired: s.Retired,
		Slots: s.Slots, CallsInFlight: s.CallsInFlight, Waiting: s.Waiting, OldestWait: s.OldestWait.Seconds(),
		Calls: s.Calls, Errors: s.Errors, ReuseRatio: s.ReuseRatio, Opened: s.Opened,
		Open: latencyOf(s.Open), Wait: latencyOf(s.Wait), Call: latencyOf(s.Call),
	}
	if s.Carried > s.Opened {
		v.Avoided = s.Carried - s.Opened
	}
	if s.Open.Count > 0 {
		v.AvoidedTime = float64(v.Avoided) * s.Open.Sum.Seconds() / float64(s.Open.Count)
	}
	return v
}

type poolViews struct {
	Pools []poolView `json:"pools"`
}

func (a *Admin) getPools(*http.Request) (any, error) { return poolViews{a.poolViews()}, nil }

func (a *Admin) poolViews() []poolView {
	views := []poolView{}
	for _, p := range a.Pools() {
		stats := p.Stats()
		view := poolViewOf(stats)
		view.Health = healthOf(stats, p.About())
		views = append(views, view)
	}
	return views
}

type connView struct {
	Server string `json:"server"`
	connStatus
}

type connViews struct {
	Connections []connView `json:"connections"`
}

// getConnections answers with all connections, or those of ?server=.
func (a *Admin) getConnections(r *http.Request) (any, error) {
	server := r.URL.Query().Get("server")
	if server == "" {
		server = everyServer
	}
	pools, err := a.named(server)
	if err != nil {
		return nil, err
	}
	return connViews{connViewsOf(pools)}, nil
}

func connViewsOf(pools []*mcpool.Pool) []connView {
	views := []connView{}
	for _, p := range pools {
		for _, c := range connsOf(p) {
			views = append(views, connView{p.Name(), c})
		}
	}
	return views
}

type storyView struct {
	connView
	Story []eventView `json:"story"`
}

type eventView struct {
	At     time.Time `json:"at"`
	Event  string    `json:"event"`
	Detail string    `json:"detail"`
}

func (a *Admin) getConnection(r *http.Request) (any, error) {
	id := r.PathValue("id")
	for _, p := range a.Pools() {
		c, events, found := p.Story(id)
		if !found {
			continue
		}
		view := storyView{connView: connView{p.Name(), connOf(c)}}
		for _, e := range events {
			view.Story = append(view.Story, eventView{e.At.UTC(), e.Event, e.Detail})
		}
		return view, nil
	}
	return nil, noConnection(id, "connections that closed in the last hour are known, too")
}

func noConnection(id, besides string) error {
	return &apiError{http.StatusNotFound, fmt.Sprintf("there is no connection %.80q", id), apiPath + "connections lists those that are open; " + besides}
}

type clientView struct {
	ID            string  `json:"id"`
	Principal     string  `json:"principal"`
	Era           string  `json:"era"`
	Transport     string  `json:"transport"`
	Name          string  `json:"name"`
	Version       string  `json:"version"`
	SessionAge    float64 `json:"session_age_seconds"`
	CallsInFlight int     `json:"calls_in_flight"`
	Server        string  `json:"server"`
}

func (a *Admin) getClients(*http.Request) (any, error) {
	views := []clientView{}
	if a.Gateway != nil {
		for _, c := range a.Gateway.Clients() {
			view := clientView{c.ID, c.Principal, c.Era, c.Transport, c.Name, c.Version, 0, c.CallsInFlight, c.Server}
			if !c.Since.IsZero() {
				view.SessionAge = time.Since(c.Since).Seconds()
			}
			views = append(views, view)
		}
	}
	return struct {
		Clients []clientView `json:"clients"`
	}{views}, nil
}

type serverView struct {
	Server          string         `json:"server"`
	Transport       string         `json:"transport"`
	Target          string         `json:"target"`
	Era             string         `json:"era"`
	ProtocolVersion string         `json:"protocol_version"`
	Sharing         mcpool.Sharing `json:"sharing"`
	Health          string         `json:"health"`
	LastError       *troubleView   `json:"last_error"` // null for none
}

type troubleView struct {
	At    time.Time `json:"at"`
	Error string    `json:"error"`
}

func (a *Admin) getServers(*http.Request) (any, error) {
	views := []serverView{}
	for _, p := range a.Pools() {
		about := p.About()
		view := serverView{
			Server: p.Name(), Transport: about.Transport, Target: about.Target,
			Era: about.Era, ProtocolVersion: about.ProtocolVersion, Sharing: about.Sharing,
			Health: healthOf(p.Stats(), about),
		}
		if about.Trouble != nil {
			view.LastError = &troubleView{about.TroubleAt.UTC(), about.Trouble.Error()}
		}
		views = append(views, view)
	}
	return struct {
		Servers []serverView `json:"servers"`
	}{views}, nil
}

// healthOf says how a server is: "up" while a connection to it is open, "away"
// while callers are told at once that it is, "failing" where the last opening
// has failed, and "unused" while there is nothing to tell by.
func healthOf(s mcpool.Stats, about mcpool.About) string {
	switch {
	case s.Breaker != mcpool.BreakerClosed:
		return "away"
	case s.Connections > 0:
		return "up"
	case about.Failing:
		return "failing"
	}
	return "unused"
}

type statsView struct {
	Server string `json:"server"`
	statsStatus
}

func (a *Admin) getStats(*http.Request) (any, error) {
	views := []statsView{}
	for _, p := range a.Pools() {
		views = append(views, statsView{p.Name(), statusOf(p.Stats())})
	}
	return struct {
		Stats []statsView `json:"stats"`
	}{views}, nil
}

// A Setting is one that is in force.
type Setting struct {
	Server string `json:"server"` // whose it is; "" for all
	Name   string `json:"name"`
	Value  string `json:"value"`  // as a file has it; "***" for a secret
	Source string `json:"source"` // where it comes from, such as "default"
}

func (a *Admin) getConfig(*http.Request) (any, error) {
	settings := []Setting{}
	if a.Settings != nil {
		settings = append(settings, a.Settings()...)
	}
	return struct {
		Settings []Setting `json:"settings"`
	}{settings}, nil
}

type waitView struct {
	Server     string  `json:"server"`
	Principal  string  `json:"principal"`
	Waiting    int     `json:"waiting"`
	OldestWait float64 `json:"oldest_wait_seconds"`
}

func (a *Admin) getWaits(*http.Request) (any, error) {
	return struct {
		Waits []waitView `json:"waits"`
	}{a.waitViews()}, nil
}

func (a *Admin) waitViews() []waitView {
	views := []waitView{}
	for _, p := range a.Pools() {
		for _, w := range p.Waits() {
			views = append(views, waitView{p.Name(), w.Principal, w.Waiting, w.Oldest.Seconds()})
		}
	}
	return views
}
