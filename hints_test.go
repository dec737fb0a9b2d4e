package mcpool_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
	"github.com/mcpool-dev/mcpool/rpc"
)

// A router is a modern server whose tool wants its text in a header of a name
// that changes, and whose list has two pages and a tool that is marked wrongly.
type router struct {
	server
	name string
}

func newRouter() *router {
	s := &router{name: "First"}
	s.Modern = true
	s.Fault = func(r *http.Request, method string, w http.ResponseWriter) bool {
		id := mcptest.ID(r)
		w.Header().Set("Content-Type", "application/json")
		switch {
		case method == "tools/list" && !bytes.Contains(body(r), []byte(`"cursor"`)):
			fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"resultType":"complete","ttlMs":0,"cacheScope":"public","nextCursor":"2","tools":[
				{"name":"wrong","inputSchema":{"properties":{"a":{"type":"number","x-mcp-header":"A"}}}}, {"name":"echo", "big":9007199254740993}]}}`, id)
		case method == "tools/list":
			fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"resultType":"complete","ttlMs":0,"cacheScope":"public","tools":[
				{"name":"write","inputSchema":{"properties":{"text":{"type":"string","x-mcp-header":%q}}}}]}}`, id, s.name)
		case method == "tools/call" && r.Header.Get("Mcp-Param-"+s.name) == "":
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"error":{"code":-32020,"message":"no header"}}`, id)
		default:
			return false
		}
		return true
	}
	return s
}

// Whatever method a call has, its params and its result pass as they are. One
// that breaks off is made again if it only reads.
func TestMethodsPass(t *testing.T) {
	const params = `{"uri":"a","name":"b","taskId":"c","n":9007199254740993,"cursor":"x\u0026"}`
	for method, repeated := range map[string]bool{
		"tools/list": true, "prompts/list": true, "prompts/get": true, "completion/complete": true,
		"resources/list": true, "resources/templates/list": true, "resources/read": true,
		"tasks/list": true, "tasks/get": true, "tasks/result": true,
		"tasks/cancel": false, "tasks/update": false, "tools/call": false, "vendor/any": false,
	} {
		for _, modern := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				s := &server{}
				s.Modern = modern
				s.Fault = func(r *http.Request, called string, w http.ResponseWriter) bool {
					if called != method {
						return false
					}
					if s.Requests(method) == 1 {
						panic(http.ErrAbortHandler)
					}
					got, _ := jsonrpc.Get(body(r), "params")
					w.Header().Set("Content-Type", "application/json")
					_, _ = w.Write(jsonrpc.AppendResult(nil, mcptest.ID(r), jsonrpc.Delete(got, "_meta")))
					return true
				}
				p := s.pool(t, nil)
				defer closePool(t, p)
				call := rpc.Call{Method: method, Params: []byte(params)}
				answer, err := p.Do(t.Context(), call)
				if !repeated {
					if err == nil || mcpool.SafeToRetry(err) || s.Requests(method) != 1 {
						t.Errorf("%s: %v after %d requests, want one that may have run", method, err, s.Requests(method))
					}
					answer, err = p.Do(t.Context(), call)
				}
				if err != nil || string(answer.Bytes()) != params || s.Requests(method) != 2 {
					t.Errorf("%s: got %s, %v after %d requests", method, answer.Bytes(), err, s.Requests(method))
				}
			})
		}
	}
}

// A call whose headers do not say what its arguments say was not run: the tool
// is looked up, and the call made again.
func TestHeadersOfArgumentsAreLookedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRouter()
		p := s.pool(t, nil)
		defer closePool(t, p)
		lists := 0
		for i, name := range []string{"First", "First", "Second", "Second"} {
			s.name = name
			if i%2 == 0 {
				lists += 2 // pages
			}
			if _, err := call(t.Context(), p, nobody, "write", fmt.Sprint(i)); err != nil {
				t.Fatal(err)
			}
			if s.Executions()[fmt.Sprint(i)] != 1 || s.Requests("tools/list") != lists {
				t.Errorf("call %d ran %d times, after %d lists; want once, after %d", i, s.Executions()[fmt.Sprint(i)], s.Requests("tools/list"), lists)
			}
		}
		lease, err := p.Acquire(t.Context(), nobody, mcpool.Slot)
		if err != nil {
			t.Fatal(err)
		}
		defer lease.Release()
		s.name = "Third"
		if _, err := call(t.Context(), lease, nobody, "write", "leased"); err != nil || s.Executions()["leased"] != 1 {
			t.Errorf("a call on a lease: %v, ran %d times", err, s.Executions()["leased"])
		}
		// Where the list does not help, the server's word is the answer.
		s.name = "Fourth"
		if _, err := call(t.Context(), p, nobody, "unlisted", "never"); err == nil || !strings.Contains(err.Error(), "no header") {
			t.Errorf("got %v", err)
		}
	})
}

func TestToolsThatMustNotBeOfferedAreLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		s := newRouter()
		p := s.pool(t, func(c *mcpool.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
		defer closePool(t, p)
		answer, err := p.Do(t.Context(), rpc.Call{Method: "tools/list"})
		if err != nil {
			t.Fatal(err)
		}
		if got := string(answer.Bytes()); strings.Contains(got, "wrong") || !strings.Contains(got, `{"name":"echo","big":9007199254740993}`) || !strings.Contains(got, `"nextCursor":"2"`) {
			t.Errorf("got %s", got)
		}
		if !strings.Contains(log.String(), "tool=wrong") || !strings.Contains(log.String(), "goes with a string") {
			t.Errorf("the log has %q", log.String())
		}
		tools, err := p.ListTools(t.Context())
		if err != nil || len(tools) != 2 || tools[1].Name != "write" {
			t.Errorf("got %v, %v", tools, err)
		}
	})
}
