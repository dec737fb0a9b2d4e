package main

import (
	"encoding/json"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

// operate runs a command on a gateway, which has to go well, and returns what it
// prints.
func (p *program) operate(t testing.TB, args ...string) string {
	t.Helper()
	status, out, err := finish(t, append(args, "--url", p.url)...)
	if status != 0 {
		t.Errorf("%v: status %d: %s", args, status, err)
	}
	return out
}

// list reads what the API of a gateway lists.
func (p *program) list(t testing.TB, what string) []map[string]any {
	t.Helper()
	var said map[string][]map[string]any
	if _, body := get(t, p.url+"/admin/v1/"+what); json.Unmarshal([]byte(body), &said) != nil {
		t.Fatalf("%s: %s", what, body)
	}
	return said[what]
}

// ids are those of the connections that are open.
func (p *program) ids(t testing.TB) map[string]bool {
	t.Helper()
	open := map[string]bool{}
	for _, c := range p.list(t, "connections") {
		open[fmt.Sprint(c["id"])] = true
	}
	return open
}

// A crowd is clients that call all the time.
type crowd struct {
	answered, killed atomic.Int64
	stop             chan struct{}
	all              sync.WaitGroup
}

// newCrowd has clients call a gateway until the crowd ends. A call that fails, but
// by kill, fails the test.
func newCrowd(t testing.TB, p *program, clients int) *crowd {
	c := &crowd{stop: make(chan struct{})}
	h := web(t)
	for i := range clients {
		client := connect(t, h, p.url+"/mcp")
		c.all.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-c.stop:
					return
				default:
				}
				switch _, err := client.call(t.Context(), "write", fmt.Sprintf("%d of %d", n, i)); {
				case err == nil:
					c.answered.Add(1)
				case strings.Contains(err.Error(), "killed by an operator"):
					c.killed.Add(1)
				default:
					t.Error(err)
				}
			}
		})
	}
	return c
}

// goesOn waits until more calls are answered.
func (c *crowd) goesOn(t testing.TB) {
	t.Helper()
	for now, deadline := c.answered.Load(), time.Now().Add(patience); c.answered.Load() < now+64; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("calls are not answered any more")
		}
	}
}

func (c *crowd) end() {
	close(c.stop)
	c.all.Wait()
}

// TestVerbsLoseNoCall has 64 clients call through a gateway while it is steered
// in each way.
func TestVerbsLoseNoCall(t *testing.T) {
	server := &mcptest.Server{CallDelay: 3 * time.Millisecond}
	p := serve(t, "--config", behind(t, upstream(t, server)))
	c := newCrowd(t, p, 64)
	c.goesOn(t)

	for _, which := range []string{"one", "--all"} {
		if got := p.operate(t, "pause", which); got != "one: paused\n" {
			t.Errorf("got %q", got)
		}
		answered := c.answered.Load()
		if n := server.InFlight(); n != 0 {
			t.Errorf("paused, and %d calls are at the server", n)
		}
		for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) { // as they come
			waits := p.list(t, "waits")
			if len(waits) == 1 && waits[0]["waiting"] == 64.0 && waits[0]["principal"] == "local" {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("of 64 clients there wait %v", waits)
			}
		}
		if now := c.answered.Load(); now > answered+64 { // those that were answered already
			t.Errorf("%d calls were answered meanwhile", now-answered)
		}
		if got := p.operate(t, "show", "pools"); !regexp.MustCompile(`(?m)^one +paused `).MatchString(got) {
			t.Errorf("got %s", got)
		}
		if got := p.operate(t, "resume", which); got != "one: resumed\n" {
			t.Errorf("got %q", got)
		}
		c.goesOn(t)
	}
	for range 3 {
		before := p.ids(t)
		got := p.operate(t, "drain", "one")
		after := p.ids(t)
		m := regexp.MustCompile(`^one: drained \((\d+) connections? closed\)\n$`).FindStringSubmatch(got)
		if m == nil {
			t.Fatalf("got %q", got)
		}
		if n, _ := strconv.Atoi(m[1]); n < len(before) { // more may have been opened between
			t.Errorf("%d connections were closed of %d", n, len(before))
		}
		for id := range before {
			if after[id] {
				t.Errorf("%s is open after drain", id)
			}
		}
		c.goesOn(t)

		before = p.ids(t)
		if got := p.operate(t, "reset", "--all"); !regexp.MustCompile(`^one: reset \(\d+ connections? to be replaced\)\n$`).MatchString(got) {
			t.Errorf("got %q", got)
		}
		for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
			left := 0
			for id := range p.ids(t) {
				if before[id] {
					left++
				}
			}
			if left == 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d connections are still open after reset", left)
			}
		}
		c.goesOn(t)
	}
	if n := c.killed.Load(); n != 0 {
		t.Errorf("%d calls were killed before kill", n)
	}

	// With the calls that are in flight when it is read, at least one connection
	// has some, and these are all that may fail.
	cut := 0
	for _, conn := range p.list(t, "connections") {
		got := p.operate(t, "kill", fmt.Sprint(conn["id"]))
		m := regexp.MustCompile(`^one-\d+: killed \((\d+) calls? in flight\)\n$`).FindStringSubmatch(got)
		if m == nil {
			t.Fatalf("got %q", got)
		}
		n, _ := strconv.Atoi(m[1])
		cut += n
		c.goesOn(t)
	}
	c.end()
	if n := int(c.killed.Load()); n > cut || cut > 0 && n == 0 {
		t.Errorf("%d calls failed by kill, which says that it has cut off %d", n, cut)
	}
	if cut == 0 {
		t.Error("nothing was in flight on any connection that was killed")
	}
	for id, times := range server.Executions() {
		if times != 1 {
			t.Errorf("call %s ran %d times", id, times)
		}
	}
	t.Logf("%d calls answered, %d failed by kill of %d in flight", c.answered.Load(), c.killed.Load(), cut)
}

// TestShowAgainstAGateway holds that each table can be made of what a gateway
// says, and has what is there.
func TestShowAgainstAGateway(t *testing.T) {
	gate, server := newGate(t), &mcptest.Server{}
	server.Fault = gate.fault
	p := serve(t, "--config", behind(t, upstream(t, server)), "--max-connections", "1", "--calls-per-connection", "1")
	h := web(t)
	var all sync.WaitGroup
	defer all.Wait()
	defer gate.open()
	for range 2 {
		c := connect(t, h, p.url+"/mcp/one")
		all.Go(func() { c.call(t.Context(), "echo", "x") })
	}
	gate.await(t)
	for deadline := time.Now().Add(patience); len(p.list(t, "waits")) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody waits")
		}
	}
	for what, has := range map[string]string{
		"pools":       `(?m)^one +ok +1 +1 +0 +\d +1 +1 +\S+ +2 +0 +0\.00%`, // the second call waits
		"connections": `(?m)^one-1 +ready +legacy +2025-11-25 +\S+ +now +1 +1 +\d+ +0 +\S+ +[0-9a-f]{16}$`,
		"clients":     `(?m)^[0-9a-f]{16} +- +test +1 +legacy +http +one +\S+ +1\n[0-9a-f]{16} +- +test +1 +legacy +http +one +\S+ +1$`,
		"servers":     `(?m)^one +up +http +http://127\.0\.0\.1:\d+ +legacy +2025-11-25 +principal +-$`,
		"stats":       `(?m)^calls_in_flight +1$`,
		"config":      `(?m)^one +max_connections +1 +flag max_connections$`,
		"waits":       `(?m)^one +local +1 +\S+$`,
	} {
		if got := p.operate(t, "show", what); !regexp.MustCompile(has).MatchString(got) {
			t.Errorf("%s: got\n%s", what, got)
		}
		if got := p.operate(t, "show", what, "--json"); !json.Valid([]byte(got)) || !strings.Contains(got, "\n  ") {
			t.Errorf("%s: got\n%s", what, got)
		}
	}
}

func TestShowWatches(t *testing.T) {
	p := serve(t)
	for _, more := range [][]string{nil, {"--json"}} {
		w := start(t, append([]string{"show", "pools", "--watch", "--url", p.url}, more...)...)
		w.await(t, &w.out, `(?s)sales.*sales`)
		w.stop()
		w.end(t)
	}
}

// TestWhatTakesLongSaysHowItStands: a drain waits for a call, and says so.
func TestWhatTakesLongSaysHowItStands(t *testing.T) {
	gate, server := newGate(t), &mcptest.Server{}
	server.Fault = gate.fault
	p := serve(t, "--config", behind(t, upstream(t, server)))
	c := connect(t, web(t), p.url+"/mcp")
	answered := make(chan error, 1)
	go func() {
		_, err := c.call(t.Context(), "echo", "x")
		answered <- err
	}()
	gate.await(t)

	status, _, err := finish(t, "pause", "one", "--timeout", "10ms", "--url", p.url)
	if status != 1 || !strings.Contains(err, "mcpool: error: pausing pool one: calls are still in flight: waited for 10ms\n") ||
		!strings.Contains(err, "hint: it stays paused: ") {
		t.Errorf("status %d: %s", status, err)
	}
	p.operate(t, "resume", "one")
	d := start(t, "drain", "one", "--url", p.url)
	d.await(t, &d.err, `mcpool: draining: 1 call in flight\n`)
	gate.open()
	d.await(t, &d.out, `one: drained \(1 connection closed\)\n`)
	d.end(t)
	if err := <-answered; err != nil {
		t.Errorf("the call: %v", err)
	}
}

func TestAnAdminTokenIsWanted(t *testing.T) {
	const secret = "a-token-of-some-length"
	token := configure(t, "token", "%s\n", secret)
	wrong := configure(t, "wrong", "another-token-of-some-length")
	p := serve(t, "--admin-token-file", token, "--allowed-hosts", "mcp.example")
	for file, want := range map[string]string{token: "", wrong: "this is not the gateway's admin token"} {
		status, _, err := finish(t, "show", "pools", "--url", p.url, "--token-file", file)
		if (status == 0) != (want == "") || !strings.Contains(err, want) {
			t.Errorf("%s: status %d, %s", file, status, err)
		}
	}
	t.Setenv(tokenFileVariable, wrong)
	if status, _, err := finish(t, "show", "pools", "--url", p.url); status != 1 || !strings.Contains(err, "hint: see admin.token_file") {
		t.Errorf("with the variable: status %d, %s", status, err)
	}
}

// TestWhatIsShownIsInForce shows what settings come to where nothing is said, and a
// server that cannot be connected to as one, wherever it is shown.
func TestWhatIsShownIsInForce(t *testing.T) {
	t.Setenv("OTEL_TRACES_SAMPLER", "")
	addr := freeAddr(t)
	p := serve(t, "--config", configure(t, "mcp.json", `{"mcpServers": {
		"web": {"url": %q, "pool": {"connection_timeout": 1}}, "stdio": {"command": "none"},
		"said": {"url": %[1]q, "pool": {"sharing": "shared", "calls_per_connection": 3, "max_connections": 100}}}}`, "http://"+addr+"/mcp"))
	config := p.operate(t, "show", "config")
	for _, want := range []string{
		"web max_connections_total 64 default", "web calls_per_connection 8 default", "web sharing principal default",
		"stdio calls_per_connection 1 default", "stdio sharing session default",
		"said max_connections_total 100 default", "said calls_per_connection 3", "said sharing shared", `- telemetry_sample_ratio 1 default`,
	} {
		if !regexp.MustCompile(`(?m)^` + strings.ReplaceAll(want, " ", " +") + `\b`).MatchString(config) {
			t.Errorf("%q is not shown:\n%s", want, config)
		}
	}
	if _, err := connect(t, web(t), p.url+"/mcp/web").call(t.Context(), "echo", "x"); err == nil {
		t.Fatal("a server that is not there answers")
	}
	for _, what := range []string{"pools", "servers"} { // it is away where all this takes 10 s
		if got := p.operate(t, "show", what); !regexp.MustCompile(`(?m)^web +(failing|away) `).MatchString(got) {
			t.Errorf("show %s: got\n%s", what, got)
		}
	}
	for _, pool := range p.list(t, "pools") {
		if got := topPoolState(topPool{Breaker: fmt.Sprint(pool["breaker"]), Health: fmt.Sprint(pool["health"])}); pool["server"] == "web" && got == "ok" {
			t.Errorf("top shows it as %q", got)
		}
	}
}

// TestAPauseThatEndsEarlySaysHowItStands has one resumed by another operator, and one
// interrupted.
func TestAPauseThatEndsEarlySaysHowItStands(t *testing.T) {
	gate, server := newGate(t), &mcptest.Server{}
	server.Fault = gate.fault
	p := serve(t, "--config", behind(t, upstream(t, server)))
	c := connect(t, web(t), p.url+"/mcp")
	answered := make(chan error, 1)
	go func() {
		_, err := c.call(t.Context(), "echo", "x")
		answered <- err
	}()
	gate.await(t)

	resumed := start(t, "pause", "one", "--url", p.url)
	resumed.want = 1
	resumed.await(t, &resumed.err, `mcpool: pausing: 1 call in flight\n`)
	p.operate(t, "resume", "one")
	resumed.end(t)
	if got := resumed.err.String(); !strings.Contains(got, "pausing pool one: resumed meanwhile\n") || !strings.Contains(got, "hint: somebody has resumed it: ") {
		t.Errorf("it says %s", got)
	}

	interrupted := start(t, "pause", "--all", "--url", p.url)
	interrupted.want = 1
	interrupted.await(t, &interrupted.err, `mcpool: pausing: 1 call in flight\n`)
	interrupted.stop()
	interrupted.end(t)
	if got := interrupted.err.String(); !strings.Contains(got, "hint: what is paused stays so: ") || !strings.Contains(got, " resume --all ends that\n") {
		t.Errorf("it says %s", got)
	}
	if !p.pool(t, "one").Stats.Paused {
		t.Error("it is not paused")
	}
	p.operate(t, "resume", "--all")
	gate.open()
	if err := <-answered; err != nil {
		t.Errorf("the call: %v", err)
	}
}

// TestAGatewayThatHangsIsNotWaitedFor has one that accepts and never answers.
func TestAGatewayThatHangsIsNotWaitedFor(t *testing.T) {
	listener, err := net.Listen("tcp", somewhere)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var all sync.WaitGroup
	defer all.Wait()
	for _, command := range [][]string{{"show", "pools"}, {"pause", "one", "--timeout", "1ms"}} {
		all.Go(func() {
			status, _, err := finish(t, append(command, "--url", "http://"+listener.Addr().String())...)
			if status != 1 || !strings.Contains(err, "mcpool: error: no answer of the gateway at ") || !strings.Contains(err, "hint: it may hang") {
				t.Errorf("%v: status %d: %s", command, status, err)
			}
		})
	}
}

// TestWhatComesFromElsewhereSteersNoTerminal holds that names of servers cannot
// turn a line around, hide in it or break it.
func TestWhatComesFromElsewhereSteersNoTerminal(t *testing.T) {
	for text, want := range map[string]string{
		"a\x1b[31m\u009bb\r\n": "a [31m b  ", "lmth.\u202egpj": "lmth. gpj", "a\u2066b\u200bc\u2028d": "a b c d",
		"größe 測試 \U0001f469\u200d\U0001f680": "größe 測試 \U0001f469\u200d\U0001f680",
	} {
		if got := printable(text); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
	server := upstream(t, &mcptest.Server{Name: "evil\u202e\x1b[2J"})
	_, out, _ := finish(t, "doctor", "--config", behind(t, server))
	if !strings.Contains(out, "evil") || strings.ContainsAny(out, "\u202e\x1b") {
		t.Errorf("doctor prints %q", out)
	}
}
