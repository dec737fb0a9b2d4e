package mcpool_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
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

// Log messages outside of calls are told where it is certain whose they are.
func TestLogMessagesOutsideOfCallsAreOfTheirSession(t *testing.T) {
	for sharing, want := range map[mcpool.Sharing]string{
		mcpool.ShareSession:   `message {"level":"info"}; message {"level":"info"}`,
		mcpool.SharePrincipal: "",
		mcpool.ShareAll:       "",
	} {
		t.Run(string(sharing), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, s := &announcer{heeds: heedsAll}, &server{}
				p := s.poolOver(t, a, func(c *mcpool.Config) { c.Sharing = sharing })
				defer closePool(t, p)
				who := rpc.Caller{Session: "one"}
				if _, err := p.Do(t.Context(), rpc.Call{Method: "tools/call", Params: json.RawMessage(`{"name":"x"}`), Caller: who}); err != nil {
					t.Fatal(err)
				}
				e := listenTo(t, p, who, mcpool.Filter{Tools: true})
				e.heard()
				for range 2 { // the same is not the same message
					a.announce("notifications/message", `{"level":"info"}`)
				}
				if got := e.heard(); got != want {
					t.Errorf("heard %q, want %q", got, want)
				}
			})
		})
	}
}

func TestWatchersHearWhatTheyAskFor(t *testing.T) {
	bothEras(t, nil, func(t *testing.T, a *announcer, p *mcpool.Pool) {
		if _, err := p.CallTool(t.Context(), "x", nil); err != nil {
			t.Fatal(err)
		}
		if open, _, _ := a.state(); open != 0 {
			t.Error("a stream was opened before anybody watched")
		}
		tools := listenTo(t, p, nobody, mcpool.Filter{Tools: true})
		if got := tools.heard(); got != `subscriptions/acknowledged {"notifications":{"toolsListChanged":true}}` {
			t.Errorf("tools heard %s", got)
		}
		some := listenTo(t, p, nobody, mcpool.Filter{Prompts: true, Resources: true, URIs: []string{"a", "b"}})
		if got := some.heard(); got != `subscriptions/acknowledged {"notifications":{"promptsListChanged":true,"resourcesListChanged":true,"resourceSubscriptions":["a","b"]}}` {
			t.Errorf("the other heard %s", got)
		}
		more := listenTo(t, p, nobody, mcpool.Filter{Tools: true, URIs: []string{"a"}}) // nothing new to the server
		if got := more.heard(); got != `subscriptions/acknowledged {"notifications":{"toolsListChanged":true,"resourceSubscriptions":["a"]}}` {
			t.Errorf("the third heard %s", got)
		}
		time.Sleep(time.Second) // one that was replaced goes on for a moment
		if open, _, subscribed := a.state(); open != 1 || subscribed != "a b" {
			t.Errorf("%d streams are open and %q subscribed to, want one for all", open, subscribed)
		}
		for _, note := range [][2]string{
			{"notifications/tools/list_changed", `{}`}, {"notifications/prompts/list_changed", `{}`}, {"notifications/resources/list_changed", `{}`},
			{"notifications/resources/updated", `{"uri":"a"}`}, {"notifications/resources/updated", `{"uri":"b/part"}`}, {"notifications/resources/updated", `{"uri":"c"}`},
			{"notifications/message", `{"level":"info"}`},
		} {
			a.announce(note[0], note[1])
		}
		for name, test := range map[string]struct {
			ear  *ear
			want []string
		}{
			"tools": {tools, []string{"tools/list_changed"}},
			"some":  {some, []string{"prompts/list_changed", "resources/list_changed", "resources/updated a", "resources/updated b/part"}},
			"more":  {more, []string{"resources/updated a", "tools/list_changed"}},
		} {
			var got []string
			for _, note := range strings.Split(test.ear.heard(), "; ") {
				method, params, _ := strings.Cut(note, " ")
				got = append(got, strings.TrimSpace(method+" "+jsonrpc.GetString([]byte(params), "uri")))
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("%s heard %q, want %q", name, got, test.want)
			}
		}
		some.leave()
		<-some.err
		time.Sleep(time.Second)
		if open, _, subscribed := a.state(); open != 1 || subscribed != "a" {
			t.Errorf("after one has left %d streams are open and %q subscribed to, want 1 and a", open, subscribed)
		}
		tools.leave()
		more.leave()
		<-tools.err
		<-more.err
		synctest.Wait()
		if open, _, _ := a.state(); open != 0 {
			t.Errorf("%d streams are open and nobody watches", open)
		}
		if _, err := p.CallTool(t.Context(), "x", nil); err != nil {
			t.Error(err)
		}
	})
}

// subscriptions/listen is Watch as a call, one for all with those who watch.
func TestWatchAsACall(t *testing.T) {
	bothEras(t, nil, func(t *testing.T, a *announcer, p *mcpool.Pool) {
		watcher := listenTo(t, p, nobody, mcpool.Filter{Tools: true, URIs: []string{"a"}})
		caller := subscribe(t, p, `{"notifications":{"toolsListChanged":true,"resourceSubscriptions":["a"]}}`)
		for _, e := range []*ear{watcher, caller} {
			if got := e.heard(); got != `subscriptions/acknowledged {"notifications":{"toolsListChanged":true,"resourceSubscriptions":["a"]}}` {
				t.Errorf("heard %s", got)
			}
		}
		if open, _, _ := a.state(); open != 1 {
			t.Errorf("%d streams are open, want one for both", open)
		}
		a.announce("notifications/resources/updated", `{"uri":"a"}`)
		a.announce("notifications/prompts/list_changed", `{}`)
		if got := caller.heard(); got != updatedA {
			t.Errorf("heard %s", got)
		}
		caller.leave()
		if err := <-caller.err; !errors.Is(err, context.Canceled) {
			t.Errorf("left: %v", err)
		}
		for _, params := range []string{``, `[]`, `{"notifications":[]}`, `{"notifications":{"resourceSubscriptions":"a"}}`} {
			refused := (*rpc.Error)(nil)
			if err := <-subscribe(t, p, params).err; !errors.As(err, &refused) || refused.Code != rpc.CodeInvalidParams {
				t.Errorf("%q: %v", params, err)
			}
		}
		deaf := make(chan error)
		go func() {
			_, err := p.Do(t.Context(), rpc.Call{Method: "subscriptions/listen", Params: json.RawMessage(`{"notifications":{}}`)})
			deaf <- err
		}()
		synctest.Wait()
		if n := p.Stats(); n.Calls != 0 || n.CallsInFlight != 0 {
			t.Errorf("%d calls, %d in flight", n.Calls, n.CallsInFlight)
		}
		closePool(t, p)
		for _, err := range []error{<-deaf, <-watcher.err} {
			if !errors.Is(err, mcpool.ErrPoolClosed) {
				t.Errorf("after Close: %v", err)
			}
		}
	})
}

// A handler in process is listened to as a modern server is, and takes no slot.
func TestHandlerIsWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var listening atomic.Int32
		knows := true
		changes := make(chan string)
		p, err := mcpool.New(mcpool.Server{Name: "here", Handler: handlerFunc(func(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
			switch {
			case call.Method == "server/discover":
				return rpc.Result(json.RawMessage(`{"here":1}`)), nil
			case call.Method != "subscriptions/listen" || !knows:
				return rpc.Answer{}, rpc.Errorf(rpc.CodeMethodNotFound, "no")
			}
			listening.Add(1)
			defer listening.Add(-1)
			call.Events.Notify("notifications/subscriptions/acknowledged", call.Params)
			for {
				select {
				case method := <-changes:
					call.Events.Notify(method, json.RawMessage(`{}`))
				case <-ctx.Done():
					return rpc.Answer{}, ctx.Err()
				}
			}
		})}, nil)
		if err != nil {
			t.Fatal(err)
		}
		const all = `{"notifications":{"toolsListChanged":true,"promptsListChanged":true}}`
		one, other := subscribe(t, p, `{"notifications":{"toolsListChanged":true}}`), subscribe(t, p, all)
		if got := one.heard(); got != `subscriptions/acknowledged {"notifications":{"toolsListChanged":true}}` {
			t.Errorf("one heard %s", got)
		}
		time.Sleep(time.Second) // one that was replaced goes on for a moment
		if got := other.heard(); got != "subscriptions/acknowledged "+all || listening.Load() != 1 {
			t.Errorf("the other heard %s; the handler is listened to by %d", got, listening.Load())
		}
		changes <- "notifications/tools/list_changed"
		changes <- "notifications/prompts/list_changed"
		if a, b := one.heard(), other.heard(); a != "tools/list_changed {}" || b != "prompts/list_changed {}; tools/list_changed {}" {
			t.Errorf("one heard %s, the other %s", a, b)
		}
		if n := p.Stats().CallsInFlight; n != 0 {
			t.Errorf("%d slots are taken", n)
		}
		if answer, err := p.Do(t.Context(), rpc.Call{Method: "server/discover"}); err != nil || string(answer.Bytes()) != `{"here":1}` {
			t.Errorf("server/discover: %s, %v", answer.Bytes(), err)
		}
		one.leave()
		other.leave()
		<-one.err
		<-other.err
		synctest.Wait()
		knows = false
		last := subscribe(t, p, all)
		if got := last.heard(); got != `subscriptions/acknowledged {"notifications":{}}` || listening.Load() != 0 {
			t.Errorf("of a handler that does not know the method %s was heard; %d listen", got, listening.Load())
		}
		closePool(t, p)
		if err := <-last.err; !errors.Is(err, mcpool.ErrPoolClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}

// A stream that ends is opened again, calls do not notice, and whoever watches
// is told of all that may have changed.
func TestWatchIsBegunAgain(t *testing.T) {
	for _, sessions := range []bool{false, true} {
		bothEras(t, nil, func(t *testing.T, a *announcer, p *mcpool.Pool) {
			e := listenTo(t, p, nobody, mcpool.Filter{Tools: true, URIs: []string{"a"}})
			e.heard()
			first := ask(t, p, nobody, "tools/list", "")
			a.drop(sessions)
			time.Sleep(4 * time.Second) // a second, and two more where the session turns out to be lost
			if got := e.heard(); got != updatedA+"; tools/list_changed " {
				t.Errorf("heard %q after the stream had ended, want that all may have changed", got)
			}
			if open, _, subscribed := a.state(); open != 1 || subscribed != "a" {
				t.Errorf("%d streams are open, %q is subscribed to", open, subscribed)
			}
			if second := ask(t, p, nobody, "tools/list", ""); second == first {
				t.Error("the list is that from before")
			}
			a.announce("notifications/resources/updated", `{"uri":"a"}`)
			if got := e.heard(); got != updatedA {
				t.Errorf("heard %q", got)
			}
			other := listenTo(t, p, nobody, mcpool.Filter{Prompts: true})
			if got := other.heard(); !strings.Contains(got, "promptsListChanged") {
				t.Errorf("another heard %q", got)
			}
			if got := e.heard(); got != "" {
				t.Errorf("heard %q again when another came", got)
			}
			for _, e := range []*ear{e, other} {
				e.leave()
				<-e.err
			}
		})
	}
}

// A change that is told drops what is kept of the lists.
func TestWatchKeepsAnswersFresh(t *testing.T) {
	watched(t, true, nil, func(t *testing.T, a *announcer, p *mcpool.Pool) {
		e := listenTo(t, p, nobody, mcpool.Filter{Tools: true})
		e.heard()
		first, second := ask(t, p, nobody, "tools/list", ""), ask(t, p, nobody, "tools/list", "")
		a.announce("notifications/tools/list_changed", `{}`)
		e.heard()
		if third := ask(t, p, nobody, "tools/list", ""); first != second || third == second {
			t.Errorf("requests %s, %s and %s", first, second, third)
		}
		e.leave()
		<-e.err
	})
}

// Servers that have no stream, or one that begins with its first event, or that
// heed less than they are asked for, are watched as far as that goes.
func TestServersThatTellLittle(t *testing.T) {
	for name, test := range map[string]struct {
		change      func(*announcer)
		after       time.Duration
		first, then string
	}{
		"silent":        {func(a *announcer) { a.silent = true }, 3 * time.Second, `subscriptions/acknowledged {"notifications":{"toolsListChanged":true,"resourceSubscriptions":["a"]}}`, "tools/list_changed {}"},
		"heeds nothing": {func(a *announcer) { a.heeds = `{}` }, 0, `subscriptions/acknowledged {"notifications":{}}`, "tools/list_changed {}"},
		"no resource":   {func(a *announcer) { a.heeds = `{"tools":{"listChanged":true},"resources":{}}` }, 0, `subscriptions/acknowledged {"notifications":{"toolsListChanged":true}}`, "tools/list_changed {}"},
		"no stream":     {func(a *announcer) { a.noStream = true }, 0, `subscriptions/acknowledged {"notifications":{}}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			watched(t, false, test.change, func(t *testing.T, a *announcer, p *mcpool.Pool) {
				e := listenTo(t, p, nobody, mcpool.Filter{Tools: true, URIs: []string{"a", "none"}})
				time.Sleep(test.after)
				if got := e.heard(); got != test.first {
					t.Errorf("heard %q, want %q", got, test.first)
				}
				if _, err := p.CallTool(t.Context(), "x", nil); err != nil {
					t.Error(err)
				}
				a.announce("notifications/tools/list_changed", `{}`)
				if got := e.heard(); got != test.then {
					t.Errorf("heard %q, want %q", got, test.then)
				}
				time.Sleep(time.Hour)
				if n := p.Stats(); n.Closed[mcpool.ClosedLost]+n.Closed[mcpool.ClosedUnhealthy] != 0 {
					t.Errorf("connections closed: %v", n.Closed)
				}
				e.leave()
				<-e.err
			})
		})
	}
}

// A connection that is listened to is in use, but is replaced like any other.
func TestWatchedConnectionsAreKeptAndReplaced(t *testing.T) {
	bothEras(t, nil, func(t *testing.T, a *announcer, p *mcpool.Pool) {
		e := listenTo(t, p, nobody, mcpool.Filter{Tools: true})
		e.heard()
		time.Sleep(time.Hour)
		if _, opened, _ := a.state(); opened != 1 || e.heard() != "" {
			t.Errorf("%d streams in an hour without use, want 1", opened)
		}
		p.Reset()
		time.Sleep(5 * time.Second)
		if open, opened, _ := a.state(); open != 1 || opened != 2 || e.heard() != "tools/list_changed " {
			t.Errorf("after a reset %d streams are open, %d were opened", open, opened)
		}
		e.leave()
		<-e.err
	})
}

// What one principal hears another does not, and each stream is authorized
// for its own.
func TestPrincipalsWatchApart(t *testing.T) {
	bothEras(t, nil, func(t *testing.T, a *announcer, p *mcpool.Pool) {
		hers, his := listenTo(t, p, ann, mcpool.Filter{URIs: []string{"a"}}), listenTo(t, p, bob, mcpool.Filter{URIs: []string{"a"}})
		hers.heard()
		his.heard()
		a.mu.Lock()
		if len(a.streams) != 2 {
			t.Errorf("%d streams for two principals", len(a.streams))
		}
		one := slices.Collect(maps.Keys(a.streams))[0]
		with := json.RawMessage(`{"uri":"a"}`)
		one.send <- string(jsonrpc.AppendRequest(nil, nil, "notifications/resources/updated", with))
		a.mu.Unlock()
		if got := hers.heard() + his.heard(); got != updatedA {
			t.Errorf("one stream was told, and %q was heard", got)
		}
		for _, e := range []*ear{hers, his} {
			e.leave()
			<-e.err
		}
	})
}

// Who shared a watch before a Reload shares it no longer than that allows.
func TestReloadPartsWatchers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &announcer{heeds: heedsAll}
		s := &server{}
		config := mcpool.DefaultConfig()
		config.Sharing = mcpool.ShareAll
		p := s.poolOver(t, a, func(c *mcpool.Config) { *c = config })
		hers, his := listenTo(t, p, ann, mcpool.Filter{Tools: true}), listenTo(t, p, bob, mcpool.Filter{Tools: true})
		hers.heard()
		his.heard()
		if open, _, _ := a.state(); open != 1 {
			t.Errorf("%d streams where all share", open)
		}
		config.Sharing = mcpool.SharePrincipal
		if err := p.Reload(mcpool.Server{Name: "test", URL: "http://server.test/mcp", RoundTripper: &s.network}, &config); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		if open, _, _ := a.state(); open != 2 {
			t.Errorf("%d streams for two principals", open)
		}
		if h, b := hers.heard(), his.heard(); h != "tools/list_changed " || b != h {
			t.Errorf("heard %q and %q, want that all may have changed", h, b)
		}
		hers.leave()
		<-hers.err
		closePool(t, p)
		if err := <-his.err; !errors.Is(err, mcpool.ErrPoolClosed) {
			t.Errorf("Watch ended with %v", err)
		}
		if err := p.Watch(t.Context(), ann, mcpool.Filter{}, nil); !errors.Is(err, mcpool.ErrPoolClosed) {
			t.Errorf("Watch of a closed pool: %v", err)
		}
	})
}

// Who comes while the server is being asked is told of all that it heeds, not
// of what it was asked for before.
func TestWatchersThatComeWhileTheServerIsAsked(t *testing.T) {
	bothEras(t, func(a *announcer) { a.slow = time.Second }, func(t *testing.T, a *announcer, p *mcpool.Pool) {
		first := listenTo(t, p, nobody, mcpool.Filter{Tools: true})
		time.Sleep(time.Second / 2)
		second := listenTo(t, p, nobody, mcpool.Filter{Prompts: true})
		time.Sleep(3 * time.Second / 4) // the first filter is heeded, or both
		third := listenTo(t, p, nobody, mcpool.Filter{Prompts: true})
		time.Sleep(10 * time.Second)
		a.hurry()
		for want, e := range map[string]*ear{"tools": first, "prompts": second, " prompts": third} {
			if got := e.heard(); got != `subscriptions/acknowledged {"notifications":{"`+strings.TrimSpace(want)+`ListChanged":true}}` {
				t.Errorf("who wants %s heard %s", want, got)
			}
			e.leave()
			<-e.err
		}
	})
}

// A server whose streams end as soon as they have begun is asked less and less
// often, and so is everybody who watches.
func TestStreamsThatEndAtOnce(t *testing.T) {
	bothEras(t, func(a *announcer) { a.brief = true }, func(t *testing.T, a *announcer, p *mcpool.Pool) {
		e := listenTo(t, p, nobody, mcpool.Filter{Tools: true})
		time.Sleep(time.Hour)
		if _, opened, _ := a.state(); opened < 100 || opened > 130 {
			t.Errorf("%d streams in an hour, want one in 30 s", opened)
		}
		a.hurry()
		time.Sleep(time.Minute)
		_, before, _ := a.state()
		a.drop(false)
		time.Sleep(2 * time.Second)
		if _, opened, _ := a.state(); opened != before+1 {
			t.Errorf("%d streams 2 s after one has ended that was there for half a minute, want 1", opened-before)
		}
		e.leave()
		<-e.err
	})
}

// A server that wants to be left alone is, also by who listens.
func TestWatchLeavesAServerAlone(t *testing.T) {
	bothEras(t, func(a *announcer) { a.busy = "90" }, func(t *testing.T, a *announcer, p *mcpool.Pool) {
		e := listenTo(t, p, nobody, mcpool.Filter{Tools: true})
		time.Sleep(80 * time.Second)
		if _, opened, _ := a.state(); opened != 0 {
			t.Errorf("%d streams before it may be asked", opened)
		}
		if _, err := p.CallTool(t.Context(), "x", nil); err != nil {
			t.Error(err)
		}
		time.Sleep(20 * time.Second)
		if open, _, _ := a.state(); open != 1 {
			t.Errorf("%d streams after that", open)
		}
		e.leave()
		<-e.err
	})
}

// Who is told that a list may have changed, and asks for it, gets the new one.
func TestWhoHearsOfAChangeFindsNothingOld(t *testing.T) {
	watched(t, true, nil, func(t *testing.T, a *announcer, p *mcpool.Pool) {
		var uris []string
		for i := range 1000 {
			uris = append(uris, fmt.Sprint(i))
		}
		first := ask(t, p, nobody, "tools/list", "")
		ctx, leave := context.WithCancel(t.Context())
		var err error
		var told, old int
		var watching sync.WaitGroup
		watching.Go(func() {
			err = p.Watch(ctx, nobody, mcpool.Filter{Tools: true, URIs: uris}, func(method string, _ json.RawMessage) {
				if method == "notifications/tools/list_changed" {
					told++
					if now := ask(t, p, nobody, "tools/list", ""); now == first {
						old++
					}
				}
				first = ask(t, p, nobody, "tools/list", "")
			})
		})
		synctest.Wait()
		for range 20 {
			a.drop(false)
			time.Sleep(time.Minute)
		}
		leave()
		watching.Wait()
		if told != 20 || old != 0 || !errors.Is(err, context.Canceled) {
			t.Errorf("told %d times, and %d times the list was old; %v", told, old, err)
		}
	})
}

// A child whose era shows only when it is started has no sessions to wait for
// if it is modern.
func TestSessionOfAModernChildIsWatched(t *testing.T) {
	path, argv, env := mcptest.Child(mcptest.Modern)
	ended := make(chan struct{}, 100)
	config := mcpool.DefaultConfig()
	config.Logger = slog.New(logged(func(message string) {
		if message == "listening ended" { // it knows no such method
			ended <- struct{}{}
		}
	}))
	p, err := mcpool.New(mcpool.Server{Name: "child", Command: path, Args: argv, Env: env}, &config)
	if err != nil {
		t.Fatal(err)
	}
	defer closePool(t, p)
	e := listenTo(t, p, rpc.Caller{Session: "a"}, mcpool.Filter{Tools: true})
	defer e.leave()
	for p.Stats().Opened == 0 {
		if _, err := call(t.Context(), p, rpc.Caller{Session: "b"}, "echo", "1"); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("nobody listens to the child")
	}
}

// logged is told the message of each record.
type logged func(message string)

func (logged) Enabled(context.Context, slog.Level) bool        { return true }
func (l logged) WithAttrs([]slog.Attr) slog.Handler            { return l }
func (l logged) WithGroup(string) slog.Handler                 { return l }
func (l logged) Handle(_ context.Context, r slog.Record) error { l(r.Message); return nil }
