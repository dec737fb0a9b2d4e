package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

// A desktop is a client that has started mcpool serve --stdio.
type desktop struct {
	*program
	next int
}

func startDesktop(t testing.TB, addr string, args ...string) *desktop {
	t.Helper()
	return &desktop{program: startChild(t, append([]string{"serve", "--stdio", "--listen", addr}, args...)...)}
}

// write sends a frame.
func (d *desktop) write(t testing.TB, frame string) {
	t.Helper()
	if _, err := io.WriteString(d.in, frame+"\n"); err != nil {
		t.Fatal(err)
	}
}

// send sends a request.
func (d *desktop) send(t testing.TB, method, params string) (id string) {
	t.Helper()
	d.next++
	d.write(t, fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":%q,"params":%s}`, d.next, method, params))
	return fmt.Sprint(d.next)
}

// answer waits for the answer to a request.
func (d *desktop) answer(t testing.TB, id string) jsonrpc.Message {
	t.Helper()
	line := d.await(t, &d.out, `(?m)^(\{"jsonrpc":"2.0","id":`+id+`,.*\})\n`)
	msg, err := jsonrpc.Parse([]byte(line))
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return msg
}

// begin has the client agree on a version.
func (d *desktop) begin(t testing.TB) {
	t.Helper()
	d.write(t, strings.Replace(initializeBody, `"id":1`, `"id":"begin"`, 1))
	d.answer(t, `"begin"`)
	d.write(t, `{"jsonrpc":"2.0","method":"notifications/initialized"}`)
}

// call calls a tool of mcptest and returns the answer.
func (d *desktop) call(t testing.TB, tool, id string) jsonrpc.Message {
	t.Helper()
	return d.answer(t, d.send(t, "tools/call", callParams(tool, id)))
}

func callParams(tool, id string) string {
	return fmt.Sprintf(`{"name":%q,"arguments":{"id":%q,"text":"the text of %[2]s"}}`, tool, id)
}

// callWell calls a tool, and is content with nothing but its result.
func (d *desktop) callWell(t testing.TB, tool, id string) {
	t.Helper()
	if msg := d.call(t, tool, id); jsonrpc.GetString(msg.Result, "structuredContent", "id") != id {
		t.Errorf("call %s was answered with %s%s", id, msg.Result, msg.Error)
	}
}

// onlyFrames checks that what a program has written to its client is frames,
// with each answer once and none that was not asked for.
func (d *desktop) onlyFrames(t testing.TB) {
	t.Helper()
	seen := map[string]bool{}
	for line := range strings.Lines(d.out.String()) {
		msg, err := jsonrpc.Parse([]byte(line))
		if err != nil || !strings.HasSuffix(line, "\n") {
			t.Errorf("it wrote %q", line)
			continue
		}
		if msg.IsResponse() {
			if id := string(msg.ID); seen[id] || id != `"begin"` && !json.Valid(msg.ID) || strings.Contains(id, "mcpool") {
				t.Errorf("it wrote %q", line)
			}
			seen[string(msg.ID)] = true
		}
	}
}

// sharedChild writes a configuration of one child process that everybody
// shares.
func sharedChild(t testing.TB, w *witness) string {
	return configure(t, "mcp.json", `{"mcpServers": {"one": %s}, "pool": {"sharing": "shared", "max_connections": 1}}`, w.child(mcptest.Normal))
}

// TestDesktopClientsShareOnePool has three clients, each of which starts the
// command. The first is the gateway; it ends, or is killed, in the midst of
// what the others do, which do not notice.
func TestDesktopClientsShareOnePool(t *testing.T) {
	for name, leave := range map[string]func(t *testing.T, d *desktop){
		"the first client quits": func(t *testing.T, d *desktop) {
			d.in.Close()
			d.end(t)
		},
		"it is told to end": func(t *testing.T, d *desktop) {
			d.stop()
			d.end(t)
		},
		"it is killed": func(t *testing.T, d *desktop) {
			d.want = -1
			_ = d.process.Kill()
			d.end(t)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, addr := newWitness(t), freeAddr(t)
			file := sharedChild(t, w)
			all := make([]*desktop, 3)
			for i := range all {
				all[i] = startDesktop(t, addr, "--config", file)
				all[i].begin(t)
				all[i].callWell(t, "echo", fmt.Sprint("first of ", i))
			}
			all[0].await(t, &all[0].err, "msg=serving")
			for _, d := range all[1:] {
				d.await(t, &d.err, "msg=\"joined the gateway\"")
			}
			if n := w.started(); n != 1 {
				t.Errorf("%d processes of the server for three clients", n)
			}

			leave(t, all[0])
			for i, d := range all[1:] {
				if all[0].want != 0 {
					// What is sent to one that has just been killed may have run.
					d.await(t, &d.err, `(?s)joined the gateway.*(msg=serving|joined the gateway)`)
				}
				d.callWell(t, "echo", fmt.Sprint("second of ", i))
			}
			if n := w.started(); n != 2 {
				t.Errorf("%d processes of the server for two gateways", n)
			}
			serving := 0
			for _, d := range all[1:] {
				serving += strings.Count(d.err.String(), "msg=serving")
				if strings.Contains(d.err.String(), "another configuration") {
					t.Errorf("it says %s", &d.err)
				}
			}
			if serving != 1 {
				t.Errorf("%d of those that stay are the gateway", serving)
			}
			for _, d := range all[1:] {
				d.in.Close()
				d.end(t)
				d.onlyFrames(t)
			}
			all[0].onlyFrames(t)
		})
	}
}

// TestDesktopClientsThatBeginAtOnceShareOnePool: of those that find nobody one
// is the gateway.
func TestDesktopClientsThatBeginAtOnceShareOnePool(t *testing.T) {
	w, addr := newWitness(t), freeAddr(t)
	file := sharedChild(t, w)
	all := make([]*desktop, 6)
	for i := range all {
		all[i] = startDesktop(t, addr, "--config", file)
	}
	for i, d := range all {
		d.begin(t)
		d.callWell(t, "echo", fmt.Sprint(i))
	}
	if n := w.started(); n != 1 {
		t.Errorf("%d processes of the server", n)
	}
	for _, d := range all { // the gateway is one of them: the others take its place
		d.in.Close()
		d.end(t)
		d.onlyFrames(t)
	}
}

// TestCallsInFlightWhenTheGatewayGoes: those that it has begun are answered if
// it ends in good order, and said to have run perhaps if it does not; those
// that come after are made at the next.
func TestCallsInFlightWhenTheGatewayGoes(t *testing.T) {
	for _, killed := range []bool{false, true} {
		t.Run(fmt.Sprint("killed ", killed), func(t *testing.T) {
			gate, server := newGate(t), &mcptest.Server{}
			server.Fault = gate.fault
			addr := freeAddr(t)
			file := behind(t, upstream(t, server))
			first := startDesktop(t, addr, "--config", file)
			first.begin(t)
			second := startDesktop(t, addr, "--config", file)
			second.begin(t)
			inFlight := second.send(t, "tools/call", callParams("put", "in flight"))
			gate.await(t)
			if killed {
				first.want = -1
				_ = first.process.Kill()
				first.end(t)
			} else {
				first.in.Close()
				first.await(t, &first.err, "msg=stopping")
			}
			var later, list string
			goOn := func() {
				later = second.send(t, "tools/call", callParams("put", "later"))
				list = second.send(t, "tools/list", "{}")
			}
			if killed {
				msg := second.answer(t, inFlight)
				goOn() // now that it knows
				if code, _ := jsonrpc.Get(msg.Error, "code"); string(code) != "-32603" || !strings.Contains(string(msg.Error), "the call may have run") {
					t.Errorf("the call in flight was answered with %s%s", msg.Result, msg.Error)
				}
				gate.open()
			} else {
				goOn()
				gate.open()
				if msg := second.answer(t, inFlight); jsonrpc.GetString(msg.Result, "structuredContent", "id") != "in flight" {
					t.Errorf("the call in flight was answered with %s%s", msg.Result, msg.Error)
				}
				first.end(t)
			}
			if msg := second.answer(t, later); jsonrpc.GetString(msg.Result, "structuredContent", "id") != "later" {
				t.Errorf("the later call was answered with %s%s", msg.Result, msg.Error)
			}
			if msg := second.answer(t, list); msg.Error != nil {
				t.Errorf("the list was answered with %s", msg.Error)
			}
			if ran := server.Executions(); ran["later"] != 1 || ran["in flight"] > 1 || !killed && ran["in flight"] != 1 {
				t.Errorf("ran %v", ran)
			}
			second.in.Close()
			second.end(t)
			second.onlyFrames(t)
		})
	}
}

// TestDesktopClientsOutliveARestartOfTheGateway: one that is started again by
// others has its place kept.
func TestDesktopClientsOutliveARestartOfTheGateway(t *testing.T) {
	gate, server := newGate(t), &mcptest.Server{}
	server.Fault = gate.fault
	file, addr := behind(t, upstream(t, server)), freeAddr(t)
	gateway := startChild(t, "serve", "--listen", addr, "--config", file).greeted(t)
	d := startDesktop(t, addr, "--config", file)
	d.begin(t)
	inFlight := d.send(t, "tools/call", callParams("put", "in flight"))
	gate.await(t)
	gateway.stop()
	gateway.unready(t)
	late := d.send(t, "tools/call", callParams("put", "late"))
	gate.open()
	for id, want := range map[string]string{inFlight: "in flight", late: "late"} {
		if want == "late" {
			gateway.end(t)
			startChild(t, "serve", "--listen", addr, "--config", file).greeted(t)
		}
		if msg := d.answer(t, id); jsonrpc.GetString(msg.Result, "structuredContent", "id") != want {
			t.Errorf("%s was answered with %s%s", want, msg.Result, msg.Error)
		}
	}
	if strings.Contains(d.err.String(), "msg=serving") {
		t.Errorf("the place of the gateway was taken: %s", &d.err)
	}
	if ran := server.Executions(); ran["in flight"] != 1 || ran["late"] != 1 {
		t.Errorf("ran %v", ran)
	}
	d.in.Close()
	d.end(t)
	d.onlyFrames(t)
}

func TestStdioEndsWithItsInputAndOnSignals(t *testing.T) {
	addr := freeAddr(t)
	for _, as := range []string{"gateway", "member"} {
		if as == "member" {
			startChild(t, "serve", "--listen", addr).greeted(t)
		}
		for name, end := range map[string]func(*program) error{
			"the end of its input": func(p *program) error { return p.in.Close() },
			"SIGTERM":              func(p *program) error { return p.process.Signal(syscall.SIGTERM) },
			"SIGINT":               func(p *program) error { return p.process.Signal(syscall.SIGINT) },
		} {
			t.Run(as+", "+name, func(t *testing.T) {
				d := startDesktop(t, addr)
				d.begin(t)
				if err := end(d.program); err != nil {
					t.Fatal(err)
				}
				d.program.end(t)
				d.onlyFrames(t)
				if strings.Contains(d.err.String(), "error") {
					t.Errorf("it says %s", &d.err)
				}
			})
		}
	}
}

func TestAllIsAnsweredBeforeStdioEnds(t *testing.T) {
	gate, server := newGate(t), &mcptest.Server{}
	server.Fault = gate.fault
	d := startDesktop(t, freeAddr(t), "--config", behind(t, upstream(t, server)))
	d.begin(t)
	const calls = 20
	var ids []string
	for i := range calls {
		ids = append(ids, d.send(t, "tools/call", callParams("echo", fmt.Sprint(i))))
	}
	d.in.Close()
	gate.await(t)
	gate.open()
	d.end(t)
	for i, id := range ids {
		if msg := d.answer(t, id); jsonrpc.GetString(msg.Result, "structuredContent", "id") != fmt.Sprint(i) {
			t.Errorf("%d was answered with %s%s", i, msg.Result, msg.Error)
		}
	}
	d.onlyFrames(t)
}

func TestStdioSaysThatWhatListensCannotBeJoined(t *testing.T) {
	listener, err := net.Listen("tcp", somewhere)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "220 mail.example.com ESMTP\r\n")
			conn.Close()
		}
	}()
	for name, addr := range map[string]string{
		"another web server": strings.TrimSuffix(strings.TrimPrefix(upstream(t, http.NotFoundHandler()), "http://"), "/mcp"),
		"no web server":      listener.Addr().String(),
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr output
			in, closed := io.Pipe()
			defer closed.Close()
			status := run(t.Context(), []string{"serve", "--stdio", "--listen", addr}, stdio{in, &stdout, &stderr})
			if status != 1 || stdout.String() != "" || !strings.HasPrefix(stderr.String(), "mcpool: error: join "+addr+": what listens there is no gateway of mcpool") ||
				!strings.HasSuffix(stderr.String(), "\nhint: --listen chooses another address\n") {
				t.Errorf("status %d, %q, %q", status, &stdout, &stderr)
			}
		})
	}
}

func TestStdioSaysThatAnotherConfigurationApplies(t *testing.T) {
	file := behind(t, upstream(t, &mcptest.Server{}))
	addr := freeAddr(t)
	startChild(t, "serve", "--listen", addr, "--config", file).greeted(t)
	for name, test := range map[string]struct {
		args  []string
		other bool
	}{
		"the same":       {[]string{"--config", file}, false},
		"another file":   {[]string{"--config", sharedChild(t, newWitness(t))}, true},
		"none":           {nil, true},
		"other settings": {[]string{"--config", file, "--max-connections", "3"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			d := startDesktop(t, addr, test.args...)
			d.begin(t)
			d.callWell(t, "echo", name) // whatever it named: that of the gateway is served
			d.in.Close()
			d.end(t)
			if got := strings.Contains(d.err.String(), "another configuration"); got != test.other {
				t.Errorf("it says %s", &d.err)
			}
		})
	}
}

// TestTheOfficialGoClientStartsTheGateway has three of the official client, each
// of which starts the command itself, in both eras.
func TestTheOfficialGoClientStartsTheGateway(t *testing.T) {
	addr := freeAddr(t)
	var first *exec.Cmd
	var open sync.WaitGroup
	for i, version := range []string{versions[0], versions[0], versions[1]} {
		cmd := commandLine(t, "serve", "--stdio", "--listen", addr)
		if i == 0 {
			first = cmd
			session, err := mcp.NewClient(&mcp.Implementation{Name: "first", Version: "1"}, nil).
				Connect(t.Context(), &mcp.CommandTransport{Command: cmd}, &mcp.ClientSessionOptions{ProtocolVersion: version})
			if err != nil {
				t.Fatal(err)
			}
			defer session.Close()
			continue
		}
		open.Go(func() { sdkRows(t, &mcp.CommandTransport{Command: cmd}, version) })
	}
	open.Wait()
	if first.ProcessState != nil {
		t.Errorf("the gateway ended with %v", first.ProcessState)
	}
}
