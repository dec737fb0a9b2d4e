package gateway

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

// openListen subscribes as a modern client; id is JSON.
func openListen(t testing.TB, g *Gateway, id, notifications string, headers ...string) *wire {
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":"subscriptions/listen","params":{"notifications":%s,%s}}`, id, notifications, meta)
	return open(t, g, "POST", "/mcp", body, append(modernHeaders("subscriptions/listen", ""), headers...)...)
}

// of returns what a notification says its subscription is.
func of(m jsonrpc.Message) string {
	id, _ := jsonrpc.Get(m.Params, "_meta", "io.modelcontextprotocol/subscriptionId")
	return string(id)
}

func TestAListeningClientIsToldWhatItAskedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, b := newTeller(demo), newTeller(demo)
		b.heeds = func(f filter) filter { return filter{URIs: f.URIs} } // tells nothing of its lists
		g := newPlain(t, nil, Server{Name: "a_1", Handler: a}, Server{Name: "9b", Handler: b}, Server{Name: "deaf", Handler: handler(demo)})
		for _, id := range []string{`"listen:0"`, `17`, `1.50`, `"\u0061"`} {
			began := time.Now()
			w := openListen(t, g, id, `{"toolsListChanged":true,"promptsListChanged":false,"resourceSubscriptions":["a.1+u://x","x+9B+u://x","nobody+u://x","u://y"]}`)
			ack := w.message()
			heeded, _ := jsonrpc.Get(ack.Params, "notifications")
			if ack.Method != "notifications/subscriptions/acknowledged" || of(ack) != id || !time.Now().Equal(began) ||
				string(heeded) != `{"toolsListChanged":true,"resourceSubscriptions":["a.1+u://x","x+9B+u://x"]}` {
				t.Errorf("after %v got %s %s", time.Since(began), ack.Method, ack.Params)
			}
			select {
			case <-w.begun:
			default:
				t.Error("the acknowledgement is not flushed")
			}
			synctest.Wait()
			b.tell(toolsChanged, "")
			a.tell(toolsChanged, "")
			if m := w.message(); m.Method != toolsChanged || of(m) != id {
				t.Errorf("got %s %s", m.Method, m.Params)
			}
			b.tell(updated, "u://x")
			if m := w.message(); m.Method != updated || of(m) != id || jsonrpc.GetString(m.Params, "uri") != "x+9B+u://x" {
				t.Errorf("got %s %s", m.Method, m.Params)
			}
			a.tell(updated, "u://x")
			if m := w.message(); m.Method != updated || jsonrpc.GetString(m.Params, "uri") != "a.1+u://x" {
				t.Errorf("got %s %s", m.Method, m.Params)
			}
			a.tell(updated, "u://y") // nobody listens for it
			if _, frame := w.next(); frame != "" {
				t.Errorf("instead of a heartbeat got %s", frame)
			}
			w.leave()
			w.rest()
			synctest.Wait()
			if a.count()+b.count() != 0 {
				t.Error("somebody listens for a client that is gone")
			}
		}
		closed(t, g)
	})
}

func TestListeningEndsWithAResult(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newTeller(demo)
		g := newPlain(t, nil, one(a))
		w, lists := openListen(t, g, `"l"`, `{"toolsListChanged":true}`), openListen(t, g, `7`, `{}`)
		w.message()
		if ack := lists.message(); !strings.Contains(string(ack.Params), `"notifications":{}`) {
			t.Errorf("got %s", ack.Params)
		}
		closed(t, g)
		w.want(`"id":"l"`, `"result":{"_meta":{"io.modelcontextprotocol/subscriptionId":"l"`, `"resultType":"complete"`)
		lists.want(`"id":7`, `"io.modelcontextprotocol/subscriptionId":7`)
		for _, w := range []*wire{w, lists} {
			if rest := w.rest(); len(rest) != 0 || !w.whole {
				t.Errorf("behind the result: %v", rest)
			}
		}
		if r := openListen(t, g, `1`, `{}`).body(); r.status != 503 {
			t.Errorf("after Close: %s", r)
		}
	})
}

func TestAServerThatIsSilentIsNotWaitedForForLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		silent := handler(func(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
			<-ctx.Done()
			return rpc.Answer{}, ctx.Err()
		})
		over := handler(func(context.Context, rpc.Call) (rpc.Answer, error) { return rpc.Answer{}, nil })
		a := newTeller(demo)
		g := newPlain(t, nil, Server{Name: "a", Handler: a}, Server{Name: "silent", Handler: silent}, Server{Name: "over", Handler: over})
		began := time.Now()
		w := openListen(t, g, `1`, `{"toolsListChanged":true}`)
		synctest.Wait()
		a.tell(toolsChanged, "") // before it is acknowledged
		if ack := w.message(); ack.Method != notifyAcknowledged || time.Since(began) != ackWait {
			t.Errorf("after %v got %s", time.Since(began), ack.Method)
		}
		w.want(toolsChanged)
		w.leave()
		w.rest()
		alone := newPlain(t, nil, Server{Name: "over", Handler: over})
		began = time.Now()
		w = openListen(t, alone, `1`, `{"toolsListChanged":true}`)
		if ack := w.message(); !time.Now().Equal(began) || !strings.Contains(string(ack.Params), `"notifications":{}`) {
			t.Errorf("after %v got %s", time.Since(began), ack.Params)
		}
		w.leave()
		w.rest()
		closed(t, g)
		closed(t, alone)
	})
}

func TestListeningIsRefusedWhereItMakesNoSense(t *testing.T) {
	t.Parallel()
	g := newPlain(t, nil, one(newTeller(demo)))
	many := `{"resourceSubscriptions":[` + strings.Repeat(`"u://x",`, maxURIs) + `"u://x"]}`
	for name, test := range map[string]struct {
		notifications, accept string
		status, code          int
	}{
		"no events":      {`{}`, "application/json", 400, -32600},
		"no filter":      {`[]`, "text/event-stream", 400, -32602},
		"a wrong member": {`{"toolsListChanged":"yes"}`, "text/event-stream", 400, -32602},
		"too many":       {many, "text/event-stream", 400, -32602},
	} {
		if r := openListen(t, g, "1", test.notifications, "Accept", test.accept).body(); r.status != test.status || r.code(t) != test.code {
			t.Errorf("%s: got %s", name, r)
		}
	}
	closed(t, g)
}

func TestListeningIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newPlain(t, &Options{Principal: byHeader}, one(newTeller(demo)))
		for g.listens.add("", maxListens-1) { // those of other clients
		}
		last := openListen(t, g, "1", `{"toolsListChanged":true}`)
		last.message()
		if r := openListen(t, g, "2", `{"toolsListChanged":true}`).body(); r.code(t) != -32603 || !strings.Contains(r.body, "10000 subscriptions") {
			t.Errorf("one more: %s", r)
		}
		other := openListen(t, g, "3", `{"toolsListChanged":true}`, "X-Principal", "other")
		other.message()
		for _, w := range []*wire{last, other} {
			w.leave()
			w.rest()
		}
		synctest.Wait()
		if got := g.listens.of[""]; got != maxListens-1 {
			t.Errorf("%d count yet", got)
		}
		closed(t, g)
	})
}
