package mcpool_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

// An announcer is a server that tells of changes: a legacy one on the GET
// streams of its sessions, a modern one to those who have subscribed.
type announcer struct {
	modern bool
	heeds  string // the capabilities of a legacy one, the notifications that a modern one acknowledges

	noStream, silent bool // GET is refused; GET gets no headers before an event
	brief            bool // streams end when they have begun
	slow             time.Duration
	busy             string // Retry-After, with which streams are refused

	mu         sync.Mutex
	n          int
	sessions   map[string]map[string]bool // with their subscriptions
	streams    map[*announced]bool
	opened     int // streams, so far
	authorized []string
}

// announced is one stream.
type announced struct {
	session, id string // of the session; of the request that listens
	filter      string
	send        chan string
	end         chan struct{}
}

const heedsAll = `{"tools":{"listChanged":true},"prompts":{"listChanged":true},"resources":{"listChanged":true,"subscribe":true}}`

func (a *announcer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	all := body(r)
	m, _ := jsonrpc.Parse(all)
	id := r.Header.Get("Mcp-Session-Id")
	reply := func(result string) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(jsonrpc.AppendResult(nil, m.ID, json.RawMessage(result)))
	}
	a.mu.Lock()
	a.authorized = append(a.authorized, r.Header.Get("Authorization"))
	subscriptions := a.sessions[id]
	a.mu.Unlock()
	switch {
	case m.Method == "server/discover" && a.modern:
		reply(`{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{},"ttlMs":0,"cacheScope":"private"}`)
	case m.Method == "initialize" && !a.modern:
		a.mu.Lock()
		a.n++
		id = fmt.Sprint("s", a.n)
		if a.sessions == nil {
			a.sessions = map[string]map[string]bool{}
		}
		a.sessions[id] = map[string]bool{}
		a.mu.Unlock()
		w.Header().Set("Mcp-Session-Id", id)
		reply(`{"protocolVersion":"2025-11-25","capabilities":` + a.heeds + `}`)
	case !a.modern && subscriptions == nil:
		http.Error(w, "no valid session id", http.StatusNotFound)
	case r.Method == http.MethodDelete:
		a.expire(id)
	case r.Method == http.MethodGet && !a.noStream && !a.modern:
		a.stream(w, r, &announced{session: id})
	case m.Method == "subscriptions/listen" && a.modern:
		filter, _ := jsonrpc.Get(m.Params, "notifications")
		a.stream(w, r, &announced{id: string(m.ID), filter: string(filter)})
	case m.Method == "resources/subscribe", m.Method == "resources/unsubscribe":
		uri := jsonrpc.GetString(m.Params, "uri")
		if strings.HasPrefix(uri, "no") {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(jsonrpc.AppendError(nil, m.ID, rpc.Errorf(-32002, "no such resource")))
			return
		}
		a.mu.Lock()
		subscriptions[uri] = m.Method == "resources/subscribe"
		a.mu.Unlock()
		reply(`{}`)
	case m.Method == "tools/call" || m.Method == "tools/list" || m.Method == "ping":
		a.mu.Lock()
		a.n++
		n := a.n
		a.mu.Unlock()
		reply(fmt.Sprintf(`{"tools":[],"ttlMs":3600000,"cacheScope":"public","n":%d,"big":9007199254740993}`, n))
	case m.IsNotification() || m.IsResponse() && m.ID != nil:
		w.WriteHeader(http.StatusAccepted)
	default:
		http.Error(w, "no", http.StatusMethodNotAllowed)
	}
}

func (a *announcer) stream(w http.ResponseWriter, r *http.Request, s *announced) {
	a.mu.Lock()
	busy, slow, brief := a.busy, a.slow, a.brief
	a.busy = ""
	a.mu.Unlock()
	if busy != "" {
		w.Header().Set("Retry-After", busy)
		http.Error(w, "slow down", http.StatusTooManyRequests)
		return
	}
	time.Sleep(slow)
	s.send, s.end = make(chan string, 100), make(chan struct{})
	a.mu.Lock()
	if a.streams == nil {
		a.streams = map[*announced]bool{}
	}
	a.streams[s] = true
	a.opened++
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		delete(a.streams, s)
		a.mu.Unlock()
	}()
	w.Header().Set("Content-Type", "text/event-stream")
	if !a.silent {
		_ = http.NewResponseController(w).Flush()
	}
	if s.id != "" {
		fmt.Fprintf(w, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/subscriptions/acknowledged\",\"params\":{\"_meta\":{\"io.modelcontextprotocol/subscriptionId\":%s},\"notifications\":%s}}\n\n", s.id, s.filter)
		_ = http.NewResponseController(w).Flush()
	}
	for !brief {
		select {
		case event := <-s.send:
			_, _ = io.WriteString(w, "data: "+event+"\n\n")
			_ = http.NewResponseController(w).Flush()
		case <-s.end:
			return
		case <-r.Context().Done():
			return
		}
	}
}

// announce sends a notification on every stream, whatever it asked for.
func (a *announcer) announce(method, params string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for s := range a.streams {
		with := json.RawMessage(params)
		if s.id != "" {
			with, _ = jsonrpc.Set(with, json.RawMessage(s.id), "_meta", "io.modelcontextprotocol/subscriptionId")
		}
		s.send <- string(jsonrpc.AppendRequest(nil, nil, method, with))
	}
}

// hurry has streams begin at once, and last.
func (a *announcer) hurry() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.slow, a.brief = 0, false
}

func (a *announcer) expire(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.sessions, id)
	for s := range a.streams {
		if s.session == id {
			close(s.end)
			delete(a.streams, s)
		}
	}
}

// drop ends all streams, and the sessions if they are to go, too.
func (a *announcer) drop(sessions bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for s := range a.streams {
		close(s.end)
		delete(a.streams, s)
	}
	if sessions {
		clear(a.sessions)
	}
}

// state is how many streams are open and how many were, and what is subscribed
// to.
func (a *announcer) state() (open, opened int, subscribed string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var uris []string
	for _, subscriptions := range a.sessions {
		for uri, on := range subscriptions {
			if on {
				uris = append(uris, uri)
			}
		}
	}
	for s := range a.streams {
		var f struct{ ResourceSubscriptions []string }
		_ = json.Unmarshal([]byte(s.filter), &f)
		uris = append(uris, f.ResourceSubscriptions...)
	}
	slices.Sort(uris)
	return len(a.streams), a.opened, strings.Join(uris, " ")
}

// An ear is a watcher, and what it has heard since it was last asked.
type ear struct {
	mu    sync.Mutex
	notes []string
	leave func()
	err   chan error
}

func listenTo(t *testing.T, p *mcpool.Pool, who rpc.Caller, what mcpool.Filter) *ear {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	e := &ear{leave: cancel, err: make(chan error, 1)}
	go func() { e.err <- p.Watch(ctx, who, what, e.Notify) }()
	return e
}

// subscribe watches by a call.
func subscribe(t *testing.T, p *mcpool.Pool, params string) *ear {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	e := &ear{leave: cancel, err: make(chan error, 1)}
	go func() {
		_, err := p.Do(ctx, rpc.Call{Method: "subscriptions/listen", Params: json.RawMessage(params), Events: e})
		e.err <- err
	}()
	return e
}

func (e *ear) Notify(method string, params json.RawMessage) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.notes = append(e.notes, strings.TrimPrefix(method, "notifications/")+" "+string(params))
}

func (e *ear) Ask(context.Context, string, json.RawMessage) (json.RawMessage, error) {
	return nil, errors.New("nothing is asked of those who watch")
}

// heard returns what was heard since it was last asked, in alphabetical order.
func (e *ear) heard() string {
	synctest.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	notes := e.notes
	e.notes = nil
	slices.Sort(notes)
	return strings.Join(notes, "; ")
}

func watched(t *testing.T, modern bool, change func(*announcer), test func(t *testing.T, a *announcer, p *mcpool.Pool)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		a := &announcer{modern: modern, heeds: heedsAll}
		if change != nil {
			change(a)
		}
		s := &server{}
		p := s.poolOver(t, a, nil)
		test(t, a, p)
		closePool(t, p)
		synctest.Wait()
		if open, _, _ := a.state(); open != 0 {
			t.Errorf("%d streams are open after Close", open)
		}
	})
}

func bothEras(t *testing.T, change func(*announcer), test func(t *testing.T, a *announcer, p *mcpool.Pool)) {
	t.Helper()
	for name, modern := range map[string]bool{"legacy": false, "modern": true} {
		t.Run(name, func(t *testing.T) { watched(t, modern, change, test) })
	}
}

const updatedA = `resources/updated {"uri":"a"}`
