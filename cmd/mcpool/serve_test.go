package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

// greeting takes apart what serve prints.
func greeting(t testing.TB, p *program) map[string]string {
	t.Helper()
	lines := map[string]string{}
	for scan := bufio.NewScanner(strings.NewReader(p.out.String())); scan.Scan(); {
		name, value, ok := strings.Cut(strings.TrimSpace(scan.Text()), " ")
		if !ok {
			t.Errorf("greeted with %q", scan.Text())
		}
		lines[name] = strings.TrimSpace(value)
	}
	return lines
}

// words takes a command line apart, as far as ours go: quotes hold words
// together.
func words(line string) []string {
	var all []string
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			all = append(all, part)
		} else {
			all = append(all, strings.Fields(part)...)
		}
	}
	return all
}

func TestServeSaysWhereItIsAndWhatToTry(t *testing.T) {
	for name, test := range map[string]struct {
		args            []string
		servers, prints string
	}{
		"no configuration": {
			nil,
			"sales (the sample database, opened by the first call)", "\n50000\n",
		},
		"one server": {
			[]string{"--config", behind(t, upstream(t, &mcptest.Server{}))},
			"one (HTTP)", "echo ",
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := serve(t, test.args...)
			says := greeting(t, p)
			for line, want := range map[string]string{
				"mcpool": version(), "MCP": p.url + "/mcp", "status": p.url + "/status", "servers": test.servers,
			} {
				if says[line] != want {
					t.Errorf("%s is %q, want %q", line, says[line], want)
				}
			}
			if status, body := get(t, says["status"]); status != http.StatusOK || !strings.Contains(body, `"pools"`) {
				t.Errorf("%s: %d %s", says["status"], status, body)
			}
			try, ok := strings.CutPrefix(says["try"], self()+" ")
			if !ok {
				t.Errorf("%q does not call %s", says["try"], self())
			}
			status, out, err := finish(t, words(try)...)
			if status != 0 || !strings.Contains(out, test.prints) || err != "" {
				t.Errorf("%s: status %d, %q, %q", try, status, out, err)
			}
		})
	}
}

func TestNothingIsOpenedBeforeTheFirstClient(t *testing.T) {
	server := &mcptest.Server{}
	w := newWitness(t)
	p := serve(t, "--config", configure(t, "mcp.json", `{
		"mcpServers": {"web": {"url": %q}, "child": %s}, "databases": {"sales": {"dsn": "sample"}}, "database_server": {"name": "sales"}}`,
		upstream(t, server), w.child(mcptest.Normal)))
	opened := func() string {
		return fmt.Sprint(p.pool(t, "web").Stats.Opened, p.pool(t, "child").Stats.Opened, p.pool(t, "sales").Stats.Opened)
	}
	if got := opened(); got != "0 0 0" || server.Sessions() != 0 || w.started() != 0 {
		t.Errorf("opened %s, %d sessions, %d processes before the first client", got, server.Sessions(), w.started())
	}
	if status, _, err := finish(t, "call", "echo", "--server", "web", "--url", p.url); status != 0 {
		t.Fatal(err)
	}
	if got := opened(); got != "1 0 0" || server.Sessions() != 1 || w.started() != 0 {
		t.Errorf("opened %s, %d sessions, %d processes by a client of one server", got, server.Sessions(), w.started())
	}
	// A client is told what the servers can do, so they are asked that: once.
	connect(t, web(t), p.url+"/mcp")
	connect(t, web(t), p.url+"/mcp")
	if got := opened(); got != "1 1 1" || server.Sessions() != 1 || w.started() != 1 {
		t.Errorf("opened %s, %d sessions, %d processes by two clients of all", got, server.Sessions(), w.started())
	}
}

func TestWithoutLazyInitializationConnectionsAreOpenedAtOnce(t *testing.T) {
	w := newWitness(t)
	serve(t, "--lazy-initialization=false", "--min-connections=2", "--sharing=principal",
		"--config", configure(t, "mcp.json", `{"mcpServers": {"child": %s}}`, w.child(mcptest.Normal)))
	w.awaitStart(t)
	w.awaitStart(t)
}

func TestASignalStopsServeOnceCallsInFlightAreAnswered(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(signal.String(), func(t *testing.T) {
			gate, server := newGate(t), &mcptest.Server{}
			server.Fault = gate.fault
			p := serveChild(t, "--config", behind(t, upstream(t, server)))
			if status, body := get(t, p.url+"/readyz"); status != http.StatusOK || body != "ready\n" {
				t.Errorf("before: %d %s", status, body)
			}
			c := connect(t, web(t), p.url+"/mcp")
			answered := make(chan error, 1)
			go func() {
				_, err := c.call(t.Context(), "echo", "in flight")
				answered <- err
			}()
			gate.await(t)

			if err := p.process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			p.await(t, &p.err, "msg=stopping")
			p.unready(t)
			if status, body := get(t, p.url+"/healthz"); status != http.StatusOK {
				t.Errorf("it is alive and says %d %s", status, body)
			}
			if _, err := c.call(t.Context(), "echo", "late"); err == nil || !strings.Contains(err.Error(), "status 503") {
				t.Errorf("a call that came late: %v", err)
			}
			select {
			case err := <-answered:
				t.Fatalf("the call in flight ended early: %v", err)
			case <-p.ended:
				t.Fatal("it ended before the call in flight did")
			default:
			}

			gate.open()
			if err := <-answered; err != nil {
				t.Errorf("the call in flight: %v", err)
			}
			p.end(t)
			if ran := server.Executions(); ran["in flight"] != 1 || ran["late"] != 0 {
				t.Errorf("ran %v", ran)
			}
			if server.Open() != 0 {
				t.Errorf("%d sessions of the server stay open", server.Open())
			}
		})
	}
}

// unready waits until the program sends new clients elsewhere.
func (p *program) unready(t testing.TB) {
	t.Helper()
	deadline, tick := time.After(patience), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for {
		status, body := get(t, p.url+"/readyz")
		if status == http.StatusServiceUnavailable && body == "draining\n" {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("/readyz says %d %s", status, body)
		}
	}
}

func TestASignalStopsServeThoughClientsKeepTheirConnections(t *testing.T) {
	p := serveChild(t)
	c := connect(t, web(t), p.url+"/mcp")
	if _, err := c.request(t.Context(), "tools/list", nil); err != nil {
		t.Fatal(err)
	}
	p.stop() // the connection of c is open, and idle
	p.end(t)
}

func TestDrainTimeoutCutsCallsOff(t *testing.T) {
	gate, server := newGate(t), &mcptest.Server{}
	server.Fault = gate.fault
	p := serve(t, "--drain-timeout", "50ms", "--config", behind(t, upstream(t, server)))
	c := connect(t, web(t), p.url+"/mcp")
	answered := make(chan error, 1)
	go func() {
		_, err := c.call(t.Context(), "echo", "cut off")
		answered <- err
	}()
	gate.await(t)
	p.want = 1
	p.stop()
	p.end(t)
	if err := <-answered; err == nil || !strings.Contains(err.Error(), "may have run") {
		t.Errorf("the client was told %v", err)
	}
	_, says, _ := strings.Cut(p.err.String(), "msg=stopped\n")
	if says != "mcpool: error: gateway: closed with 1 calls in flight: --drain-timeout of 50ms is over\n" {
		t.Errorf("it says %s", &p.err)
	}
}

func TestASecondSignalEndsServeAtOnce(t *testing.T) {
	for _, second := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(second.String(), func(t *testing.T) {
			gate, server := newGate(t), &mcptest.Server{}
			server.Fault = gate.fault
			p := serveChild(t, "--drain-timeout", "1h", "--config", behind(t, upstream(t, server)))
			c := connect(t, web(t), p.url+"/mcp")
			go func() { _, _ = c.call(t.Context(), "echo", "never answered") }()
			gate.await(t)
			p.stop()
			p.await(t, &p.err, "msg=stopping")
			p.want = 1
			if err := p.process.Signal(second); err != nil {
				t.Fatal(err)
			}
			p.end(t)
			if says := p.err.String(); !strings.Contains(says, "mcpool: error: gateway: closed with 1 calls in flight: "+second.String()) {
				t.Errorf("it says %s", says)
			}
		})
	}
}

func TestServeSaysThatItsPortIsTaken(t *testing.T) {
	listener, err := net.Listen("tcp", somewhere)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	addr := listener.Addr().String()
	status, out, stderr := finish(t, "serve", "--listen", addr)
	if status != 1 || out != "" || !strings.HasPrefix(stderr, "mcpool: error: listen tcp "+addr) ||
		!strings.Contains(stderr, "\nhint: is mcpool running already? --listen chooses another address") {
		t.Errorf("status %d, %q, %q", status, out, stderr)
	}
}

func TestCheckOpensNothing(t *testing.T) {
	server, w := &mcptest.Server{}, newWitness(t)
	listener, err := net.Listen("tcp", somewhere)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	good := configure(t, "mcp.json", `{
		"mcpServers": {"web": {"url": %q}, "child": %s}, "databases": {"sales": {"dsn": "no-such-file.db"}}, "database_server": {"name": "sales"}}`,
		upstream(t, server), w.child(mcptest.Normal))
	for _, lazy := range []string{"true", "false"} {
		status, out, stderr := finish(t, "serve", "--check", "--config", good, "--listen", listener.Addr().String(), "--lazy-initialization", lazy)
		if want := "configuration is good: web (HTTP), child (stdio), sales (database)\n"; status != 0 || out != want || stderr != "" {
			t.Errorf("lazy %s: status %d, %q, %q", lazy, status, out, stderr)
		}
		if server.Sessions() != 0 || server.Requests("initialize")+server.Requests("server/discover") != 0 || w.started() != 0 {
			t.Errorf("lazy %s: %d sessions, %d processes", lazy, server.Sessions(), w.started())
		}
	}
	if _, err := os.Stat("no-such-file.db"); err == nil {
		t.Error("there is a database now")
	}
}

func TestCheckFindsWhatServeWouldRefuse(t *testing.T) {
	for name, test := range map[string]struct{ config, want string }{
		"a key":            {`{"mcpServers": {"a": {"uri": "http://a"}}}`, "mcpServers.a.uri: unknown key"},
		"a database":       {`{"databases": {"a": {"dsn": "oracle://a"}}}`, `scheme "oracle" is not supported`},
		"names that clash": {`{"mcpServers": {"a": {"url": "http://a"}, "a__b": {"url": "http://b"}}}`, `server "a__b": its tool names could be those of server "a"`},
	} {
		t.Run(name, func(t *testing.T) {
			file := configure(t, "mcp.json", "%s", test.config)
			for _, args := range [][]string{{"serve", "--check"}, {"serve", "--listen", somewhere}} {
				status, out, stderr := finish(t, append(args, "--config", file)...)
				if status != 1 || out != "" || !strings.HasPrefix(stderr, "mcpool: error: ") || !strings.Contains(stderr, test.want) {
					t.Errorf("%q: status %d, %q, %q", args, status, out, stderr)
				}
			}
		})
	}
}
