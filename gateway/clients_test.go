package gateway

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool/rpc"
)

// shownClients are the clients of a gateway in a line each, without their ids,
// which differ.
func shownClients(t *testing.T, g *Gateway) string {
	t.Helper()
	ids := map[string]bool{}
	var lines []string
	for _, c := range g.Clients() {
		if len(c.ID) != 16 || ids[c.ID] {
			t.Errorf("the id of %+v is no label of its own", c)
		}
		ids[c.ID] = true
		age := "no session"
		if !c.Since.IsZero() {
			age = time.Since(c.Since).String()
		}
		lines = append(lines, fmt.Sprintf("%q %s %s %s/%s %q %s %d", c.Principal, c.Era, c.Transport, c.Name, c.Version, c.Server, age, c.CallsInFlight))
	}
	return strings.Join(lines, "\n")
}

func TestClientsAreThoseThatAreThere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		free := make(chan struct{})
		g := newGateway(t, &Options{Principal: byHeader}, one(handler(func(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
			if call.Method == "tools/call" {
				<-free
			}
			return demo(ctx, call)
		})))
		expect := func(when, want string) {
			t.Helper()
			synctest.Wait()
			if got := shownClients(t, g); got != want {
				t.Errorf("%s: got\n%s\nwant\n%s", when, got, want)
			}
		}
		expect("at first", "")

		id := initialize(t, g, "/mcp/one")
		time.Sleep(time.Second)
		legacyPost(g, "/mcp/one", id, `{"jsonrpc":"2.0","method":"notifications/initialized"}`)
		expect("a legacy client", `"" legacy http test/1 "one" 1s 0`)

		in, write := io.Pipe()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			g.ServeStdio(t.Context(), in, io.Discard)
		}()
		expect("one over stdio", `"" legacy http test/1 "one" 1s 0`+"\n"+`""  stdio / "" 0s 0`)
		io.WriteString(write, introduced("test")+"\n")
		time.Sleep(time.Second)
		w, where := openTalk(t, g, "X-Principal", "a")
		inProcess := g.NewClient(t.Context(), "b")
		expect("one of each way", `"" legacy http test/1 "one" 2s 0`+"\n"+
			`"" legacy stdio test/1 "" 1s 0`+"\n"+
			ordered(g, `"a"  sse / "" 0s 0`, `"b"  in process / "" 0s 0`))

		for range 2 {
			go callModern(g, "/mcp/one", "echo", "")
		}
		go legacyPost(g, "/mcp/one", id, `{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"echo"}}`)
		go do(g, "POST", where, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo",`+meta+`}}`, "X-Principal", "a")
		expect("with calls in flight", `"" modern http test/1 "one" no session 2`+"\n"+
			`"" legacy http test/1 "one" 2s 1`+"\n"+
			`"" legacy stdio test/1 "" 1s 0`+"\n"+
			ordered(g, `"a" modern sse test/1 "" 0s 1`, `"b"  in process / "" 0s 0`))
		close(free)
		synctest.Wait()
		w.leave()
		w.rest()
		inProcess.Close()
		write.Close()
		<-ended
		time.Sleep(time.Hour - time.Second)
		expect("an hour after the call", `"" legacy http test/1 "one" 1h0m1s 0`)
		time.Sleep(time.Second)
		expect("and a second", "")
		legacyPost(g, "/mcp/one", id, `{"jsonrpc":"2.0","id":6,"method":"ping"}`)
		expect("when it is back", `"" legacy http test/1 "one" 1h0m2s 0`)
		do(g, "DELETE", "/mcp/one", "", "Mcp-Session-Id", id)
		expect("at its end", "")
		closed(t, g)
	})
}

// introduced is the initialize of a client that says its name.
func introduced(name string) string {
	return strings.Replace(stdioInitialize, "}}", `,"clientInfo":{"name":"`+name+`","version":"1"}}}`, 1)
}

// ordered are two lines in the order of the ids of the last two clients, who
// began at once.
func ordered(g *Gateway, a, b string) string {
	clients := g.Clients()
	if strings.HasPrefix(a, fmt.Sprintf("%q", clients[len(clients)-1].Principal)) {
		a, b = b, a
	}
	return a + "\n" + b
}

func TestClientsSayNoMoreThanALittle(t *testing.T) {
	t.Parallel()
	g := newGateway(t, nil, one(handler(demo)))
	c := g.NewClient(t.Context(), "")
	name := strings.Repeat("ä", 100)
	exchange(t, c, introduced(name))
	if got := []rune(g.Clients()[0].Name); len(got) != 64 {
		t.Errorf("its name has %d characters", len(got))
	}
	session := c.talk.session.Load().name
	if strings.Contains(fmt.Sprint(g.Clients()), session) {
		t.Error("a client is shown with the name of its session")
	}
	c.Close()
	closed(t, g)
}
