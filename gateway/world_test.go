package gateway_test

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/gateway"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

var (
	eras     = map[bool]string{false: "legacy", true: "modern"}
	sharings = []mcpool.Sharing{mcpool.ShareAll, mcpool.SharePrincipal, mcpool.ShareSession}
)

// A world is clients of two principals at a gateway, and a pool of connections
// to one server behind it.
type world struct {
	t       *testing.T
	server  *mcptest.Server
	sharing mcpool.Sharing
	gateway *gateway.Gateway
	pool    *mcpool.Pool
	clients []*client
	ended   context.Context // when the test is over

	mu      sync.Mutex                 // guards what follows
	rode    map[string]map[string]bool // which clients called on a connection
	numbers map[string]string          // who was given a number of the server's
	held    map[string]int             // calls of hold that were cancelled
}

// newWorld makes a world without sockets.
func newWorld(t *testing.T, modern bool, sharing mcpool.Sharing) *world {
	w := &world{
		t: t, server: &mcptest.Server{Modern: modern, Stateful: true}, sharing: sharing,
		rode: make(map[string]map[string]bool), numbers: make(map[string]string), held: make(map[string]int),
	}
	config := mcpool.DefaultConfig()
	config.Sharing, config.MaxConnections = sharing, 2
	config.Hooks.CallStart = func(ctx context.Context, e mcpool.CallStart) context.Context {
		who, _ := ctx.Value(whoKey{}).(string)
		if e.Method != "tools/call" { // what is asked before a session begins is of none
			return ctx
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.rode[e.Conn] == nil {
			w.rode[e.Conn] = make(map[string]bool)
		}
		w.rode[e.Conn][who] = true
		return ctx
	}
	var err error
	w.pool, err = mcpool.New(mcpool.Server{Name: "one", URL: "http://one.test/mcp", RoundTripper: mcptest.RoundTripper(w.server)}, &config)
	if err != nil {
		t.Fatal(err)
	}
	w.gateway, err = gateway.New([]gateway.Server{{Name: "one", Handler: w.pool, EndSession: w.pool.EndSession, CallTimeout: time.Minute}},
		&gateway.Options{Principal: func(r *http.Request) (string, error) { return r.Header.Get("X-Principal"), nil }})
	if err != nil {
		t.Fatal(err)
	}
	// A call that crossed may wait for ever.
	var cancel context.CancelFunc
	w.ended, cancel = context.WithTimeout(context.WithoutCancel(t.Context()), 8*time.Minute)
	t.Cleanup(func() {
		cancel()
		_ = w.gateway.Close(context.Background())
		_ = w.pool.Close(context.Background())
	})
	return w
}

// join has a client begin.
func (w *world) join(principal, name string, modern bool, caps string) *client {
	c := &client{
		name: principal + "-" + eras[modern] + "-" + name, principal: principal, modern: modern, caps: caps,
		http: mcptest.RoundTripper(w.gateway), url: "http://localhost/mcp",
	}
	if err := c.begin(w.ended); err != nil {
		w.t.Fatal(err)
	}
	w.clients = append(w.clients, c)
	return c
}

// checkConnections holds that callers shared connections as the sharing says,
// no less and no more.
func (w *world) checkConnections() {
	w.mu.Lock()
	defer w.mu.Unlock()
	most, both := 0, false
	for conn, callers := range w.rode {
		names := slices.Sorted(maps.Keys(callers))
		principals, sessions := make(map[string]bool), make(map[string]bool)
		for _, name := range names {
			principals[name[:3]] = true
			if strings.Contains(name, "-legacy-") {
				sessions[name] = true
			} else {
				sessions["none"] = true
			}
		}
		if w.sharing != mcpool.ShareAll && len(principals) > 1 {
			w.t.Errorf("connection %s was that of %v", conn, names)
		}
		if w.sharing == mcpool.ShareSession && len(sessions) > 1 {
			w.t.Errorf("connection %s was that of %v", conn, names)
		}
		most, both = max(most, len(names)), both || len(principals) == 2
	}
	// Of each principal four clients can be asked; under session two have none.
	want := map[mcpool.Sharing]int{mcpool.ShareAll: 8, mcpool.SharePrincipal: 4, mcpool.ShareSession: 2}[w.sharing]
	if most < want || both != (w.sharing == mcpool.ShareAll) {
		w.t.Errorf("at most %d clients shared a connection, want %d; of both principals: %v", most, want, both)
	}
}
