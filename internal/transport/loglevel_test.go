package transport

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
	"github.com/mcpool-dev/mcpool/rpc"
)

// leveledCall calls a tool for somebody who wants log messages of a level, ""
// for nobody in particular.
func leveledCall(e rpc.Events, tool, level string) rpc.Call {
	call := mcptest.CallTool(tool, args{"id": "a"})
	if level != "" {
		call.Params, _ = jsonrpc.Set(call.Params, fmt.Appendf(nil, "%q", level), "_meta", metaLogLevel)
	}
	call.Events = e
	return call
}

// Each call is told the log messages that it wants itself.
func TestLogMessagesOfTheLevelWanted(t *testing.T) {
	test := func(t *testing.T, conn Conn) {
		for level, want := range map[string]int{"": 1, "loud": 1, "debug": 1, "info": 1, "notice": 0, "emergency": 0} {
			var got events
			if _, err := conn.Call(t.Context(), leveledCall(&got, "progress", level), nil); err != nil {
				t.Fatal(err)
			}
			if len(got.notes) != want { // the tool sends one, of level info
				t.Errorf("%q gets %q", level, got.notes)
			}
		}
	}
	everywhere(t, test)
	modernBoth(t, test)
}

// levels is a legacy server that keeps which levels it was asked for.
func levels(asked *[]string, fault func(w http.ResponseWriter, r *http.Request) bool) *mcptest.Server {
	var mu sync.Mutex
	return &mcptest.Server{Fault: func(r *http.Request, method string, w http.ResponseWriter) bool {
		if method != methodSetLevel {
			return false
		}
		mu.Lock()
		*asked = append(*asked, jsonrpc.GetString(peek(r), "params", "level"))
		mu.Unlock()
		return fault != nil && fault(w, r)
	}}
}

func TestLevelIsRaisedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked []string
		server := levels(&asked, func(http.ResponseWriter, *http.Request) bool {
			time.Sleep(time.Second)
			return false
		})
		conn := open(t, inBubble(t, server), Legacy)
		var calls sync.WaitGroup
		together := func(levels ...string) {
			for _, level := range levels {
				calls.Go(func() {
					if _, err := conn.Call(t.Context(), leveledCall(nil, "echo", level), nil); err != nil {
						t.Error(err)
					}
				})
			}
			calls.Wait()
		}
		began := time.Now()
		together("", "loud", "")
		if time.Since(began) != 0 || len(asked) != 0 {
			t.Errorf("calls without a level took %v, asked %q", time.Since(began), asked)
		}
		together("warning", "warning", "warning", "")
		if time.Since(began) != time.Second {
			t.Errorf("took %v, want 1 s: calls wait for the level that they want, once", time.Since(began))
		}
		together("warning", "error", "info")
		together("debug")
		together("debug", "info", "emergency")
		if want := []string{"warning", "info", "debug"}; !slices.Equal(asked, want) {
			t.Errorf("asked for %q, want %q", asked, want)
		}
		conn.Close(context.Background())
	})
}

// A call whose caller goes does not take the level from those who wait for it.
func TestLevelOutlivesItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked []string
		server := levels(&asked, func(http.ResponseWriter, *http.Request) bool {
			time.Sleep(time.Second)
			return false
		})
		conn := open(t, inBubble(t, server), Legacy)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, err := conn.Call(ctx, leveledCall(nil, "echo", "debug"), nil)
		wantFailure(t, err, NotSent, false)
		if _, err := conn.Call(t.Context(), leveledCall(nil, "echo", "debug"), nil); err != nil || len(asked) != 1 {
			t.Errorf("got %v, asked %q", err, asked)
		}
		conn.Close(context.Background())
	})
}

// Whatever becomes of the level, the call goes on, and the next does not ask
// again.
func TestLevelThatIsNotSet(t *testing.T) {
	for name, test := range map[string]struct {
		fault func(w http.ResponseWriter, r *http.Request)
		took  time.Duration
	}{
		"refused": {reply(200, jsonType, `{"jsonrpc":"2.0","id":ID,"error":{"code":-32601,"message":"no"}}`), 0},
		"status":  {reply(500, "text/plain", "no"), 0},
		"cut off": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 0},
		"silence": {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, levelTime},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var asked []string
				conn := open(t, inBubble(t, levels(&asked, func(w http.ResponseWriter, r *http.Request) bool {
					test.fault(w, r)
					return true
				})), Legacy)
				began := time.Now()
				for range 2 {
					if _, err := conn.Call(t.Context(), leveledCall(nil, "echo", "info"), nil); err != nil {
						t.Error(err)
					}
				}
				if took := time.Since(began); took != test.took || len(asked) != 1 {
					t.Errorf("took %v, asked %q", took, asked)
				}
				conn.Close(context.Background())
			})
		})
	}
	t.Run("no capability", func(t *testing.T) {
		methods := map[string]int{}
		conn := open(t, inBubble(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			methods[jsonrpc.GetString(peek(r), "method")]++
			canned(jsonType, "%s").ServeHTTP(w, r)
		})), Legacy)
		if _, err := conn.Call(t.Context(), leveledCall(nil, "echo", "info"), nil); err != nil || methods["tools/call"] != 1 || methods[methodSetLevel] != 0 {
			t.Errorf("sent %v, %v", methods, err)
		}
	})
	t.Run("closed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var asked []string
			conn := open(t, inBubble(t, levels(&asked, func(_ http.ResponseWriter, r *http.Request) bool {
				<-r.Context().Done()
				return true
			})), Legacy)
			done := make(chan error)
			go func() {
				_, err := conn.Call(t.Context(), leveledCall(nil, "echo", "info"), nil)
				done <- err
			}()
			synctest.Wait()
			conn.Close(context.Background())
			wantFailure(t, <-done, NotSent, true)
		})
	})
}

// What a modern request says of its client a modern server gets as it is, and a
// legacy one not at all.
func TestMetaOfTheCaller(t *testing.T) {
	const (
		whole = `{"x":1,"` + metaVersion + `":"1999-01-01","` + metaClient + `":{"name":"c"},"` +
			metaCapabilities + `":{"extensions":{"a":9007199254740993}},"` + metaLogLevel + `":"info","` + metaPrefix + `related-task":{}}`
		modern = `{"x":1,"` + metaVersion + `":"2026-07-28","` + metaClient + `":{"name":"c"},"` +
			metaCapabilities + `":{"extensions":{"a":9007199254740993}},"` + metaLogLevel + `":"info","` + metaPrefix + `related-task":{}}`
	)
	for _, test := range []struct {
		era        Era
		meta, want string
	}{
		{Modern, whole, modern},
		{Modern, `{"` + metaCapabilities + `":{}}`, `{"` + metaCapabilities + `":{},"` + metaVersion + `":"2026-07-28","` + metaClient + `":` + string(ourselves()) + `}`},
		{Legacy, whole, `{"x":1,"` + metaPrefix + `related-task":{}}`},
		{Legacy, `{"` + metaCapabilities + `":{},"` + metaLogLevel + `":"info"}`, ``},
		{Legacy, `{}`, `{}`},
		{Legacy, `{"progressToken":"t","` + metaClient + `":{}}`, `{"progressToken":ID}`},
		{Legacy, `null`, `null`},
	} {
		t.Run(test.era.String()+" "+test.meta, func(t *testing.T) {
			var sent, id json.RawMessage
			server := &mcptest.Server{Modern: test.era == Modern, Fault: func(r *http.Request, method string, _ http.ResponseWriter) bool {
				if method == "tools/call" {
					sent, _ = jsonrpc.Get(peek(r), "params", "_meta")
					id, _ = jsonrpc.Get(peek(r), "id")
				}
				return false
			}}
			call := mcptest.CallTool("echo", args{})
			call.Params, _ = jsonrpc.Set(call.Params, []byte(test.meta), "_meta")
			call.Events, call.Caller = new(events), able
			if _, err := open(t, inBubble(t, server), test.era).Call(t.Context(), call, nil); err != nil {
				t.Fatal(err)
			}
			if want := strings.ReplaceAll(test.want, "ID", string(id)); string(sent) != want {
				t.Errorf("the server got %s, want %s", sent, want)
			}
		})
	}
}
