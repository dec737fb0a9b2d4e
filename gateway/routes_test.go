package gateway

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/mcpool-dev/mcpool/rpc"
)

// change replaces the servers of a gateway. The channel is closed when those
// there were are not used any more.
func change(t *testing.T, g *Gateway, servers ...Server) (left <-chan struct{}) {
	t.Helper()
	left, err := g.Change(servers, nil)
	if err != nil {
		t.Fatal(err)
	}
	return left
}

func hasLeft(left <-chan struct{}) bool {
	synctest.Wait()
	select {
	case <-left:
		return true
	default:
		return false
	}
}

// A call that has begun, in whatever way, is answered by the server there was,
// which may be closed after that and not before.
func TestCallsOfServersThatAreReplacedAreFinished(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		old := newWaiter()
		g := newPlain(t, nil, Server{Name: "a", Handler: old}, Server{Name: "kept", Handler: newTeller(demo)})
		kept := g.now().all.named("kept")
		session := initializeWith(t, g, "/mcp", `{}`)
		calls := []*wire{
			open(t, g, "POST", "/mcp", strings.Replace(legacyCall, `"x"`, `"a__x"`, 1), session...),
			open(t, g, "POST", "/mcp", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a__x",`+meta+`}}`, modernHeaders("tools/call", "a__x")...),
			open(t, g, "POST", "/mcp/a", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x",`+meta+`}}`, modernHeaders("tools/call", "x")...),
		}
		synctest.Wait()
		left := change(t, g, Server{Name: "b", Handler: handler(demo)}, Server{Name: "kept", Handler: kept.Handler})
		again := change(t, g, Server{Name: "kept", Handler: kept.Handler})
		if hasLeft(left) || hasLeft(again) {
			t.Error("a server is given up whose calls run")
		}
		if g.now().all.named("kept") != kept {
			t.Error("a server that is the same has begun anew")
		}
		close(old.free)
		for i, w := range calls {
			if r := w.body(); r.status != 200 || strings.Contains(r.body, `"error"`) {
				t.Errorf("call %d: got %s", i, r)
			}
		}
		if !hasLeft(left) || !hasLeft(again) {
			t.Error("a server is held whose calls have ended")
		}
		if r := callModern(g, "/mcp", "a__x", ""); r.code(t) != rpc.CodeInvalidParams {
			t.Errorf("a tool of a server that is served no more: got %s", r)
		}
		if r := callModern(g, "/mcp/a", "x", ""); r.status != 404 {
			t.Errorf("its endpoint: got %s", r)
		}
		if n := len(g.limits.of); n != 0 {
			t.Errorf("%d servers are counted", n)
		}
		closed(t, g)
	})
}

// A parked call goes on though its server was replaced meanwhile.
func TestAParkedCallOutlastsItsServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asks := handler(func(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
			if call.Method != methodCallTool {
				return demo(ctx, call)
			}
			got, err := call.Events.Ask(ctx, "elicitation/create", []byte(`{"message":"?"}`))
			return rpc.Result([]byte(fmt.Sprintf(`{"content":[{"type":"text","text":%q}]}`, got))), err
		})
		g := newGateway(t, nil, one(asks))
		caps := `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"elicitation":{}}}`
		call := func(more string) response {
			return do(g, "POST", "/mcp", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x",`+more+caps+`}}`, modernHeaders("tools/call", "x")...)
		}
		r := call("")
		state := between(r.body, `"requestState":"`, `"`)
		if state == "" {
			t.Fatalf("it is not parked: %s", r)
		}
		left := change(t, g, Server{Name: "two", Handler: handler(demo)})
		if hasLeft(left) {
			t.Error("the server of a parked call is given up")
		}
		input := between(r.body, `"inputRequests":{"`, `"`)
		r = call(`"requestState":"` + state + `","inputResponses":{"` + input + `":{"action":"accept"}},`)
		if !strings.Contains(r.body, "accept") || !hasLeft(left) {
			t.Errorf("got %s", r)
		}
		closed(t, g)
	})
}

// between returns what stands between two texts.
func between(text, before, after string) string {
	_, rest, _ := strings.Cut(text, before)
	found, _, _ := strings.Cut(rest, after)
	return found
}

// Who listens is told that the lists have changed, and hears of the new servers
// and not of the old.
func TestChangesOfServersAreTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		old, kept, fresh := newTeller(demo), newTeller(demo), newTeller(demo)
		g := newPlain(t, nil, Server{Name: "old", Handler: old}, Server{Name: "kept", Handler: kept})
		stream := openStream(t, g, initializeWith(t, g, "/mcp", `{}`))
		listens := openListen(t, g, "1", `{"toolsListChanged":true,"resourceSubscriptions":["kept+u://x"]}`)
		if m := listens.message(); m.Method != notifyAcknowledged {
			t.Fatalf("got %s", m.Method)
		}
		synctest.Wait()
		left := change(t, g, Server{Name: "fresh", Handler: fresh}, Server{Name: "kept", Handler: kept})
		if !hasLeft(left) {
			t.Error("those who listen hold the servers")
		}
		for _, method := range []string{notifyToolsChanged, notifyPromptsChanged, notifyResourcesChanged} {
			stream.want(method)
		}
		if m := listens.message(); m.Method != notifyToolsChanged {
			t.Errorf("got %s", m.Method)
		}
		if old.count() != 0 || kept.count() != 2 || fresh.count() != 2 {
			t.Errorf("%d listen to the old server, %d to that which is kept, %d to the new one", old.count(), kept.count(), fresh.count())
		}
		fresh.tell(toolsChanged, "")
		stream.want(toolsChanged)
		if m := listens.message(); m.Method != toolsChanged {
			t.Errorf("got %s", m.Method)
		}
		kept.tell(updated, "u://x")
		if m := listens.message(); m.Method != updated {
			t.Errorf("got %s", m.Method)
		}
		for _, w := range []*wire{stream, listens} {
			w.leave()
			w.rest()
		}
		closed(t, g)
	})
}

func TestAChangeThatMakesNoSenseChangesNothing(t *testing.T) {
	t.Parallel()
	g := newGateway(t, nil, one(handler(demo)))
	before := g.now()
	for _, servers := range [][]Server{nil, {one(nil)}, {one(handler(demo)), one(handler(demo))}} {
		if _, err := g.Change(servers, nil); err == nil {
			t.Errorf("%v was taken", servers)
		}
	}
	if g.now() != before {
		t.Error("the servers have changed")
	}
}

// With one server tools have no prefix, and clients hold their names.
func TestNamesOutlastAChange(t *testing.T) {
	t.Parallel()
	g := newGateway(t, nil, one(handler(demo)))
	change(t, g, one(handler(demo)), Server{Name: "two", Handler: answers(`{"content":[],"of":"two"}`)})
	if r := callModern(g, "/mcp", "echo", ""); r.status != 200 || r.code(t) != 0 {
		t.Errorf("got %s", r)
	}
	two := newGateway(t, nil, one(handler(demo)), Server{Name: "two", Handler: handler(demo)})
	change(t, two, one(handler(demo)))
	if r := callModern(two, "/mcp", "one__echo", ""); r.status != 200 || r.code(t) != 0 {
		t.Errorf("got %s", r)
	}
}

// However changes and calls cross, no call reaches a server that was given up.
func TestNoCallReachesAServerThatWasGivenUp(t *testing.T) {
	t.Parallel()
	serve := func(gone *atomic.Bool) Server {
		return one(handler(func(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
			if gone.Load() {
				t.Error("a call after its server was given up")
			}
			return demo(ctx, call)
		}))
	}
	gone := new(atomic.Bool)
	g := newGateway(t, nil, serve(gone))
	var callers sync.WaitGroup
	var over atomic.Bool
	for range 4 {
		callers.Go(func() {
			for !over.Load() {
				if r := callModern(g, "/mcp", "echo", ""); r.status != 200 {
					t.Errorf("got %s", r)
				}
			}
		})
	}
	for range 300 {
		next := new(atomic.Bool)
		left, err := g.Change([]Server{serve(next)}, nil)
		if err != nil {
			t.Fatal(err)
		}
		<-left
		gone.Store(true)
		gone = next
	}
	over.Store(true)
	callers.Wait()
}

// Leave ends streams, which clients open elsewhere, and nothing else.
func TestLeaveEndsStreamsAndNoCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := newWaiter()
		g := newPlain(t, nil, Server{Name: "slow", Handler: slow}, Server{Name: "a", Handler: newTeller(demo)})
		session := initializeWith(t, g, "/mcp", `{}`)
		stream := openStream(t, g, session)
		listens := openListen(t, g, "1", `{"toolsListChanged":true}`)
		if m := listens.message(); m.Method != notifyAcknowledged {
			t.Fatalf("got %s", m.Method)
		}
		older, where := openTalk(t, g)
		call := open(t, g, "POST", "/mcp", strings.Replace(legacyCall, `"x"`, `"slow__x"`, 1), session...)
		synctest.Wait()
		g.Leave()
		stream.rest() // which returns when they have ended
		listens.rest()
		older.rest()
		// Who comes back on a connection that is still there comes here again.
		for what, again := range map[string]*wire{
			"a stream":        openStream(t, g, session),
			"an older client": open(t, g, "GET", "/sse", "", "Accept", "text/event-stream"),
		} {
			if rest := again.rest(); again.status != 200 || len(rest) != 0 || !again.whole {
				t.Errorf("%s that comes back: got %d, %v", what, again.status, rest)
			}
		}
		if r := do(g, "POST", where, legacyCall); r.status != 404 {
			t.Errorf("a client over HTTP+SSE that has not come back: got %s", r)
		}
		if r := callModern(g, "/mcp", "a__echo", ""); r.status != 200 || r.code(t) != 0 {
			t.Errorf("a call after that: got %s", r)
		}
		close(slow.free)
		if r := call.body(); r.status != 200 || strings.Contains(r.body, `"error"`) {
			t.Errorf("a call in flight: got %s", r)
		}
		closed(t, g)
	})
}
