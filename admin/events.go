package admin

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"time"
)

const (
	// eventStep is how often it is looked for changes, and eventLong the longest
	// time without an event.
	eventStep = time.Second
	eventLong = 5 * time.Second
	// maxStreams bounds the streams that are open.
	maxStreams = 64
)

// state is what an event tells.
type state struct {
	Pools       []poolView `json:"pools"`
	Connections []connView `json:"connections"`
	Waits       []waitView `json:"waits"`
}

// serveEvents tells how the pools stand, again and again (HTML, "Server-sent
// events").
func (a *Admin) serveEvents(w http.ResponseWriter, r *http.Request) {
	if a.streams.Add(1) > maxStreams {
		a.streams.Add(-1)
		fail(w, &apiError{http.StatusServiceUnavailable, "too many streams of events are open", "close one"})
		return
	}
	defer a.streams.Add(-1)
	w.Header().Set("Content-Type", "text/event-stream")
	if r.Method == http.MethodHead {
		return
	}
	flush := http.NewResponseController(w)
	tick := time.NewTicker(eventStep)
	defer tick.Stop()
	var before []byte
	var told time.Time
	for {
		now := state{a.poolViews(), connViewsOf(a.Pools()), a.waitViews()}
		if still := now.still(); !bytes.Equal(still, before) || time.Since(told) >= eventLong {
			before, told = still, time.Now()
			data, err := json.Marshal(now)
			if err != nil {
				return
			}
			if _, err := w.Write(slices.Concat([]byte("event: state\ndata: "), data, []byte("\n\n"))); err != nil || flush.Flush() != nil {
				return
			}
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		case <-a.ended:
			return
		}
		// Who would not be let in any more is told so when they come back; that
		// nobody can say who they are is no refusal.
		if _, err := a.admit(w, r); err != nil && err.status < http.StatusInternalServerError || !a.Ready() {
			return
		}
	}
}

// still is the state without what moves while nothing happens.
func (s state) still() []byte {
	s.Pools, s.Connections, s.Waits = slices.Clone(s.Pools), slices.Clone(s.Connections), slices.Clone(s.Waits)
	for i := range s.Pools {
		s.Pools[i].OldestWait = 0
	}
	for i := range s.Connections {
		s.Connections[i].Age = 0
		s.Connections[i].LastUse = time.Time{}
	}
	for i := range s.Waits {
		s.Waits[i].OldestWait = 0
	}
	text, _ := json.Marshal(s) // it is sent as well, where an error shows
	return text
}
