package transport

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
	"github.com/mcpool-dev/mcpool/rpc"
)

func stdio(t testing.TB, mode string, args ...string) *Endpoint {
	t.Helper()
	return stdioWith(t, func(*Command) {}, mode, args...)
}

func stdioWith(t testing.TB, change func(*Command), mode string, args ...string) *Endpoint {
	t.Helper()
	var command Command
	command.Path, command.Args, command.Inherited = mcptest.Child(mode, args...)
	change(&command)
	endpoint, err := Stdio(command)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(endpoint.Close)
	return endpoint
}

// begin makes a call and returns when it is being written; the channel gets
// what becomes of it.
func begin(ctx context.Context, t testing.TB, conn Conn, tool string, arguments args) <-chan error {
	t.Helper()
	c := conn.(*stdioConn)
	if !c.enter() {
		t.Fatal("the connection is closed")
	}
	f, err := c.depart(ctx, c.peer.Era, mcptest.CallTool(tool, arguments), false)
	if err != nil {
		t.Fatal(err)
	}
	result := make(chan error, 1)
	go func() {
		defer c.leave()
		defer c.land(f)
		_, _, err := c.await(ctx, f, nil)
		result <- err
	}()
	return result
}

// groupSize returns how many processes, zombies aside, are in a process group.
func groupSize(t testing.TB, group int) int {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Skip("needs /proc")
	}
	n := 0
	for _, entry := range entries {
		stat, err := os.ReadFile("/proc/" + entry.Name() + "/stat")
		if err != nil {
			continue
		}
		// pid (comm) state ppid pgrp
		_, rest, _ := strings.Cut(string(stat), ") ")
		var state string
		var parent, of int
		if _, err := fmt.Sscan(rest, &state, &parent, &of); err == nil && of == group && state != "Z" {
			n++
		}
	}
	return n
}

func TestStdioOpen(t *testing.T) {
	for name, test := range map[string]struct {
		mode string
		args []string
		era  Era
		want Era
	}{
		"legacy, known":             {mcptest.Normal, nil, Legacy, Legacy},
		"legacy, unknown":           {mcptest.Normal, nil, Unknown, Legacy},
		"modern, known":             {mcptest.Modern, nil, Modern, Modern},
		"modern, unknown":           {mcptest.Modern, nil, Unknown, Modern},
		"slow":                      {mcptest.SlowStart, []string{"100ms"}, Unknown, Legacy},
		"ignores server/discover":   {mcptest.IgnoreDiscover, nil, Unknown, Legacy},
		"late for server/discover":  {mcptest.LateDiscover, nil, Unknown, Legacy},
		"exits on server/discover":  {mcptest.DieOnDiscover, nil, Unknown, Legacy},
		"ignores it, era was known": {mcptest.IgnoreDiscover, nil, Legacy, Legacy},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			endpoint := stdio(t, test.mode, test.args...)
			endpoint.opener.(*stdioEndpoint).silence = 50 * time.Millisecond
			conn := open(t, endpoint, test.era)
			peer := conn.Peer()
			if peer.Era != test.want || peer.Name != "mcptest-child" || !peer.Stdio || peer.Protocol == "" {
				t.Errorf("Peer() = %+v", peer)
			}
			mustEcho(t, conn, "hello")
			if err := conn.Check(t.Context()); err != nil {
				t.Errorf("Check: %v", err)
			}
		})
	}
}

// A child that is slow may be sent initialize as well: it has both requests
// before it begins to read. A modern one is modern all the same, and one that
// exits when anything but initialize comes first is started again.
func TestStdioOpenSlow(t *testing.T) {
	for mode, want := range map[string]Era{mcptest.Modern: Modern, mcptest.DieOnDiscover: Legacy} {
		t.Run(mode, func(t *testing.T) {
			endpoint := stdioWith(t, func(c *Command) {
				c.Args = []string{"-c", `sleep 0.3; exec "$0"`, c.Path}
				c.Path = "/bin/sh"
			}, mode)
			endpoint.opener.(*stdioEndpoint).silence = 20 * time.Millisecond
			conn := open(t, endpoint, Unknown)
			if conn.Peer().Era != want {
				t.Errorf("Peer() = %+v", conn.Peer())
			}
			mustEcho(t, conn, "hello")
		})
	}
}

func TestStdioOpenFails(t *testing.T) {
	dir := t.TempDir()
	noProgram := filepath.Join(dir, "text")
	if err := os.WriteFile(noProgram, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		change    func(*Command)
		mode      string
		era       Era
		permanent bool
		wrongEra  bool
		texts     []string
	}{
		"no such file":    {func(c *Command) { c.Path = filepath.Join(dir, "none") }, mcptest.Normal, Unknown, true, false, []string{"no such file"}},
		"not in the PATH": {func(c *Command) { c.Path = "no-such-command-here" }, mcptest.Normal, Unknown, true, false, []string{"not found"}},
		"no program":      {func(c *Command) { c.Path = noProgram }, mcptest.Normal, Unknown, true, false, []string{"permission denied"}},
		"no directory":    {func(c *Command) { c.Dir = filepath.Join(dir, "none") }, mcptest.Normal, Unknown, true, false, []string{"no such file"}},
		"exits": {func(*Command) {}, mcptest.Dead, Legacy, false, false,
			[]string{"has ended (exit status 3)", "last words:\ncannot go on, reason 2\n", "reason 5"}},
		"exits, era unknown":      {func(*Command) {}, mcptest.Dead, Unknown, false, false, []string{"exit status 3", "reason 5"}},
		"legacy, given as modern": {func(*Command) {}, mcptest.Normal, Modern, false, true, []string{"does not speak MCP 2026-07-28"}},
		"modern, given as legacy": {func(*Command) {}, mcptest.Modern, Legacy, false, true, []string{"Unsupported protocol version"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, err := stdioWith(t, test.change, test.mode).Open(t.Context(), knownAs(test.era), rpc.Capabilities{}, nil)
			wantOpenError(t, conn, err, test.permanent, test.wrongEra, test.texts...)
			if strings.Contains(err.Error(), "reason 1") {
				t.Errorf("%q has more than the last lines", err)
			}
		})
	}
}

func TestStdioOpenObeysItsContext(t *testing.T) {
	for _, era := range []Era{Unknown, Legacy, Modern} {
		endpoint := stdioWith(t, func(c *Command) { c.CloseGrace = 10 * time.Millisecond }, mcptest.Mute)
		endpoint.opener.(*stdioEndpoint).silence = 10 * time.Millisecond
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		before := time.Now()
		conn, err := endpoint.Open(ctx, knownAs(era), rpc.Capabilities{}, nil)
		wantOpenError(t, conn, err, false, false, "opening: ")
		if took := time.Since(before); !errors.Is(err, context.DeadlineExceeded) || took > soon {
			t.Errorf("%v: got %v after %v", era, err, took)
		}
	}
}

func TestStdioRefusesCommand(t *testing.T) {
	for _, command := range []Command{{}, {Path: "x", CloseGrace: -1}} {
		if endpoint, err := Stdio(command); err == nil || endpoint != nil {
			t.Errorf("%+v was accepted", command)
		}
	}
}

func TestStdioEnvIsExact(t *testing.T) {
	t.Setenv("OURS", "secret")
	file := filepath.Join(t.TempDir(), "env")
	endpoint := stdioWith(t, func(c *Command) {
		c.Args = []string{"-c", `env > "$0"; exec "$1"`, file, c.Path}
		c.Path = "/bin/sh"
		c.Inherited = slices.DeleteFunc(c.Inherited, func(s string) bool { return strings.HasPrefix(s, "OURS=") })
		c.Inherited = append(c.Inherited, "THEIRS=0")
		c.Env = []string{"THEIRS=1"} // of two the last counts
	}, mcptest.Normal)
	open(t, endpoint, Legacy)
	env, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(env), "THEIRS=1\n") || strings.Contains(string(env), "OURS=") {
		t.Errorf("the child has\n%s", env)
	}
}

func TestStdioCloseIsQuickWithAnObedientChild(t *testing.T) {
	conn := open(t, stdioWith(t, func(c *Command) { c.CloseGrace = time.Minute }, mcptest.Normal), Legacy)
	before := time.Now()
	conn.Close(context.Background())
	if took := time.Since(before); took > soon {
		t.Errorf("Close took %v", took)
	}
	select {
	case <-conn.Done():
		t.Error("Close closed Done")
	default:
	}
	conn.Close(context.Background())
	_, err := call(t.Context(), conn, "echo", args{})
	wantFailure(t, err, NotSent, true)
}

func TestStdioCloseHurriesWhenItsContextEnds(t *testing.T) {
	conn := open(t, stdioWith(t, func(c *Command) { c.CloseGrace = time.Minute }, mcptest.Stubborn), Legacy)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	before := time.Now()
	conn.Close(ctx)
	if took := time.Since(before); took > soon {
		t.Errorf("Close took %v", took)
	}
}

func TestStdioChildExitsInACall(t *testing.T) {
	conn := open(t, stdio(t, mcptest.DiesInCall), Legacy)
	_, err := call(t.Context(), conn, "echo", args{})
	fails(MayHaveRun, true, "exit status 4")(t, err)
	<-conn.Done()
	_, err = call(t.Context(), conn, "echo", args{})
	wantFailure(t, err, NotSent, true)
	wantFailure(t, conn.Check(t.Context()), NotSent, true)
}

// A frame has no newline but the one behind it.
func TestStdioParamsOnSeveralLines(t *testing.T) {
	conn := open(t, stdio(t, mcptest.Normal), Legacy)
	answer, err := conn.Call(t.Context(), rpc.Call{
		Method: "tools/call",
		Params: json.RawMessage("{\n\t\"name\": \"echo\",\r\n\t\"arguments\": {\"id\": \"a\", \"text\": \"x\\ny\"}\n}"),
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if text := jsonrpc.GetString(answer.Bytes(), "structuredContent", "text"); text != "x\ny" {
		t.Errorf("got %q", text)
	}
}

func TestStdioCancelIsToldToTheChild(t *testing.T) {
	for _, mode := range []string{mcptest.Normal, mcptest.Modern} {
		ledger := filepath.Join(t.TempDir(), "ledger")
		conn := open(t, stdioWith(t, func(c *Command) { c.Inherited = append(c.Inherited, mcptest.KeepLedger(ledger)) }, mode), Unknown)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := call(ctx, conn, "echo", args{})
		wantFailure(t, err, NotSent, false)

		// The child answers a call that is withdrawn; that answer is for nobody.
		ctx, cancel = context.WithCancel(t.Context())
		withdrawn := make(chan error, 1)
		go func() {
			_, err := call(ctx, conn, "sleep", args{"id": "a", "ms": 60000})
			withdrawn <- err
		}()
		for ran := map[string]int(nil); ran["a"] == 0; time.Sleep(time.Millisecond) {
			var err error
			if ran, err = mcptest.ReadLedger(ledger); err != nil {
				t.Fatal(err)
			}
		}
		cancel()
		wantFailure(t, <-withdrawn, MayHaveRun, false)
		mustEcho(t, conn, "next")
	}
}

// What a child writes that is a response and no proper one fails its call
// alone, and what is too long ends the connection.
func TestStdioBadAnswers(t *testing.T) {
	script := func(answers string) *Endpoint {
		return stdioWith(t, func(c *Command) {
			// Ids count from 1: initialize, then the calls.
			c.Args = []string{"-c", `read line
				echo '{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-11-25"}}'
				read line; read line; ` + answers + `; cat >/dev/null`}
			c.Path = "/bin/sh"
		}, mcptest.Normal)
	}
	conn := open(t, script(`echo '{"jsonrpc":"2.0","id":2,"result":{},"error":{}}'`), Legacy)
	_, err := call(t.Context(), conn, "echo", args{})
	fails(MayHaveRun, false, "no message")(t, err)

	conn = open(t, script(`echo '{"jsonrpc":"2.0","id":"2","result":{}}'; echo '{"jsonrpc":"2.0","id":null,"error":{}}'; echo '{"jsonrpc":"2.0","id":2.0,"result":{"ok":1}}'`), Legacy)
	result, err := call(t.Context(), conn, "echo", args{})
	if err != nil || string(result) != `{"ok":1}` {
		t.Errorf("got %s, %v", result, err)
	}

	conn = open(t, script(`exec <&-; kill -9 $$`), Legacy)
	_, err = call(t.Context(), conn, "echo", args{})
	wantFailure(t, err, MayHaveRun, true)
}

func TestReadLineBounds(t *testing.T) {
	long := func(n int) string { return strings.Repeat("0123456789", n/10) }
	for _, buffer := range []int{16, 100, 64 << 10} { // a line ends within what is read, or at its edge
		for _, n := range []int{90, 100, 110, 300, 10000, 20000} {
			in := bufio.NewReaderSize(strings.NewReader("short\r\n"+long(n)+"\nnext\nlast"), buffer)
			for _, want := range []struct {
				text string
				cut  bool
				err  error
			}{
				{"short", false, nil},
				{long(n)[:min(n, 100)], n > 99, nil}, // with its end
				{"next", false, nil},
				{"last", false, io.EOF},
				{"", false, io.EOF},
			} {
				line, err := readLine(in, 100)
				if string(line.text) != want.text || line.cut != want.cut || err != want.err {
					t.Fatalf("buffer %d, %d bytes: got %q, %v, %v, want %q, %v, %v", buffer, n, line.text, line.cut, err, want.text, want.cut, want.err)
				}
				if tail := strings.TrimSpace(string(line.tail)); line.cut && (!strings.HasSuffix(long(n), tail) || len(line.tail) != min(n+1, shownLength)) {
					t.Fatalf("buffer %d, %d bytes: the end is %d bytes, %q", buffer, n, len(line.tail), tail)
				}
			}
		}
	}
}

// Two answers may be there before the first of them is taken; neither is lost.
func TestAwaitTwoAnswersAtOnce(t *testing.T) {
	c := &stdioConn{life: newLife(nil), ended: make(chan struct{})}
	land := func(id int64) *flight {
		f := &flight{x: newExchange(id, Legacy, rpc.Call{}, nil, nil), arrived: make(chan struct{}, 1)}
		f.put(mail{message: jsonrpc.Message{ID: appendID(id), Result: json.RawMessage("{}")}})
		return f
	}
	for range 20 { // the two tokens are taken in either order
		a, b := land(1), land(2)
		if first, _, err := c.await(t.Context(), a, b); first != a || err != nil {
			t.Fatalf("got %v, %v", first, err)
		}
		if second, _, err := c.await(t.Context(), b, nil); second != b || err != nil {
			t.Fatalf("got %v, %v", second, err)
		}
	}
}

// A slow caller holds nobody up: notifications beyond a bound are dropped, the
// answer is not.
func TestFlightIsBounded(t *testing.T) {
	f := &flight{x: newExchange(1, Legacy, rpc.Call{}, new(stdioConn), nil), arrived: make(chan struct{}, 1)}
	for range 2 * maxMail {
		f.put(mail{message: jsonrpc.Message{Method: "notifications/message"}})
	}
	f.put(mail{message: jsonrpc.Message{ID: json.RawMessage("1"), Result: json.RawMessage("{}")}})
	if len(f.mail) != maxMail+1 {
		t.Errorf("%d messages wait", len(f.mail))
	}
	<-f.arrived
	if _, answered, err := f.deliver(t.Context()); !answered || err != nil {
		t.Errorf("got %v, %v", answered, err)
	}
}
