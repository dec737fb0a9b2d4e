package transport

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
	"github.com/mcpool-dev/mcpool/rpc"
)

// everywhere runs a test over each transport that legacy servers have.
func everywhere(t *testing.T, test func(t *testing.T, conn Conn)) {
	t.Helper()
	t.Run("HTTP", func(t *testing.T) { test(t, open(t, onSockets(t, &mcptest.Server{}), Legacy)) })
	t.Run("HTTP+SSE", func(t *testing.T) { test(t, open(t, onSockets(t, &mcptest.Server{OverSSE: true}), Legacy)) })
	t.Run("stdio", func(t *testing.T) { test(t, open(t, stdio(t, mcptest.Normal), Legacy)) })
}

// callWith calls a tool with a progress token, unless it is empty.
func callWith(ctx context.Context, conn Conn, e rpc.Events, tool, token string, arguments args) (json.RawMessage, error) {
	c := mcptest.CallTool(tool, arguments)
	if token != "" {
		c.Params, _ = jsonrpc.Set(c.Params, []byte(token), "_meta", "progressToken")
	}
	c.Events, c.Caller = e, able
	answer, err := conn.Call(ctx, c, nil)
	return answer.Bytes(), err
}

func TestProgressHasTheTokenOfTheCaller(t *testing.T) {
	everywhere(t, func(t *testing.T, conn Conn) {
		for _, token := range []string{`"mine"`, `7`, `9007199254740993`, `"\u00e9 "`, ``} {
			var got events
			_, err := callWith(t.Context(), conn, &got, "progress", token, args{"id": "a", "steps": 3})
			got.returned()
			if err != nil {
				t.Fatal(err)
			}
			want := 4 // the last is notifications/message
			if token == "" {
				want = 1
			}
			if len(got.notes) != want {
				t.Fatalf("token %s: got %d notifications: %q", token, len(got.notes), got.notes)
			}
			for _, note := range got.notes[:want-1] {
				if !strings.HasPrefix(note, "notifications/progress ") || !strings.Contains(note, `"progressToken":`+token) {
					t.Errorf("token %s: got %s", token, note)
				}
			}
			got.check(t)
		}
	})
}

func TestProgressReachesItsCallerAlone(t *testing.T) {
	everywhere(t, func(t *testing.T, conn Conn) {
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				var got events
				_, err := callWith(t.Context(), conn, &got, "progress", `"same"`, args{"id": "a", "steps": 5})
				got.returned()
				progress := 0
				for _, note := range got.notes {
					if strings.HasPrefix(note, "notifications/progress ") {
						progress++
					}
				}
				if err != nil || progress != 5 {
					t.Errorf("got %q, %v", got.notes, err)
				}
				got.check(t)
			})
		}
		wg.Wait()
	})
}

func TestAsk(t *testing.T) {
	everywhere(t, func(t *testing.T, conn Conn) {
		for name, test := range map[string]struct {
			answer string
			err    error
			want   string
		}{
			"answer":         {answer: `{"action":"accept", "n":9007199254740993}`, want: `{"action":"accept","n":9007199254740993}`},
			"protocol error": {err: &rpc.Error{Code: -32042, Message: "go there", Data: json.RawMessage(`{"url":"x"}`)}, want: `{"code":-32042,"message":"go there","data":{"url":"x"}}`},
			"other error":    {err: errors.New("secret of ours"), want: `{"code":-32603,"message":"elicitation/create failed"}`},
			"no object":      {answer: `7`, want: `{"code":-32603,"message":"elicitation/create got no valid answer"}`},
			"nothing":        {want: `{"code":-32603,"message":"elicitation/create got no valid answer"}`},
		} {
			got := events{ask: func(context.Context, string) (json.RawMessage, error) {
				return json.RawMessage(test.answer), test.err
			}}
			result, err := callWith(t.Context(), conn, &got, "ask", "", args{
				"id": "a", "method": "elicitation/create", "params": map[string]string{"message": "well?"},
			})
			got.returned()
			if err != nil {
				t.Fatal(err)
			}
			if reply, _ := jsonrpc.Get(result, "structuredContent", "reply"); string(reply) != test.want {
				t.Errorf("%s: the server got %s, want %s", name, reply, test.want)
			}
			if len(got.asked) != 1 || got.asked[0] != `elicitation/create {"message":"well?"}` {
				t.Errorf("%s: asked %q", name, got.asked)
			}
			got.check(t)
		}
	})
}

func TestRequestsThatNobodyIsAsked(t *testing.T) {
	everywhere(t, func(t *testing.T, conn Conn) {
		var got events
		for _, test := range []struct {
			events rpc.Events
			method string
			want   string
		}{
			{&got, "ping", `{}`},
			{nil, "ping", `{}`},
			{nil, "roots/list", `{"code":-32601,"message":"nobody here answers roots/list"}`},
			{&got, "roots/other", `{"code":-32601,"message":"nobody here answers roots/other"}`},
		} {
			result, err := callWith(t.Context(), conn, test.events, "ask", "", args{"id": "a", "method": test.method, "params": map[string]any{}})
			if err != nil {
				t.Fatal(err)
			}
			if reply, _ := jsonrpc.Get(result, "structuredContent", "reply"); string(reply) != test.want {
				t.Errorf("%s was answered %s, want %s", test.method, reply, test.want)
			}
		}
		byForm, sampling := rpc.Capabilities{Elicitation: true}, rpc.Capabilities{Sampling: true}
		byURL := rpc.Capabilities{ElicitationURL: true}
		for _, test := range []struct {
			caps           rpc.Capabilities
			method, params string
			code           string // "" if it is asked
		}{
			{byForm, "roots/list", `{}`, "-32601"},
			{sampling, "elicitation/create", `{}`, "-32601"},
			{byForm, "sampling/createMessage", `{}`, "-32601"},
			{byForm, "elicitation/create", `{"mode":"form"}`, ""},
			{byForm, "elicitation/create", `{"mode":"url"}`, "-32602"},
			{byURL, "elicitation/create", `{"mode":"url"}`, ""},
			{byURL, "elicitation/create", `{}`, "-32602"},
			{sampling, "sampling/createMessage", `{}`, ""},
			{sampling, "sampling/createMessage", `{"tools":[]}`, "-32602"},
			{rpc.Capabilities{Sampling: true, SamplingTools: true}, "sampling/createMessage", `{"tools":[]}`, ""},
			{rpc.Capabilities{Roots: true}, "roots/list", `{}`, ""},
		} {
			asked := events{ask: accepts}
			c := mcptest.CallTool("ask", args{"id": "a", "method": test.method, "params": json.RawMessage(test.params)})
			c.Events, c.Caller.Capabilities = &asked, test.caps
			answer, err := conn.Call(t.Context(), c, nil)
			if err != nil {
				t.Fatal(err)
			}
			code, _ := jsonrpc.Get(answer.Bytes(), "structuredContent", "reply", "code")
			if string(code) != test.code || (len(asked.asked) == 0) != (test.code != "") {
				t.Errorf("%+v: %s %s was answered with code %s, asked %q", test.caps, test.method, test.params, code, asked.asked)
			}
		}
		if len(got.asked) != 0 {
			t.Errorf("asked %q", got.asked)
		}
	})
}

// When the call ends, so does what the server has asked meanwhile.
func TestAskEndsWithItsCall(t *testing.T) {
	everywhere(t, func(t *testing.T, conn Conn) {
		asked := make(chan struct{})
		var ended error
		got := events{ask: func(ctx context.Context, _ string) (json.RawMessage, error) {
			close(asked)
			<-ctx.Done()
			ended = ctx.Err()
			return nil, ctx.Err()
		}}
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-asked; cancel() }()
		_, err := callWith(ctx, conn, &got, "ask", "", args{"id": "a", "method": "elicitation/create"})
		got.returned()
		wantFailure(t, err, MayHaveRun, false)
		if ended == nil {
			t.Error("Ask had not returned when Call did")
		}
		mustEcho(t, conn, "next")
		conn.Close(context.Background())
		got.check(t)
	})
}

// On a child, what names no call goes to a call that is alone, never to one of
// several.
func TestUnattributedOnStdio(t *testing.T) {
	conn := open(t, stdio(t, mcptest.Normal), Legacy)
	beside := begin(t.Context(), t, conn, "sleep", args{"id": "beside", "ms": 300})
	var got events
	result, err := callWith(t.Context(), conn, &got, "ask", `"token"`, args{"id": "a", "method": "roots/list", "params": map[string]any{}})
	if err != nil {
		t.Fatal(err)
	}
	if code, _ := jsonrpc.Get(result, "structuredContent", "reply", "code"); string(code) != "-32601" {
		t.Errorf("the request was answered: %s", result)
	}
	if _, err = callWith(t.Context(), conn, &got, "progress", `"token"`, args{"id": "a", "steps": 1}); err != nil {
		t.Fatal(err)
	}
	if len(got.notes) != 1 || !strings.HasPrefix(got.notes[0], "notifications/progress ") {
		t.Errorf("got %q", got.notes)
	}
	if err := <-beside; err != nil {
		t.Error(err)
	}
}

// stream answers tools/call by a stream of these messages, in which ID stands
// for the id of the call.
func stream(messages ...string) *mcptest.Server {
	body := ""
	for _, m := range messages {
		body += "event: message\ndata: " + m + "\n\n"
	}
	return &mcptest.Server{Fault: onMethod("tools/call", reply(200, "text/event-stream", body))}
}

func TestStreamOfACall(t *testing.T) {
	const answer = `{"jsonrpc":"2.0","id":ID,"result":{}}`
	for name, test := range map[string]struct {
		messages []string
		want     []string
	}{
		"foreign progress": {[]string{`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":4711,"progress":1}}`, answer}, nil},
		"progress by value": {[]string{`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":ID.0,"progress":1}}`, answer},
			[]string{`notifications/progress {"progressToken":"t","progress":1}`}},
		"late progress":  {[]string{answer, `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":ID,"progress":1}}`}, nil},
		"other response": {[]string{`{"jsonrpc":"2.0","id":4711,"result":{}}`, answer}, nil},
		"no params":      {[]string{`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`, answer}, []string{"notifications/tools/list_changed "}},
		"cancelled":      {[]string{`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"x"}}`, answer}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn := open(t, inBubble(t, stream(test.messages...)), Legacy)
				var got events
				_, err := callWith(t.Context(), conn, &got, "echo", `"t"`, args{})
				got.returned()
				if err != nil {
					t.Fatal(err)
				}
				if strings.Join(got.notes, "\n") != strings.Join(test.want, "\n") {
					t.Errorf("got %q, want %q", got.notes, test.want)
				}
				conn.Close(t.Context())
				got.check(t)
			})
		})
	}
}

// A server may withdraw its request while the call goes on.
func TestServerWithdrawsItsRequest(t *testing.T) {
	withdrawn := make(chan struct{})
	server := &mcptest.Server{Fault: onMethod("tools/call", func(w http.ResponseWriter, r *http.Request) {
		send := func(message string) {
			reply(200, "text/event-stream", "data: "+message+"\n\n")(w, r)
			_ = http.NewResponseController(w).Flush()
		}
		send(`{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{}}`)
		send(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"q"}}`)
		<-withdrawn
		send(`{"jsonrpc":"2.0","id":ID,"result":{}}`)
	})}
	conn := open(t, inBubble(t, server), Legacy)
	got := events{ask: func(ctx context.Context, _ string) (json.RawMessage, error) {
		<-ctx.Done()
		close(withdrawn)
		return nil, ctx.Err()
	}}
	if _, err := callWith(t.Context(), conn, &got, "echo", "", args{}); err != nil {
		t.Fatal(err)
	}
	conn.Close(t.Context())
	if n := server.Requests(""); n != 0 {
		t.Errorf("%d responses to a request that was withdrawn", n)
	}
}

// A modern server has no requests to make: nobody is asked, nothing is sent.
func TestModernServerThatAsks(t *testing.T) {
	server := stream(`{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{}}`, `{"jsonrpc":"2.0","id":ID,"result":{}}`)
	server.Modern = true
	conn := open(t, inBubble(t, server), Modern)
	var got events
	if _, err := callWith(t.Context(), conn, &got, "echo", "", args{}); err != nil {
		t.Fatal(err)
	}
	conn.Close(t.Context())
	if len(got.asked) != 0 || server.Requests("") != 0 {
		t.Errorf("asked %q, %d responses sent", got.asked, server.Requests(""))
	}
}
