package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool/rpc"
)

const (
	toolsChanged = "notifications/tools/list_changed"
	updated      = "notifications/resources/updated"
)

// openStream opens the stream of a session.
func openStream(t testing.TB, g *Gateway, session []string, headers ...string) *wire {
	return open(t, g, "GET", "/mcp", "", slices.Concat(session, []string{"Accept", "text/event-stream"}, headers)...)
}

// subscribe has a session subscribe to a resource, or end that.
func subscribe(t testing.TB, g *Gateway, session []string, method, uri string) response {
	t.Helper()
	return do(g, "POST", "/mcp", fmt.Sprintf(`{"jsonrpc":"2.0","id":9,"method":%q,"params":{"uri":%q}}`, method, uri), session...)
}

func TestAStreamTellsOfTheChangesOfEachServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, b := newTeller(demo), newTeller(demo)
		deaf := handler(func(_ context.Context, call rpc.Call) (rpc.Answer, error) { return rpc.Answer{}, errors.New("no") })
		g := newPlain(t, nil, Server{Name: "a", Handler: a}, Server{Name: "deaf", Handler: deaf}, Server{Name: "b", Handler: b})
		session := initializeWith(t, g, "/mcp", `{}`)
		began := time.Now()
		w := openStream(t, g, session)
		<-w.begun
		if w.status != 200 || w.header.Get("Content-Type") != "text/event-stream" || !time.Now().Equal(began) {
			t.Errorf("after %v got %d %v", time.Since(began), w.status, w.header)
		}
		synctest.Wait()
		a.tell(toolsChanged, "")
		w.want(`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`)
		b.tell(toolsChanged, "")
		w.want(toolsChanged)
		// Something is sent when nothing is.
		began = time.Now()
		if _, frame := w.next(); frame != "" || time.Since(began) != heartbeat {
			t.Errorf("after %v got %q", time.Since(began), frame)
		}
		w.leave()
		w.rest()
		if a.count() != 1 || b.count() != 1 {
			t.Error("a client that may be back soon is not listened for")
		}
		time.Sleep(standingLife)
		synctest.Wait()
		if a.count()+b.count()+len(g.standings.of) != 0 {
			t.Error("a client that stays away is still listened for")
		}
		closed(t, g)
	})
}

func TestLogMessagesOutsideOfCallsAreToldOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newTeller(demo)
		g := newPlain(t, nil, one(a))
		session := initializeWith(t, g, "/mcp", `{}`)
		if r := subscribe(t, g, session, "resources/subscribe", "a://1"); r.code(t) != 0 {
			t.Fatal(r)
		}
		w, modern := openStream(t, g, session), openListen(t, g, "1", `{"toolsListChanged":true}`)
		synctest.Wait()
		tell := func(levels ...string) {
			for _, level := range levels {
				a.tell("notifications/message", level)
			}
			a.tell(toolsChanged, "")
		}
		tell("debug", "info")
		w.want("notifications/message", `"info"`) // which is what a client gets that has set nothing
		w.want(toolsChanged)
		if r := do(g, "POST", "/mcp", `{"jsonrpc":"2.0","id":9,"method":"logging/setLevel","params":{"level":"error"}}`, session...); r.code(t) != 0 {
			t.Fatal(r)
		}
		tell("warning", "alert")
		w.want("notifications/message", `"alert"`)
		w.want(toolsChanged)
		for range 3 {
			if m := modern.message(); m.Method == "notifications/message" {
				t.Error("a modern client was told a log message outside of calls")
			}
		}
		w.leave()
		modern.leave()
		w.rest()
		modern.rest()
		closed(t, g)
	})
}

func TestTheNewestStreamOfASessionIsTheOneToldOf(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newTeller(demo)
		g := newPlain(t, nil, one(a))
		session := initializeWith(t, g, "/mcp", `{}`)
		first := openStream(t, g, session)
		synctest.Wait()
		a.tell(toolsChanged, "")
		id, _ := first.next()
		second := openStream(t, g, session)
		<-second.begun
		if rest := first.rest(); len(rest) != 0 || !first.whole {
			t.Errorf("the first got %v", rest)
		}
		a.tell(updated, "x") // nobody asked for it
		a.tell(toolsChanged, "")
		second.want(toolsChanged)
		if a.count() != 1 {
			t.Errorf("%d listen for one session", a.count())
		}
		second.leave()
		second.rest()
		// What comes meanwhile is there for the next stream, and what the client
		// says that it has not seen is sent again.
		a.tell(toolsChanged, "")
		third := openStream(t, g, session, "Last-Event-ID", id)
		third.want(toolsChanged)
		third.want(toolsChanged)
		synctest.Wait()
		if len(third.events) != 0 {
			t.Error("more than was missed")
		}
		third.leave()
		third.rest()
		for _, strange := range []string{"x", "x-1", "-", id + "9999", strings.Repeat("9", 30), "-9223372036854775807", id[:strings.LastIndexByte(id, '-')] + "-9223372036854775807"} {
			w := openStream(t, g, session, "Last-Event-ID", strange)
			<-w.begun
			synctest.Wait()
			a.tell(toolsChanged, "")
			w.want(toolsChanged)
			w.leave()
			w.rest()
		}
		closed(t, g)
	})
}

func TestStreamsEndWithTheirSessionAndTheGateway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newTeller(demo)
		g := newPlain(t, &Options{Principal: byHeader}, one(a))
		session, other := initializeWith(t, g, "/mcp", `{}`), initializeWith(t, g, "/mcp", `{}`)
		w, theirs := openStream(t, g, session), openStream(t, g, other)
		synctest.Wait()
		if r := do(g, "DELETE", "/mcp", "", session...); r.status != 204 {
			t.Errorf("DELETE: %s", r)
		}
		if rest := w.rest(); len(rest) != 0 || !w.whole {
			t.Errorf("got %v", rest)
		}
		synctest.Wait()
		if a.count() != 1 {
			t.Errorf("%d listen, want that of the other session", a.count())
		}
		if r := openStream(t, g, session).body(); r.status != 404 {
			t.Errorf("after its end: %s", r)
		}
		if r := openStream(t, g, append(other, "X-Principal", "b")).body(); r.status != 404 {
			t.Errorf("for another principal: %s", r)
		}
		closed(t, g)
		if rest := theirs.rest(); len(rest) != 0 || !theirs.whole {
			t.Errorf("got %v", rest)
		}
		if a.count() != 0 {
			t.Error("somebody listens after Close")
		}
		if r := openStream(t, g, other).body(); r.status != 503 || r.header.Get("Retry-After") == "" {
			t.Errorf("after Close: %s", r)
		}
	})
}

// Answers that are ready are written yet, for a moment.
func TestCloseWaitsForNoHandlerBeyondItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		free := make(chan struct{})
		g := newPlain(t, nil, one(handler(func(_ context.Context, call rpc.Call) (rpc.Answer, error) {
			if call.Method == "subscriptions/listen" {
				<-free // though its context ends
			}
			return rpc.Result(json.RawMessage(`{}`)), nil
		})))
		w := openStream(t, g, initializeWith(t, g, "/mcp", `{}`))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		err := g.Close(ctx)
		if took := time.Since(began); took != time.Second+flushTime || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("took %v, %v", took, err)
		}
		w.rest()
		close(free)
	})
}

func TestSessionsSubscribeEachForItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, b := newTeller(demo), newTeller(demo)
		b.heeds = func(f filter) filter {
			f.URIs = slices.DeleteFunc(f.URIs, func(uri string) bool { return uri == "no://x" })
			return f
		}
		g := newPlain(t, nil, Server{Name: "a", Handler: a}, Server{Name: "b", Handler: b})
		first, second := initializeWith(t, g, "/mcp", `{}`), initializeWith(t, g, "/mcp", `{}`)
		w1, w2 := openStream(t, g, first), openStream(t, g, second)
		for _, session := range [][]string{first, second, first} { // the last is no news
			if r := subscribe(t, g, session, "resources/subscribe", "a+u://x"); string(r.result(t)) != `{}` {
				t.Errorf("got %s", r)
			}
		}
		if r := subscribe(t, g, first, "resources/subscribe", "b+no://x"); r.code(t) != -32602 {
			t.Errorf("what is not told of: %s", r)
		}
		synctest.Wait()
		b.tell(updated, "u://x")
		a.tell(updated, "u://x")
		for _, w := range []*wire{w1, w2} {
			w.want(updated, `{"uri":"a+u://x"}`)
		}
		if r := subscribe(t, g, first, "resources/unsubscribe", "a+u://x"); string(r.result(t)) != `{}` {
			t.Errorf("got %s", r)
		}
		synctest.Wait()
		a.tell(updated, "u://x")
		w2.want(updated, `{"uri":"a+u://x"}`)
		synctest.Wait()
		if len(w1.events) != 0 {
			t.Error("told of what it does not subscribe to any more")
		}
		// A session that ends takes nothing from the other.
		do(g, "DELETE", "/mcp", "", first...)
		w1.rest()
		synctest.Wait()
		a.tell(updated, "u://x")
		w2.want(updated)
		if n := a.count(); n != 2 { // its lists and its resource
			t.Errorf("%d listen", n)
		}
		closed(t, g)
		w2.rest()
		if len(g.standings.updates.of) != 0 {
			t.Errorf("subscriptions still count: %v", g.standings.updates.of)
		}
	})
}

func TestSubscriptionsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newTeller(demo)
		g := newPlain(t, &Options{Principal: byHeader}, one(a))
		session := initializeWith(t, g, "/mcp", `{}`)
		for i := range maxURIs {
			if r := subscribe(t, g, session, "resources/subscribe", fmt.Sprint("u://", i)); r.code(t) != 0 {
				t.Fatalf("%d: %s", i, r)
			}
		}
		if r := subscribe(t, g, session, "resources/subscribe", "u://more"); r.code(t) != -32602 {
			t.Errorf("one more in the session: %s", r)
		}
		for g.standings.updates.add("", maxUpdates) { // those of other sessions
		}
		if r := subscribe(t, g, initializeWith(t, g, "/mcp", `{}`), "resources/subscribe", "u://x"); r.code(t) != -32603 {
			t.Errorf("one more: %s", r)
		}
		if r := subscribe(t, g, initializeWith(t, g, "/mcp", `{}`, "X-Principal", "other"), "resources/subscribe", "u://x"); r.code(t) != 0 {
			t.Errorf("another principal: %s", r)
		}
		closed(t, g)
		if a.count()+len(g.standings.of) != 0 || g.standings.updates.of[""] != maxUpdates-maxURIs {
			t.Error("something is left")
		}
	})
}

// progressing is a handler whose calls make progress each second, so often.
func progressing(times int) handler {
	return func(_ context.Context, call rpc.Call) (rpc.Answer, error) {
		for i := range times {
			call.Events.Notify("notifications/progress", json.RawMessage(fmt.Sprintf(`{"progress":%d}`, i)))
			time.Sleep(time.Second)
		}
		return text("done"), nil
	}
}

const withToken = `{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"x","_meta":{"progressToken":0}}}`

func TestALegacyClientComesBackForItsAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGateway(t, nil, one(progressing(5)))
		session, other := initializeWith(t, g, "/mcp", `{}`), initializeWith(t, g, "/mcp", `{}`)
		w := openLegacy(t, g, session, withToken)
		id, _ := w.next()
		w.want(`"progress":1`)
		w.leave()
		broken := w
		time.Sleep(1500 * time.Millisecond)
		for name, strange := range map[string][]string{"another session": other} {
			if r := openStream(t, g, strange, "Last-Event-ID", id).body(); r.status != 405 {
				t.Errorf("%s: got %s", name, r)
			}
		}
		w = openStream(t, g, session, "Last-Event-ID", id)
		for i := range 4 {
			w.want(fmt.Sprintf(`"progress":%d`, i+1))
		}
		last, frame := w.next()
		if !strings.Contains(frame, `"id":5`) || !strings.Contains(frame, "done") {
			t.Errorf("got %s", frame)
		}
		if rest := w.rest(); len(rest) != 0 || !w.whole {
			t.Errorf("behind the answer: %v", rest)
		}
		if broken.rest(); broken.whole {
			t.Error("the response that broke off ended as if it were whole")
		}
		// It can be asked for for a while yet.
		time.Sleep(keepFor - time.Second)
		w = openStream(t, g, session, "Last-Event-ID", id)
		if rest := w.rest(); len(rest) != 5 || !strings.Contains(rest[4], "done") {
			t.Errorf("got %v", rest)
		}
		gone := func(id string) {
			t.Helper()
			if r := openStream(t, g, session, "Last-Event-ID", id).body(); r.status != 405 || r.code(t) != -32600 {
				t.Errorf("Last-Event-ID %s: got %s", id, r)
			}
		}
		gone(last)
		time.Sleep(2 * time.Second)
		gone(id)
		if len(g.streams.by)+len(g.streams.over)+g.streams.bytes != 0 {
			t.Errorf("kept: %v, %d bytes", g.streams.by, g.streams.bytes)
		}
		closed(t, g)
	})
}

// TestAnEventThatIsYetToComeIsNoHarm has a client that says it has seen what
// there is not: the stream was sliced beyond its end, by a goroutine that
// nobody recovers.
func TestAnEventThatIsYetToComeIsNoHarm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, n := range []string{"999", "9223372036854775806", "9223372036854775807", "99999999999999999999"} {
			g := newGateway(t, nil, one(progressing(3)))
			session := initializeWith(t, g, "/mcp", `{}`)
			w := openLegacy(t, g, session, withToken)
			id, _ := w.next()
			forged := id[:strings.LastIndexByte(id, '-')+1] + n
			again := openStream(t, g, session, "Last-Event-ID", forged)
			synctest.Wait()
			again.leave()
			again.rest()
			w.rest()
			w = openStream(t, g, session, "Last-Event-ID", id)
			if rest := w.rest(); len(rest) != 3 || !strings.Contains(rest[2], "done") {
				t.Errorf("%s: got %v", n, rest)
			}
			closed(t, g)
		}
	})
}

func TestStreamsThatAreOverAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ss := &streams{by: make(map[string]*kept)}
		end := func(size int) *stream {
			s := ss.begin("g", "s")
			s.send(make([]byte, size))
			s.end()
			ss.end(s)
			return s
		}
		first := end(1)
		for range keptStreams - 1 {
			end(1)
		}
		if _, _, ok := ss.find(first.id+"-0", "s"); !ok || len(ss.by) != keptStreams {
			t.Errorf("%d are kept", len(ss.by))
		}
		last := end(1)
		if _, _, ok := ss.find(first.id+"-0", "s"); ok || len(ss.by) != keptStreams || ss.bytes != keptStreams {
			t.Errorf("%d are kept, with %d bytes", len(ss.by), ss.bytes)
		}
		end(keptAnswers - 1)
		if _, _, ok := ss.find(last.id+"-0", "s"); !ok || len(ss.by) != 2 {
			t.Errorf("%d are kept", len(ss.by))
		}
		end(keptAnswers + 1)
		if len(ss.by)+ss.bytes != 0 {
			t.Errorf("%d are kept, with %d bytes", len(ss.by), ss.bytes)
		}
		count := func() int {
			ss.mu.Lock()
			defer ss.mu.Unlock()
			return len(ss.by)
		}
		time.Sleep(keepFor / 2)
		synctest.Wait()
		end(1)
		time.Sleep(keepFor - time.Second)
		synctest.Wait()
		if count() != 1 {
			t.Error("it is not kept")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if count() != 0 {
			t.Error("it is kept")
		}
	})
}

func TestAStreamHoldsNoMoreThanIsAllowed(t *testing.T) {
	t.Parallel()
	s := newStream("x")
	big := make([]byte, maxQueuedBytes/4)
	for range 10 {
		s.event(big)
	}
	if s.waiting() != maxQueuedBytes {
		t.Errorf("%d bytes wait", s.waiting())
	}
	s.send(big) // has to be seen
	if frames, _, _, _ := s.from(0); len(frames) != 5 {
		t.Errorf("%d frames", len(frames))
	}
	s.wrote(5)
	if frames, first, _, _ := s.from(0); len(frames) != 4 || first != 1 || s.waiting() != 0 || s.sent != maxQueuedBytes {
		t.Errorf("%d frames from %d are kept, %d bytes", len(frames), first, s.sent)
	}
	s.send(make([]byte, 2*maxQueuedBytes))
	s.wrote(6)
	if frames, first, _, _ := s.from(0); len(frames) != 1 || first != 5 { // the answer, in most cases
		t.Errorf("%d frames from %d are kept", len(frames), first)
	}
	for range 2 * maxQueued {
		s.event([]byte("x"))
		s.wrote(s.first + len(s.frames))
	}
	if len(s.frames) != maxQueued || s.sent != maxQueued || s.unsent != 0 {
		t.Errorf("%d frames are kept, %d and %d bytes", len(s.frames), s.sent, s.unsent)
	}
}

func TestNoEventComesBehindTheAnswer(t *testing.T) {
	t.Parallel()
	g := newGateway(t, nil, one(handler(demo)))
	for range 30 {
		w := &wire{t: t, begun: make(chan struct{}), events: make(chan string, 100000), header: make(http.Header)}
		p := &reply{gateway: g, ctx: t.Context(), accepts: accepts{events: true}, w: w}
		var late sync.WaitGroup
		stop, first := make(chan struct{}), make(chan struct{})
		late.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
					p.event([]byte("{}"))
				}
				if i == 0 {
					close(first)
				}
			}
		})
		<-first
		p.answer(200, []byte(`{"answer":1}`))
		p.finish()
		close(stop)
		late.Wait()
		close(w.events)
		if rest := w.rest(); rest[len(rest)-1] != `{"answer":1}` {
			t.Fatalf("got %v", rest)
		}
	}
}

// What a request has read of a session before that ended is good for nothing
// more.
func TestAStreamThatIsOpenedWhileItsSessionEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newTeller(demo)
		g := newPlain(t, nil, one(a))
		id := initialize(t, g, "/mcp")
		session, ok := g.sessions.open(id, "", "")
		if !ok {
			t.Fatal("the session is not known")
		}
		if r := do(g, "DELETE", "/mcp", "", "Mcp-Session-Id", id); r.status != 204 {
			t.Errorf("DELETE: %s", r)
		}
		if st, err := g.standings.get(g.now().all, "", session, nil); err != errEnded || len(g.standings.of) != 0 {
			t.Errorf("got %v, %v", st, err)
		}
		closed(t, g)
	})
}

func TestAStandingThatIsOverIsReplaced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newTeller(demo)
		g := newPlain(t, nil, one(a))
		session := initializeWith(t, g, "/mcp", `{}`)
		subscribed := func(uri string) {
			t.Helper()
			if r := subscribe(t, g, session, "resources/subscribe", uri); r.code(t) != 0 {
				t.Errorf("%s: %s", uri, r)
			}
		}
		subscribed("u://1")
		for _, st := range g.standings.of {
			st.end()
			if err := st.subscribe(t.Context(), g.now().all.servers[0], "u://1", "u://1"); err != errIdle {
				t.Errorf("got %v", err)
			}
		}
		subscribed("u://2")
		for i := range maxStandings {
			g.standings.of[fmt.Sprint(i)] = nil
		}
		r := openStream(t, g, initializeWith(t, g, "/mcp", `{}`)).body()
		if r.status != 503 || r.header.Get("Retry-After") == "" || !strings.Contains(r.body, "sessions are told of changes already") {
			t.Errorf("one more: %s", r)
		}
		for i := range maxStandings {
			delete(g.standings.of, fmt.Sprint(i))
		}
		closed(t, g)
	})
}
