package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/gateway"
	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

const (
	chaosClients  = 64
	chaosRestarts = 10 // of the server of each era
	chaosInFlight = 32 // calls at each restart, at the least
	chaosCall     = 200 * time.Millisecond
)

// chaosMix is what a client does, by chance: it looks at the list, from which a
// pool knows which tool may run twice, and calls. No turns are taken: after a
// restart those whose call has failed would go on while the others wait, until
// all are in step and more calls of echo in flight than may be sent again.
var chaosMix = []string{"list", "write", "echo", "write"}

// chaosCalls is how many calls each client makes between two disturbances: no
// call meets two of them, and there is budget again for those that may have run.
const chaosCalls = 5

// TestChaos has 64 clients of both eras call over sockets while the server is
// killed and started again, forgets its sessions, has its connections reset,
// and while one gateway drains and another takes its place. A call may fail
// only where it may have run, and never if its tool has readOnlyHint. No call
// runs twice that must not, and the first answer after a restart comes within a
// second and the time that the tool takes.
func TestChaos(t *testing.T) {
	for _, modern := range []bool{false, true} {
		t.Run(eras[modern]+" server", func(t *testing.T) {
			t.Parallel()
			k := newChaos(t, modern)
			for i := range chaosRestarts {
				k.restart(time.Duration(10+20*i) * time.Millisecond)
				switch i % 4 {
				case 1:
					k.disturb("the sessions expire", k.upstream.Expire)
				case 2:
					k.disturb("the connections are reset", k.upstream.reset)
				case 3:
					k.disturb("a gateway drains", k.replace)
				}
			}
			k.end()
		})
	}
}

// chaos is 64 clients, a gateway, and a server.
type chaos struct {
	t        *testing.T
	upstream *upstream
	key      []byte
	front    *front
	clients  []*client
	ctx      context.Context // ends when no answer is to be hoped for any more
	over     atomic.Bool
	working  sync.WaitGroup
	answered [chaosClients]atomic.Int64 // calls, by client
	back     atomic.Int64               // when the server was back, until a call of a tool is answered
	answer   chan time.Duration         // how long that took

	mu     sync.Mutex // guards what follows
	calls  map[string]error
	failed map[string]int // by tool and cause
	again  int            // times that a client was told to come back
}

func newChaos(t *testing.T, modern bool) *chaos {
	k := &chaos{
		t: t, key: make([]byte, gateway.KeySize), answer: make(chan time.Duration, 1),
		upstream: &upstream{Server: &mcptest.Server{Modern: modern}, conns: make(map[net.Conn]bool)},
		calls:    make(map[string]error), failed: make(map[string]int),
	}
	k.upstream.start(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	k.front = k.serve(listener)
	var cancel context.CancelFunc
	k.ctx, cancel = context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Minute)
	t.Cleanup(cancel)
	for n := range chaosClients {
		c := &client{
			name: fmt.Sprint("client-", n), principal: []string{"ann", "bob"}[n%2], modern: n%4 < 2, caps: "{}",
			// A connection that a server closes because it is idle may just have been
			// sent a request: then a client cannot know, whoever the server is.
			http: &http.Transport{DisableKeepAlives: true}, url: "http://" + listener.Addr().String() + "/mcp",
		}
		if err := c.begin(k.ctx); err != nil {
			t.Fatal(err)
		}
		k.clients = append(k.clients, c)
	}
	for n := range k.clients {
		k.working.Go(func() { k.work(n) })
	}
	k.settle()
	return k
}

// work has a client call until the end.
func (k *chaos) work(n int) {
	c, random := k.clients[n], rand.New(rand.NewPCG(uint64(n), 1))
	for i := 0; !k.over.Load() && k.ctx.Err() == nil; i++ {
		tool, id := chaosMix[random.IntN(len(chaosMix))], fmt.Sprint(c.name, ".", i)
		k.note(tool, id, k.call(c, i, tool, id))
		k.answered[n].Add(1)
	}
}

// call makes one call. A gateway that shuts down says that it did not run, and
// when to come back.
func (k *chaos) call(c *client, i int, tool, id string) error {
	for {
		var err error
		if tool == "list" {
			_, err = c.call(k.ctx, i, "tools/list", "", exchange{})
		} else {
			params := fmt.Sprintf(`"name":%q,"arguments":{"id":%q,"text":%q,"ms":%d}`, tool, id, id, chaosCall.Milliseconds())
			result, failed := c.call(k.ctx, i, "tools/call", params, exchange{})
			if err = failed; err == nil && jsonrpc.GetString(result, "structuredContent", "text") != id {
				err = fmt.Errorf("another's answer: %s", result)
			}
		}
		refused := (*statusError)(nil)
		if !errors.As(err, &refused) || refused.status != http.StatusServiceUnavailable || refused.retryAfter == "" {
			return err
		}
		k.mu.Lock()
		k.again++
		k.mu.Unlock()
		seconds, _ := strconv.Atoi(refused.retryAfter)
		time.Sleep(time.Duration(seconds) * time.Second)
	}
}

// note takes in what became of a call.
func (k *chaos) note(tool, id string, err error) {
	if tool != "list" && err == nil {
		// An answer that is sooner than the tool was given before.
		back := k.back.Load()
		if took := time.Duration(time.Now().UnixNano() - back); back != 0 && took >= chaosCall && k.back.CompareAndSwap(back, 0) {
			k.answer <- took
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if tool != "list" {
		k.calls[tool+" "+id] = err
	}
	if err == nil {
		return
	}
	cause := err.Error()
	if strings.Contains(cause, "may have run") {
		cause = "may have run"
	}
	k.failed[tool+": "+cause]++
	if cause != "may have run" || tool != "write" {
		k.t.Errorf("%s %s: %v", tool, id, err)
	}
}

// settle waits until each client has had some more calls answered.
func (k *chaos) settle() {
	var before [chaosClients]int64
	for n := range before {
		before[n] = k.answered[n].Load()
	}
	for n := range before {
		k.await("all clients go on", func() bool { return k.answered[n].Load() >= before[n]+chaosCalls })
	}
}

func (k *chaos) await(what string, is func() bool) {
	k.t.Helper()
	for !is() {
		if k.ctx.Err() != nil {
			k.t.Fatalf("it is not so that %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// disturb does something while calls are in flight, and waits until all is well
// again.
func (k *chaos) disturb(what string, how func()) {
	k.await("enough calls are in flight", func() bool { return k.upstream.InFlight() >= chaosInFlight })
	k.t.Logf("%s, with %d calls in flight", what, k.upstream.InFlight())
	how()
	k.settle()
}

// restart kills the server and starts it again.
func (k *chaos) restart(down time.Duration) {
	k.disturb("the server restarts", func() {
		k.upstream.kill()
		time.Sleep(down)
		late := mcptest.Lateness()
		k.back.Store(time.Now().UnixNano())
		k.upstream.start(k.t)
		took, lag := <-k.answer, late()
		k.t.Logf("it was away for %v, and the first answer came after %v (the machine was late by %v)", down, took, lag)
		if took > chaosCall+time.Second+lag {
			k.t.Errorf("the first answer came %v after the server was back", took)
		}
	})
}

// replace has another gateway take over the port and the key, as another
// process would, and the old one drain.
func (k *chaos) replace() {
	file, err := k.front.listener.(*net.TCPListener).File()
	if err != nil {
		k.t.Fatal(err)
	}
	defer file.Close()
	listener, err := net.FileListener(file) // of the same socket: nobody who connects is lost
	if err != nil {
		k.t.Fatal(err)
	}
	old := k.front
	k.front = k.serve(listener)
	old.drain(k)
}

// end has all clients finish, and compares what they were told with what ran.
func (k *chaos) end() {
	k.over.Store(true)
	k.working.Wait()
	k.front.drain(k)
	k.upstream.kill()
	ran := k.upstream.Executions()
	answered := 0
	for call, err := range k.calls {
		tool, id, _ := strings.Cut(call, " ")
		switch n := ran[id]; {
		case tool == "write" && n > 1:
			k.t.Errorf("%s ran %d times", call, n)
		case err == nil && n == 0:
			k.t.Errorf("%s was answered and never ran", call)
		}
		if err == nil {
			answered++
		}
	}
	if k.again == 0 {
		k.t.Error("no client was told to come back by a gateway that drains")
	}
	if k.failed["write: may have run"] == 0 {
		k.t.Error("no call met a restart")
	}
	k.t.Logf("%d calls answered, %d told to come back; failed: %v", answered, k.again, k.failed)
}

// A front is a gateway at a port, with its pool.
type front struct {
	listener net.Listener
	pool     *mcpool.Pool
	gateway  *gateway.Gateway
	http     *http.Server
	open     atomic.Int64 // connections
	served   chan error
}

func (k *chaos) serve(listener net.Listener) *front {
	config := mcpool.DefaultConfig()
	pool, err := mcpool.New(mcpool.Server{Name: "one", URL: "http://" + k.upstream.addr + "/mcp"}, &config)
	if err != nil {
		k.t.Fatal(err)
	}
	g, err := gateway.New([]gateway.Server{{Name: "one", Handler: pool, EndSession: pool.EndSession, CallTimeout: time.Minute}},
		&gateway.Options{Key: k.key, Principal: func(r *http.Request) (string, error) { return r.Header.Get("X-Principal"), nil }})
	if err != nil {
		k.t.Fatal(err)
	}
	f := &front{listener: listener, pool: pool, gateway: g, served: make(chan error, 1)}
	f.http = &http.Server{Handler: g, ConnState: func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			f.open.Add(1)
		case http.StateClosed:
			f.open.Add(-1)
		}
	}}
	go func() { f.served <- f.http.Serve(listener) }()
	return f
}

// drain lets calls finish, and closes. Shutdown comes when everybody who was
// let in has an answer: it cuts off requests that have just been read.
func (f *front) drain(k *chaos) {
	if err := f.gateway.Close(k.ctx); err != nil {
		k.t.Error(err)
	}
	_ = f.listener.Close()
	<-f.served
	k.await("all are answered", func() bool { return f.open.Load() == 0 })
	if err := errors.Join(f.http.Shutdown(k.ctx), f.pool.Close(k.ctx)); err != nil {
		k.t.Error(err)
	}
	if n := f.pool.Stats().RetryBudgetExhausted; n != 0 {
		k.t.Errorf("%d calls were not sent again for want of budget", n)
	}
}

// An upstream is a server at a port that stays the same.
type upstream struct {
	*mcptest.Server
	addr   string
	http   *http.Server
	served chan error

	mu    sync.Mutex // guards conns
	conns map[net.Conn]bool
}

func (u *upstream) start(t *testing.T) {
	if u.addr == "" {
		u.addr = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", u.addr)
	if err != nil {
		t.Fatal(err)
	}
	u.addr = listener.Addr().String()
	u.served = make(chan error, 1)
	u.http = &http.Server{Handler: u.Server, ConnState: func(conn net.Conn, state http.ConnState) {
		u.mu.Lock()
		defer u.mu.Unlock()
		if state == http.StateClosed {
			delete(u.conns, conn)
		} else {
			u.conns[conn] = true
		}
	}}
	go func() { u.served <- u.http.Serve(listener) }()
}

// kill ends the server as a signal does: calls are cut off, sessions are lost.
func (u *upstream) kill() {
	_ = u.http.Close()
	<-u.served
	u.Expire()
}

// reset resets all connections, and leaves the server as it is.
func (u *upstream) reset() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for conn := range u.conns {
		_ = conn.(*net.TCPConn).SetLinger(0)
		_ = conn.Close()
	}
}
