package transport

import (
	"context"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

// The official SDK is a peer that knows nothing of our reading of the
// specification.

type sdkArgs struct {
	Text string `json:"text"`
}

func sdkServer() *mcp.Server {
	server := mcp.NewServer(&mcp.Implementation{Name: "sdk", Version: "v1"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: "echo"}, func(ctx context.Context, r *mcp.CallToolRequest, in sdkArgs) (*mcp.CallToolResult, any, error) {
		if token := r.Params.GetProgressToken(); token != nil {
			_ = r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: token, Progress: 1})
		}
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: in.Text}}}, nil, nil
	})
	return server
}

// sdkChildSetting has the test binary, run again, be a server of the SDK over
// stdio.
const sdkChildSetting = "TRANSPORT_SDK_CHILD"

func sdkChild(which string) {
	server := sdkServer()
	if which == "listenable" {
		server = listenable()
	}
	if err := server.Run(context.Background(), &mcp.StdioTransport{}); err != nil {
		log.Fatal(err)
	}
}

func TestOfficialSDK(t *testing.T) {
	overHTTP := func(options *mcp.StreamableHTTPOptions) func(t *testing.T) *Endpoint {
		return func(t *testing.T) *Endpoint {
			server := sdkServer()
			return onSockets(t, mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, options))
		}
	}
	overSSE := func(t *testing.T) *Endpoint {
		server := sdkServer()
		return onSockets(t, mcp.NewSSEHandler(func(*http.Request) *mcp.Server { return server }, nil))
	}
	overStdio := func(t *testing.T) *Endpoint { return sdkOverStdio(t, "echoing") }
	for name, test := range map[string]struct {
		endpoint func(t *testing.T) *Endpoint
		eras     map[Era]Era // given to Open: found
	}{
		"sessions":       {overHTTP(&mcp.StreamableHTTPOptions{}), map[Era]Era{Unknown: Legacy, Legacy: Legacy}},
		"sessions, JSON": {overHTTP(&mcp.StreamableHTTPOptions{JSONResponse: true}), map[Era]Era{Unknown: Legacy}},
		"stateless":      {overHTTP(&mcp.StreamableHTTPOptions{Stateless: true}), map[Era]Era{Unknown: Modern, Modern: Modern, Legacy: Legacy}},
		"stateless, JSON": {overHTTP(&mcp.StreamableHTTPOptions{Stateless: true, JSONResponse: true}),
			map[Era]Era{Unknown: Modern}},
		"HTTP+SSE": {overSSE, map[Era]Era{Unknown: Legacy, Legacy: Legacy}},
		"stdio":    {overStdio, map[Era]Era{Unknown: Modern, Modern: Modern, Legacy: Legacy}},
	} {
		t.Run(name, func(t *testing.T) {
			endpoint := test.endpoint(t)
			for given, found := range test.eras {
				conn := open(t, endpoint, given)
				if peer := conn.Peer(); peer.Era != found || peer.Name != "sdk" || peer.Version != "v1" {
					t.Errorf("%v: Peer() = %+v", given, peer)
				}
				var got events
				result, err := callWith(t.Context(), conn, &got, "echo", `"mine"`, args{"text": "hello"})
				got.returned()
				if err != nil || !strings.Contains(string(result), `"text":"hello"`) {
					t.Errorf("%v: got %s, %v", given, result, err)
				}
				if strings.Contains(name, "JSON") == (len(got.notes) == 1) {
					t.Errorf("%v: got %q", given, got.notes)
				}
				_, err = call(t.Context(), conn, "no such tool", args{})
				wantError(t, err, -32602)
				if err := conn.Check(t.Context()); err != nil {
					t.Errorf("%v: Check: %v", given, err)
				}
				conn.Close(context.Background())
				got.check(t)
			}
		})
	}
}

func sdkOverStdio(t *testing.T, which string) *Endpoint {
	t.Helper()
	return stdioWith(t, func(c *Command) {
		c.Inherited = append(os.Environ(), sdkChildSetting+"="+which, "GORACE=atexit_sleep_ms=0")
	}, mcptest.Normal)
}

// endSessions ends those that nobody has deleted: of its own the SDK keeps them.
func endSessions(server *mcp.Server) {
	for session := range server.Sessions() {
		_ = session.Close()
	}
}

func TestOfficialSDKLosesItsSessions(t *testing.T) {
	var handler http.Handler
	begin := func() {
		server := sdkServer()
		handler = mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, nil)
		t.Cleanup(func() { endSessions(server) })
	}
	begin()
	endpoint := onSockets(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	conn := open(t, endpoint, Legacy)
	begin() // as a restart does
	_, err := call(t.Context(), conn, "echo", args{"text": "x"})
	wantFailure(t, err, Refused, true)
	result, err := call(t.Context(), open(t, endpoint, Legacy), "echo", args{"text": "x"})
	if err != nil || jsonrpc.GetString(result, "content") != "" {
		t.Errorf("got %s, %v", result, err)
	}
}

// The SDK's client is the judge of the server that the tests here are made with.
func TestOfficialSDKClientOverSSE(t *testing.T) {
	server := &mcptest.Server{OverSSE: true}
	web := httptest.NewServer(server)
	defer web.Close()
	client := mcp.NewClient(&mcp.Implementation{Name: "sdk", Version: "v1"}, nil)
	session, err := client.Connect(t.Context(), &mcp.SSEClientTransport{Endpoint: web.URL + "/sse"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "echo", Arguments: args{"id": "a", "text": "hello"}})
	if err != nil || len(result.Content) != 1 || result.Content[0].(*mcp.TextContent).Text != "hello" {
		t.Errorf("got %+v, %v", result, err)
	}
}

func TestOfficialSDKEndsItsStream(t *testing.T) {
	server := sdkServer()
	endpoint := onSockets(t, mcp.NewSSEHandler(func(*http.Request) *mcp.Server { return server }, nil))
	conn := open(t, endpoint, Legacy)
	endSessions(server)
	<-conn.Done()
	_, err := call(t.Context(), conn, "echo", args{"text": "x"})
	wantFailure(t, err, NotSent, true)
	conn.Close(context.Background())
	if _, err := call(t.Context(), open(t, endpoint, Legacy), "echo", args{"text": "x"}); err != nil {
		t.Error(err)
	}
}
