package gateway_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
)

// An ear is a client that hears of changes.
type ear struct {
	*client
	w     *world
	stop  context.CancelFunc
	ended chan struct{}

	want  map[string]bool // what it is to be told of: URIs, and methods
	mu    sync.Mutex      // guards heard
	heard map[string]bool
}

// What all ears subscribe to; each has a resource of its own besides.
const first, second = "res://first", "res://second"

func (e *ear) own() string { return "res://" + e.name }

// listens has a client hear of changes.
func (w *world) listens(c *client, toLists bool) *ear {
	ctx, stop := context.WithCancel(w.ended)
	e := &ear{client: c, w: w, stop: stop, ended: make(chan struct{}), want: make(map[string]bool), heard: make(map[string]bool)}
	// Under session sharing a session is listened to where it has a connection.
	if _, err := w.callTool(c, 1, "echo", c.name, "", exchange{}); err != nil {
		w.t.Fatal(err)
	}
	begun := make(chan struct{})
	go func() {
		defer close(e.ended)
		filter := fmt.Sprintf(`{"toolsListChanged":%v,"resourceSubscriptions":[%q,%q,%q]}`, toLists, first, second, e.own())
		err := c.hear(ctx, filter, sync.OnceFunc(func() { close(begun) }), func(method string, params json.RawMessage) {
			if uri := jsonrpc.GetString(params, "uri"); uri != "" {
				method = uri
			}
			e.mu.Lock()
			defer e.mu.Unlock()
			e.heard[method] = true
		})
		if ctx.Err() == nil {
			w.t.Errorf("%s hears no more: %v", c.name, err)
		}
	}()
	select {
	case <-begun:
	case <-w.ended.Done():
		w.t.Fatalf("%s does not hear", c.name)
	}
	if !c.modern {
		for _, uri := range []string{first, second, e.own()} {
			e.subscribe("resources/subscribe", uri)
		}
	}
	return e
}

func (e *ear) subscribe(method, uri string) {
	if _, err := e.call(e.w.ended, 1, method, fmt.Sprintf(`"uri":%q`, uri), exchange{}); err != nil {
		e.w.t.Errorf("%s: %s: %v", e.name, method, err)
	}
}

// lists is what clients are told when Change has changed the list of tools.
const lists = "notifications/tools/list_changed"

// hears waits until a client was told of something.
func (e *ear) hears(what string) {
	e.want[what] = true
	e.w.await(e.name+" hears of "+what, func() bool {
		if what == lists { // legacy clients are not told from when on they are told of it
			e.w.server.Change()
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.heard[what]
	})
}

// await waits for what nobody tells of.
func (w *world) await(what string, is func() bool) {
	w.t.Helper()
	for !is() {
		if w.ended.Err() != nil {
			w.t.Fatalf("it is not so that %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// TestChangesGoToWhoAskedForThem has clients subscribe to the same resource
// and to one each, over connections that they share: who ends a subscription
// ends no other's, and nobody is told of what only others asked for.
func TestChangesGoToWhoAskedForThem(t *testing.T) {
	for _, modern := range []bool{false, true} {
		for _, sharing := range sharings {
			t.Run(fmt.Sprintf("%s server, %s", eras[modern], sharing), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, modern, sharing)
				var ears []*ear
				for _, principal := range []string{"ann", "bob"} {
					for _, modern := range []bool{false, true} {
						for _, name := range []string{"1", "2"} {
							ears = append(ears, w.listens(w.join(principal, name, modern, "{}"), name == "1"))
						}
					}
				}
				// How many connections it is that all of them hear by.
				want := map[mcpool.Sharing]int{mcpool.ShareAll: 1, mcpool.SharePrincipal: 2, mcpool.ShareSession: 6}[sharing]
				w.await(fmt.Sprintf("the server tells %d listeners", want), func() bool { return w.server.Listeners() == want })
				w.server.Touch(first)
				for _, e := range ears {
					w.server.Touch(e.own())
					e.hears(e.own())
					e.hears(first)
					if !e.modern || strings.HasSuffix(e.name, "1") {
						e.hears(lists)
					}
				}
				ears[0].subscribe("resources/unsubscribe", second)
				gone := ears[len(ears)-1]
				gone.stop()
				<-gone.ended
				w.server.Touch(second)
				for _, e := range ears[1 : len(ears)-1] {
					e.hears(second)
				}
				for _, e := range ears {
					e.stop()
					<-e.ended
					if !maps.Equal(e.heard, e.want) { // how often, and in which order, nobody promises
						t.Errorf("%s heard of %v, want %v", e.name, e.heard, e.want)
					}
				}
			})
		}
	}
}

// TestStateOfTheServer shows what no gateway can keep apart where connections
// are shared: what a server keeps for a session of its own. Under session
// sharing it is each client's alone, and gone with its session.
func TestStateOfTheServer(t *testing.T) {
	add := func(w *world, c *client, what string) string {
		said, err := w.callTool(c, 1, "cart", what, fmt.Sprintf(`,"text":%q`, what), exchange{})
		if err != nil {
			t.Fatal(err)
		}
		cart, _ := jsonrpc.Get(said, "cart")
		return strings.NewReplacer(`"`, "", "[", "", "]", "").Replace(string(cart))
	}
	for sharing, want := range map[mcpool.Sharing][]string{
		mcpool.ShareAll:       {"pen", "pen,ink", "pen,ink,cup", "pen,ink,cup,pad", "pen,ink,cup,pad,hat"},
		mcpool.SharePrincipal: {"pen", "pen,ink", "cup", "pen,ink,pad", "pen,ink,pad,hat"},
		mcpool.ShareSession:   {"pen", "ink", "cup", "pen,pad", "hat"},
	} {
		w := newWorld(t, false, sharing)
		ann, ann2, bob := w.join("ann", "1", false, "{}"), w.join("ann", "2", false, "{}"), w.join("bob", "1", false, "{}")
		got := []string{add(w, ann, "pen"), add(w, ann2, "ink"), add(w, bob, "cup"), add(w, ann, "pad")}
		response, err := ann.send(w.ended, http.MethodDelete, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		got = append(got, add(w, w.join("ann", "3", false, "{}"), "hat"))
		if !slices.Equal(got, want) {
			t.Errorf("%s: the carts are %q, want %q", sharing, got, want)
		}
	}
}

// TestStreamsAreOfTheirSession has clients ask for the rest of a stream that
// is another session's: of another principal, and of the same.
func TestStreamsAreOfTheirSession(t *testing.T) {
	w := newWorld(t, false, mcpool.ShareAll)
	ann := w.join("ann", "1", false, "{}")
	frame := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"progress","arguments":{"id":"a","steps":3},"_meta":{"progressToken":1}}}`
	response, err := ann.send(w.ended, http.MethodPost, []byte(frame), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	event := ""
	if err := readEvents(response.Body, func(id string, _ *jsonrpc.Message) error {
		if event == "" {
			event = id
		}
		return nil
	}); err != nil || event == "" {
		t.Fatalf("the first event is %q, %v", event, err)
	}
	resume := func(c *client) string {
		ctx, cancel := context.WithCancel(w.ended)
		defer cancel()
		response, err := c.send(ctx, http.MethodGet, nil, http.Header{"Last-Event-Id": {event}})
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if response.StatusCode == http.StatusMethodNotAllowed {
			return "nothing"
		}
		told := make(chan struct{})
		go func() {
			defer close(told)
			for ctx.Err() == nil { // one may come before the gateway listens for the client
				w.server.Change()
				time.Sleep(time.Millisecond)
			}
		}()
		method := ""
		_ = readEvents(response.Body, func(_ string, m *jsonrpc.Message) error {
			method = m.Method
			return io.EOF // the first is enough
		})
		cancel()
		<-told
		return method
	}
	for _, other := range []*client{w.join("ann", "2", false, "{}"), w.join("bob", "1", false, "{}")} {
		if got := resume(other); got != "nothing" {
			t.Errorf("%s was sent %s of another's stream", other.name, got)
		}
	}
	if got := resume(ann); got != "notifications/progress" {
		t.Errorf("the session whose stream it is was sent %s", got)
	}
}
