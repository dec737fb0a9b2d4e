//lint:file-ignore SA1019 what MCP 2026-07-28 deprecates is served like the rest

package gosdk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"go.uber.org/goleak"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/gateway"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	legacy = "2025-11-25"
	modern = "2026-07-28"
)

var eras = []string{legacy, modern}

// A user is a program with a session of the SDK, and what it was told.
type user struct {
	*mcp.ClientSession
	t       testing.TB
	name    string
	modern  bool
	told    chan string // progress and log messages
	changes chan string
}

// connect begins a session whose handlers answer as name does.
func connect(t testing.TB, transport mcp.Transport, version, name string) *user {
	t.Helper()
	u := &user{t: t, name: name, told: make(chan string, 2*progress), changes: make(chan string, 100)}
	mine := func(text string) error {
		if !strings.Contains(text, `"`+name+`"`) {
			t.Errorf("%s was asked %s", name, text)
		}
		return nil
	}
	client := mcp.NewClient(&mcp.Implementation{Name: name, Version: "1"}, &mcp.ClientOptions{
		ElicitationHandler: func(_ context.Context, r *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"is": name}}, mine(r.Params.Message)
		},
		CreateMessageHandler: func(_ context.Context, r *mcp.CreateMessageRequest) (*mcp.CreateMessageResult, error) {
			return &mcp.CreateMessageResult{Role: "assistant", Model: "m", Content: &mcp.TextContent{Text: name}},
				mine(r.Params.Messages[0].Content.(*mcp.TextContent).Text)
		},
		ProgressNotificationHandler: func(_ context.Context, r *mcp.ProgressNotificationClientRequest) {
			u.told <- fmt.Sprintf("progress %v of %v", r.Params.Progress, r.Params.ProgressToken)
		},
		LoggingMessageHandler: func(_ context.Context, r *mcp.LoggingMessageRequest) {
			u.told <- fmt.Sprintf("%s: %v", r.Params.Level, r.Params.Data)
		},
		ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) { u.changes <- "tools" },
		ResourceUpdatedHandler: func(_ context.Context, r *mcp.ResourceUpdatedNotificationRequest) {
			u.changes <- r.Params.URI
		},
	})
	client.AddRoots(&mcp.Root{URI: "file:///" + name})
	session, err := client.Connect(t.Context(), transport, &mcp.ClientSessionOptions{ProtocolVersion: version})
	if err != nil {
		t.Fatalf("%s: %v", version, err)
	}
	u.ClientSession = session
	u.modern = session.InitializeResult().ProtocolVersion >= modern
	return u
}

func (u *user) close() {
	u.t.Helper()
	if err := u.Close(); err != nil {
		u.t.Errorf("close: %v", err)
	}
}

// said is a result or an error in words that do not depend on the era.
func said(result any, err error) string {
	var e *jsonrpc.Error
	if errors.As(err, &e) {
		return fmt.Sprintf("error %d %s %s", e.Code, e.Message, e.Data)
	}
	if err != nil {
		return "error " + err.Error()
	}
	raw, err := json.Marshal(result)
	if err != nil {
		return err.Error()
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil {
		return string(raw)
	}
	for _, ofModern := range []string{"_meta", "resultType", "ttlMs", "cacheScope"} {
		delete(members, ofModern)
	}
	raw, _ = json.Marshal(members)
	return string(raw)
}

func (u *user) call(tool string, arguments any) string {
	return said(u.CallTool(u.t.Context(), &mcp.CallToolParams{Name: tool, Arguments: arguments}))
}

// hears has a change made until the user is told of it, as what listens to a
// server may begin after it.
func (u *user) hears(tool, change string) string {
	for {
		if got := u.call(tool, nil); strings.HasPrefix(got, "error") {
			return got
		}
		again := time.After(time.Second)
	waiting:
		for {
			select {
			case got := <-u.changes:
				if got == change {
					return got
				}
			case <-again:
				break waiting
			}
		}
	}
}

// everything is all that a session can do, and what came of it.
func (u *user) everything() (all []string) {
	ctx := u.t.Context()
	add := func(what, got string) { all = append(all, what+": "+got) }
	init := u.InitializeResult()
	add("instructions", init.Instructions)
	add("capabilities", said(init.Capabilities, nil))
	var tools, cursors []string
	for tool, err := range u.Tools(ctx, nil) {
		tools = append(tools, said(tool, err))
	}
	for params := (&mcp.ListToolsParams{}); ; {
		page, err := u.ListTools(ctx, params)
		if err != nil || page.NextCursor == "" {
			break
		}
		params = &mcp.ListToolsParams{Cursor: page.NextCursor}
		cursors = append(cursors, page.NextCursor)
	}
	add("tools", strings.Join(tools, "\n"))
	add("cursors", fmt.Sprint(cursors))
	add("an odd cursor", said(u.ListTools(ctx, &mcp.ListToolsParams{Cursor: "odd"})))
	add("prompts", said(u.ListPrompts(ctx, nil)))
	add("resources", said(u.ListResources(ctx, nil)))
	add("templates", said(u.ListResourceTemplates(ctx, nil)))
	add("prompt", said(u.GetPrompt(ctx, &mcp.GetPromptParams{Name: "greet", Arguments: map[string]string{"whom": "ann"}})))
	add("no prompt", said(u.GetPrompt(ctx, &mcp.GetPromptParams{Name: "odd"})))
	add("read", said(u.ReadResource(ctx, &mcp.ReadResourceParams{URI: "place:room"})))
	add("read by template", said(u.ReadResource(ctx, &mcp.ReadResourceParams{URI: "place:rooms/5"})))
	add("complete", said(u.Complete(ctx, &mcp.CompleteParams{
		Ref: &mcp.CompleteReference{Type: "ref/prompt", Name: "greet"}, Argument: mcp.CompleteParamsArgument{Name: "whom", Value: "a"}})))
	add("echo", u.call("echo", json.RawMessage(`{"big":9007199254740993,"text":"Zürich\n","null":null}`)))
	add("fail", u.call("fail", nil))
	add("no tool", u.call("odd", nil))
	add("elicit", u.call("elicit", map[string]string{"who": u.name}))
	add("sample", u.call("sample", map[string]string{"who": u.name}))
	add("roots", u.call("roots", nil))
	params := &mcp.CallToolParams{Name: "progress"}
	params.SetProgressToken("mine")
	add("progress", said(u.CallTool(ctx, params)))
	for range progress {
		add("progress", <-u.told)
	}
	params = &mcp.CallToolParams{Name: "log"}
	if u.modern {
		params.Meta = mcp.Meta{"io.modelcontextprotocol/logLevel": "warning"}
	} else if err := u.SetLoggingLevel(ctx, &mcp.SetLoggingLevelParams{Level: "warning"}); err != nil {
		u.t.Errorf("log level: %v", err)
	}
	add("log", said(u.CallTool(ctx, params)))
	add("log", <-u.told)
	add("log", <-u.told)
	add("change", u.hears("change", "tools"))
	if err := u.Subscribe(ctx, &mcp.SubscribeParams{URI: "place:room"}); err != nil {
		u.t.Errorf("subscribe: %v", err)
	}
	add("update", u.hears("update", "place:room"))
	if err := u.Unsubscribe(ctx, &mcp.UnsubscribeParams{URI: "place:room"}); err != nil {
		u.t.Errorf("unsubscribe: %v", err)
	}
	if !u.modern { // which has none
		add("ping", said(nil, u.Ping(ctx, nil)))
	}
	return all
}

// What a program is answered over the SDK's own transport in the era of the
// server, it is answered in any over a pool.
func TestSessionsOverAPoolAreAnsweredTheSame(t *testing.T) {
	for kind, stateless := range kinds {
		version := legacy
		if stateless {
			version = modern
		}
		p := newPlace(t, stateless)
		u := connect(t, p.direct(), version, "ann")
		if u.modern != stateless {
			t.Fatalf("%s: direct: %s", kind, u.InitializeResult().ProtocolVersion)
		}
		want := u.everything()
		u.close()
		for _, version := range eras {
			t.Run(kind+" "+version, func(t *testing.T) {
				p := newPlace(t, stateless)
				u := connect(t, NewTransport(p.pool(t, "place", nil)), version, "ann")
				defer u.close()
				if u.modern != (version == modern) {
					t.Fatalf("it speaks %s", u.InitializeResult().ProtocolVersion)
				}
				got := u.everything()
				for i := range min(len(got), len(want)) {
					if got[i] != want[i] {
						t.Errorf("got  %s\nwant %s", got[i], want[i])
					}
				}
			})
		}
	}
}

// A recorder has what a session reads noted, in order.
type recorder struct {
	mcp.Transport
	mcp.Connection
	frames []jsonrpc.Message // of the reading goroutine, until Close has returned
}

func (r *recorder) Connect(ctx context.Context) (conn mcp.Connection, err error) {
	r.Connection, err = r.Transport.Connect(ctx)
	return r, err
}

func (r *recorder) Read(ctx context.Context) (jsonrpc.Message, error) {
	message, err := r.Connection.Read(ctx)
	if err == nil {
		r.frames = append(r.frames, message)
	}
	return message, err
}

func TestProgressComesBeforeTheAnswer(t *testing.T) {
	for kind, stateless := range kinds {
		for _, version := range eras {
			t.Run(kind+" "+version, func(t *testing.T) {
				p := newPlace(t, stateless)
				r := &recorder{Transport: NewTransport(p.pool(t, "place", nil))}
				u := connect(t, r, version, "ann")
				params := &mcp.CallToolParams{Name: "progress"}
				params.SetProgressToken("mine")
				if _, err := u.CallTool(t.Context(), params); err != nil {
					t.Error(err)
				}
				u.close()
				next := 0.0
				for _, frame := range r.frames {
					switch frame := frame.(type) {
					case *jsonrpc.Request:
						var params mcp.ProgressNotificationParams
						if err := json.Unmarshal(frame.Params, &params); err != nil || frame.Method == "notifications/progress" && params.Progress != next {
							t.Fatalf("got %s, %v, want progress %v", frame.Params, err, next)
						}
						if frame.Method == "notifications/progress" {
							next++
						}
					case *jsonrpc.Response:
						if strings.Contains(string(frame.Result), "done") && next != progress {
							t.Errorf("the answer came behind %v notifications, want %d", next, progress)
						}
					}
				}
				if next != progress {
					t.Errorf("%v notifications, want %d", next, progress)
				}
			})
		}
	}
}

func TestCancellationReachesTheServersHandler(t *testing.T) {
	for kind, stateless := range kinds {
		for _, version := range eras {
			t.Run(kind+" "+version, func(t *testing.T) {
				p := newPlace(t, stateless)
				u := connect(t, NewTransport(p.pool(t, "place", nil)), version, "ann")
				defer u.close()
				ctx, cancel := context.WithCancel(t.Context())
				failed := make(chan error)
				go func() {
					_, err := u.CallTool(ctx, &mcp.CallToolParams{Name: "block"})
					failed <- err
				}()
				<-p.began
				cancel()
				if err := <-failed; !errors.Is(err, context.Canceled) {
					t.Errorf("got %v", err)
				}
				<-p.cancelled
				if got := u.call("echo", map[string]int{"n": 1}); !strings.Contains(got, `"n":1`) {
					t.Errorf("afterwards: %s", got)
				}
			})
		}
	}
}

// Sessions of both eras at once ride the same few connections, and what a
// server asks during a call is asked of the session whose call it is.
func TestManySessionsShareThePoolsConnections(t *testing.T) {
	const sessions, rounds, connections = 64, 2, 2
	for kind, stateless := range kinds {
		t.Run(kind, func(t *testing.T) {
			p := newPlace(t, stateless)
			pool := p.pool(t, "place", func(c *mcpool.Config) { c.MaxConnections = connections })
			transport := NewTransport(pool)
			// What is opened before the server's era is known is in a group of its own.
			connect(t, transport, eras[0], "the first").close()
			var all sync.WaitGroup
			var users [sessions]*user
			for i := range users {
				all.Go(func() {
					name := fmt.Sprintf("user %d", i)
					u := connect(t, transport, eras[i%2], name)
					users[i] = u
					for round := range rounds {
						arguments := fmt.Sprintf(`{"round":%d,"who":%q}`, round, name)
						for tool, answer := range map[string]string{
							"echo":   arguments,
							"elicit": arguments + ` was answered {"action":"accept","content":{"is":"` + name + `"}}`,
							"sample": arguments + ` was answered {"content":{"type":"text","text":"` + name + `"},"model":"m","role":"assistant"}`,
							"roots":  arguments + ` was answered {"roots":[{"uri":"file:///` + name + `"}]}`,
						} {
							result, err := u.CallTool(t.Context(), &mcp.CallToolParams{Name: tool, Arguments: json.RawMessage(arguments)})
							if err != nil {
								t.Errorf("%s: %s: %v", name, tool, err)
							} else if got := result.Content[0].(*mcp.TextContent).Text; got != answer {
								t.Errorf("%s: %s: got %s\nwant %s", name, tool, got, answer)
							}
						}
					}
				})
			}
			all.Wait()
			atServer := 0
			for range p.server.Sessions() {
				atServer++
			}
			stats := pool.Stats()
			if stats.Opened > connections || !stateless && atServer > connections {
				t.Errorf("%d connections were opened, %d sessions at the server, want at most %d", stats.Opened, atServer, connections)
			}
			if most := uint64(sessions * rounds * 4); stats.Calls < most {
				t.Errorf("%d calls went through the pool, want %d", stats.Calls, most)
			}
			t.Logf("%d calls on %d connections", stats.Calls, stats.Opened)
			for _, u := range users {
				u.close()
			}
			if stats := pool.Stats(); stats.CallsInFlight != 0 {
				t.Errorf("%d calls are in flight after the sessions", stats.CallsInFlight)
			}
		})
	}
}

func TestServersOfSeveralPoolsAreToldApart(t *testing.T) {
	here, there := newPlace(t, false), newPlace(t, true)
	transport := NewTransport(here.pool(t, "here", nil), there.pool(t, "there", nil))
	for _, version := range eras {
		u := connect(t, transport, version, "ann")
		var tools []string
		for tool, err := range u.Tools(t.Context(), nil) {
			if err != nil {
				t.Fatal(err)
			}
			tools = append(tools, tool.Name)
		}
		if len(tools) != 20 || !slices.Contains(tools, "here__echo") || !slices.Contains(tools, "there__echo") {
			t.Errorf("%s: tools %v", version, tools)
		}
		for _, server := range []string{"here", "there"} {
			if got := u.call(server+"__elicit", map[string]string{"who": "ann"}); !strings.Contains(got, `{\"is\":\"ann\"}`) {
				t.Errorf("%s: %s", version, got)
			}
			if got := said(u.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: server + "+place:room"})); !strings.Contains(got, "AP8=") {
				t.Errorf("%s: %s", version, got)
			}
			if got := said(u.GetPrompt(t.Context(), &mcp.GetPromptParams{Name: server + "__greet", Arguments: map[string]string{"whom": "bob"}})); !strings.Contains(got, "Greet bob") {
				t.Errorf("%s: %s", version, got)
			}
		}
		u.close()
	}
}

// With a connection for each session, its server's state is that of the session
// and ends with it.
func TestSessionsEndAtTheServer(t *testing.T) {
	p := newPlace(t, false)
	closed := make(chan struct{}, 2)
	pool := p.pool(t, "place", func(c *mcpool.Config) {
		c.Sharing, c.MinConnections = mcpool.ShareSession, 0
		c.Hooks.CloseEnd = func(context.Context, mcpool.CloseEnd) { closed <- struct{}{} }
	})
	transport := NewTransport(pool)
	for _, version := range eras {
		one, other := connect(t, transport, version, "one"), connect(t, transport, version, "other")
		one.call("echo", nil)
		other.call("echo", nil)
		if n := pool.Stats().Pinned; n != 2 {
			t.Errorf("%s: %d connections, want one for each session", version, n)
		}
		one.close()
		<-closed
		other.close()
		<-closed
	}
}

// A program's session outlives the one at the server, whose loss it is told of
// once.
func TestLossOfAServersSessionIsToldOnce(t *testing.T) {
	p := newPlace(t, false)
	u := connect(t, NewTransport(p.pool(t, "place", func(c *mcpool.Config) { c.Sharing = mcpool.ShareSession })), legacy, "ann")
	defer u.close()
	for round := range 2 {
		if got := u.call("echo", map[string]int{"n": round}); !strings.Contains(got, fmt.Sprintf(`"n":%d`, round)) {
			t.Errorf("got %s", got)
		}
		for session := range p.server.Sessions() {
			if err := session.Close(); err != nil {
				t.Error(err)
			}
		}
		if got := u.call("echo", nil); !strings.Contains(got, mcpool.ErrSessionLost.Error()) {
			t.Errorf("with the session lost: %s", got)
		}
	}
}

func TestTransportSaysOnWhoseBehalf(t *testing.T) {
	p := newPlace(t, false)
	pool := p.pool(t, "place", nil)
	for _, name := range []string{"ann", "bob"} {
		transport := NewTransport(pool)
		transport.Principal = name
		u := connect(t, transport, legacy, name)
		u.call("echo", nil)
		u.close()
	}
	if stats := pool.Stats(); stats.Groups != 2 {
		t.Errorf("%d groups of connections, want one for each principal", stats.Groups)
	}
}

func TestTransportThatCannotConnect(t *testing.T) {
	p := newPlace(t, false)
	client := mcp.NewClient(&mcp.Implementation{Name: "c", Version: "1"}, nil)
	for name, test := range map[string]struct {
		transport *Transport
		want      string
	}{
		"no pool":         {NewTransport(), "there is no server"},
		"names alike":     {NewTransport(p.pool(t, "a", nil), p.pool(t, "a", nil)), "the name is taken"},
		"made by nothing": {&Transport{}, "NewTransport"},
	} {
		if _, err := client.Connect(t.Context(), test.transport, nil); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	pool := p.pool(t, "place", nil)
	u := connect(t, NewTransport(pool), legacy, "ann")
	defer u.close()
	if err := pool.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := u.call("echo", nil); !strings.Contains(got, mcpool.ErrPoolClosed.Error()) {
		t.Errorf("with the pool closed: %s", got)
	}
}

// A program that wants other options brings a gateway with them.
func TestTransportOverAGateway(t *testing.T) {
	p := newPlace(t, true)
	pool := p.pool(t, "place", nil)
	g, err := gateway.New([]gateway.Server{{Name: "place", Handler: pool, Allow: []string{"echo"}}}, &gateway.Options{Prefix: gateway.PrefixAlways})
	if err != nil {
		t.Fatal(err)
	}
	u := connect(t, &Transport{Gateway: g}, modern, "ann")
	defer u.close()
	list, err := u.ListTools(t.Context(), nil)
	if err != nil || len(list.Tools) != 1 || list.Tools[0].Name != "place__echo" {
		t.Errorf("got %s", said(list, err))
	}
}
