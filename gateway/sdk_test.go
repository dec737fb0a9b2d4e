package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/rpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// eras are the versions that a client of the official SDK is made to speak;
// "" is its default: modern, and legacy where that fails.
var eras = map[string]string{"default": "", "modern": "2026-07-28", "2025-11-25": "2025-11-25", "2025-06-18": "2025-06-18", "2025-03-26": "2025-03-26", "2024-11-05": "2024-11-05"}

// connect connects a client of the official SDK.
func connect(t testing.TB, transport mcp.Transport, version string, options *mcp.ClientOptions) *mcp.ClientSession {
	t.Helper()
	session, err := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, options).
		Connect(t.Context(), transport, &mcp.ClientSessionOptions{ProtocolVersion: version})
	if err != nil {
		t.Fatal(err)
	}
	return session
}

// overHTTP serves a gateway and returns the SDK's way to it.
func overHTTP(t testing.TB, g *Gateway) *mcp.StreamableClientTransport {
	t.Helper()
	server := httptest.NewServer(g)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}
	t.Cleanup(func() { client.CloseIdleConnections(); server.Close() })
	return &mcp.StreamableClientTransport{Endpoint: server.URL + "/mcp", HTTPClient: client}
}

func checkSession(t *testing.T, session *mcp.ClientSession, modern bool) {
	t.Helper()
	init := session.InitializeResult()
	if init.ServerInfo == nil || init.ServerInfo.Name != "mcpool" || (init.ProtocolVersion >= "2026-07-28") != modern {
		t.Errorf("it agreed on %+v", init)
	}
	list, err := session.ListTools(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(list.Tools) != 2 || list.Tools[0].Name != "echo" || list.Tools[1].Name != "add" {
		t.Errorf("listed %v", list.Tools)
	}
	result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "echo", Arguments: map[string]any{"a": "b"}})
	if err != nil {
		t.Fatal(err)
	}
	echoed, err := json.Marshal(result.StructuredContent)
	if err != nil || !strings.Contains(string(echoed), `"arguments":{"a":"b"}`) || !strings.Contains(string(echoed), `"name":"echo"`) {
		t.Errorf("echoed %s, %v", echoed, err)
	}
	if !modern {
		if err := session.Ping(t.Context(), nil); err != nil {
			t.Errorf("ping: %v", err)
		}
	}
}

func TestTheOfficialSDKOverHTTP(t *testing.T) {
	t.Parallel()
	for name, version := range eras {
		var ended atomic.Int32
		g := newGateway(t, nil, Server{Name: "one", Handler: handler(demo), EndSession: func(rpc.Caller) { ended.Add(1) }})
		session := connect(t, overHTTP(t, g), version, nil)
		modern := version == "" || version >= "2026-07-28"
		t.Log(name)
		checkSession(t, session, modern)
		if err := session.Close(); err != nil {
			t.Errorf("%s: close: %v", name, err)
		}
		if want := map[bool]int32{true: 0, false: 1}[modern]; ended.Load() != want {
			t.Errorf("%s: %d sessions ended, want %d", name, ended.Load(), want)
		}
	}
}

func TestTheOfficialSDKOverStdio(t *testing.T) {
	t.Parallel()
	for name, version := range eras {
		c := newConsole(t, t.Context(), newGateway(t, nil, one(handler(demo))))
		session := connect(t, &mcp.IOTransport{Reader: readCloser{c.out, c.close}, Writer: c.in}, version, nil)
		t.Log(name)
		checkSession(t, session, version == "" || version >= "2026-07-28")
		if err := session.Close(); err != nil {
			t.Errorf("%s: close: %v", name, err)
		}
		<-c.served
	}
}

type readCloser struct {
	r interface{ Read([]byte) (int, error) }
	c func()
}

func (r readCloser) Read(p []byte) (int, error) { return r.r.Read(p) }
func (r readCloser) Close() error               { r.c(); return nil }

func TestTheOfficialSDKGetsProgress(t *testing.T) {
	t.Parallel()
	for name, version := range map[string]string{"modern": "2026-07-28", "legacy": "2025-11-25"} {
		var mu sync.Mutex
		var progress []float64
		all := make(chan struct{})
		options := &mcp.ClientOptions{ProgressNotificationHandler: func(_ context.Context, r *mcp.ProgressNotificationClientRequest) {
			mu.Lock()
			defer mu.Unlock()
			if progress = append(progress, r.Params.Progress); len(progress) == 3 {
				close(all)
			}
		}}
		session := connect(t, overHTTP(t, newGateway(t, nil, one(notifies(3)))), version, options)
		params := &mcp.CallToolParams{Name: "x"}
		params.SetProgressToken("t")
		if _, err := session.CallTool(t.Context(), params); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		<-all
		if fmt.Sprint(progress) != "[0 1 2]" {
			t.Errorf("%s: got %v", name, progress)
		}
		if err := session.Close(); err != nil {
			t.Errorf("%s: close: %v", name, err)
		}
	}
}

func TestTheOfficialSDKCancels(t *testing.T) {
	t.Parallel()
	for name, version := range map[string]string{"modern": "2026-07-28", "legacy": "2025-11-25"} {
		h := newWaiter()
		session := connect(t, overHTTP(t, newGateway(t, nil, one(h))), version, nil)
		ctx, cancel := context.WithCancel(t.Context())
		failed := make(chan error)
		go func() {
			_, err := session.CallTool(ctx, &mcp.CallToolParams{Name: "x"})
			failed <- err
		}()
		call := <-h.began
		cancel()
		if err := <-failed; err == nil {
			t.Errorf("%s: the call succeeded", name)
		}
		<-call.Done()       // and so the server was told
		_ = session.Close() // the SDK gives its DELETE little time
	}
}

func TestTheOfficialSDKLearnsThatItsSessionIsLost(t *testing.T) {
	t.Parallel()
	g := newGateway(t, nil, one(fails(&mcpool.Error{Server: "one", Err: mcpool.ErrSessionLost})))
	session := connect(t, overHTTP(t, g), "2025-11-25", nil)
	if _, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "x"}); !errors.Is(err, mcp.ErrSessionMissing) {
		t.Errorf("got %v", err)
	}
	_ = session.Close() // it fails, as the session is gone
}

func TestFiftyClientsAtOnce(t *testing.T) {
	t.Parallel()
	// Each answer is for its own session and call.
	h := handler(func(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
		call.Events.Notify("notifications/progress", json.RawMessage(`{"progressToken":1,"progress":1}`))
		return demo(ctx, call)
	})
	g := newGateway(t, nil, Server{Name: "a", Handler: h}, Server{Name: "b", Handler: h})
	server := httptest.NewServer(g)
	defer server.Close()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 50}}
	defer client.CloseIdleConnections()
	transport := &mcp.StreamableClientTransport{Endpoint: server.URL + "/mcp", HTTPClient: client, DisableStandaloneSSE: true}
	var clients sync.WaitGroup
	for i := range 50 {
		clients.Go(func() {
			version := [...]string{"2026-07-28", "2025-11-25"}[i%2]
			session := connect(t, transport, version, nil)
			defer session.Close()
			own := ""
			for call := range 10 {
				params := &mcp.CallToolParams{Name: [...]string{"a__echo", "b__echo"}[call%2], Arguments: map[string]int{"client": i, "call": call}}
				if call%3 == 0 {
					params.SetProgressToken(call)
				}
				result, err := session.CallTool(t.Context(), params)
				if err != nil {
					t.Errorf("client %d, call %d: %v", i, call, err)
					return
				}
				got, _ := result.StructuredContent.(map[string]any)
				echoed, _ := json.Marshal(got["params"])
				if want := fmt.Sprintf(`"arguments":{"call":%d,"client":%d}`, call, i); !strings.Contains(string(echoed), want) {
					t.Errorf("client %d, call %d: got the answer to %s", i, call, echoed)
				}
				s, _ := got["session"].(string)
				if call == 0 {
					own = s
				}
				if s != own || (s == "") != (i%2 == 0) {
					t.Errorf("client %d, call %d: session %q, before it %q", i, call, s, own)
				}
			}
		})
	}
	clients.Wait()
	server.Close() // a call is counted until its answer is written
	if n := len(g.calls.running) + len(g.calls.byID); n != 0 {
		t.Errorf("%d calls are still counted", n)
	}
}
