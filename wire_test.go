package mcpool_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpool-dev/mcpool"
)

// A wire is what the pool sends by, and sees what goes over it.
type wire struct {
	t       *testing.T
	over    http.RoundTripper
	sharing mcpool.Sharing

	mu      sync.Mutex               // guards what follows
	told    map[string]bool          // sessions whose opening was answered, to the last byte
	gone    map[string]bool          // sessions that got 404
	deletes map[string]int           // by session
	owner   map[string]string        // of a session, as far as sharing has one
	busy    map[string]time.Duration // how long the requests of a call took, by its id
	since   map[string]time.Time     // when the one began that is under way
}

func newWire(t *testing.T, over http.RoundTripper, sharing mcpool.Sharing) *wire {
	return &wire{t: t, over: over, sharing: sharing, told: map[string]bool{}, gone: map[string]bool{},
		deletes: map[string]int{}, owner: map[string]string{}, busy: map[string]time.Duration{}, since: map[string]time.Time{}}
}

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	var m struct {
		Method string
		Params struct{ Arguments struct{ ID string } }
	}
	if r.GetBody != nil {
		body, err := r.GetBody()
		if err == nil {
			err = json.NewDecoder(body).Decode(&m)
		}
		if err != nil {
			w.t.Errorf("sent what is no message: %v", err)
		}
	}
	session, id := r.Header.Get("Mcp-Session-Id"), m.Params.Arguments.ID
	w.sends(r.Method, session, id)
	response, err := w.over.RoundTrip(r)
	if err != nil {
		w.ended(id)
		return nil, err
	}
	told := ""
	if m.Method == "initialize" && response.StatusCode == http.StatusOK {
		told = response.Header.Get("Mcp-Session-Id")
	}
	if response.StatusCode == http.StatusNotFound {
		w.mu.Lock()
		w.gone[session] = true
		w.mu.Unlock()
	}
	response.Body = &wireBody{ReadCloser: response.Body, wire: w, id: id, told: told}
	return response, nil
}

// sends notes a request before it is sent.
func (w *wire) sends(verb, session, id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.since[id] = time.Now()
	if verb == http.MethodDelete {
		w.deletes[session]++
	}
	owner, _, _ := strings.Cut(id, "#")
	switch w.sharing {
	case mcpool.ShareAll:
		return
	case mcpool.SharePrincipal:
		owner, _, _ = strings.Cut(owner, "/")
	}
	if session == "" || id == "" {
		return
	}
	if other, owned := w.owner[session]; owned && other != owner {
		w.t.Errorf("I-ISOLATE: %s of %s is sent a call of %s", session, other, owner)
	}
	w.owner[session] = owner
}

func (w *wire) ended(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.busy[id] += time.Since(w.since[id])
	delete(w.since, id)
}

// took returns how long the requests of a call took together.
func (w *wire) took(id string) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	busy := w.busy[id]
	if since, underWay := w.since[id]; underWay { // what follows the answer is still read
		busy += time.Since(since)
	}
	return busy
}

// settled holds that each session we were told of has ended once. A pool that
// cuts its calls off does not take its leave of servers.
func (w *wire) settled(cutOff bool) {
	for session := range w.told {
		if n := w.deletes[session]; n > 1 || n == 0 && !w.gone[session] && !cutOff {
			w.t.Errorf("I-CLOSEONCE: %s was deleted %d times (known to be lost: %v)", session, n, w.gone[session])
		}
	}
	for session := range w.deletes {
		if !w.told[session] {
			w.t.Errorf("I-CLOSEONCE: session %q was deleted, which nobody has told us of", session)
		}
	}
}

// A wireBody is a response body that is read.
type wireBody struct {
	io.ReadCloser
	wire *wire
	id   string
	told string // the session that is told of with the last byte
	once sync.Once
}

func (b *wireBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) && b.told != "" {
		b.wire.mu.Lock()
		b.wire.told[b.told] = true
		b.wire.mu.Unlock()
	}
	return n, err
}

func (b *wireBody) Close() error {
	b.once.Do(func() { b.wire.ended(b.id) })
	return b.ReadCloser.Close()
}
