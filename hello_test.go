package mcpool_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

// An introducer is a server that does nothing but introduce itself; N in hello
// stands for how often it has.
type introducer struct {
	modern bool
	hello  string
	silent bool // a modern one refuses server/discover the first time

	mu sync.Mutex
	n  int
}

func (i *introducer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	m, _ := jsonrpc.Parse(body(r))
	w.Header().Set("Content-Type", "application/json")
	switch {
	case m.ID == nil:
		w.WriteHeader(http.StatusAccepted)
	case i.silent && m.Method == "server/discover":
		i.silent = false
		_, _ = w.Write(jsonrpc.AppendError(nil, m.ID, &rpc.Error{Code: rpc.CodeUnsupportedVersion, Message: "later", Data: json.RawMessage(`{"supported":["2026-07-28"]}`)}))
	case m.Method == "server/discover" && i.modern, m.Method == "initialize" && !i.modern:
		i.n++
		_, _ = w.Write(jsonrpc.AppendResult(nil, m.ID, json.RawMessage(strings.ReplaceAll(i.hello, "N", fmt.Sprint(i.n)))))
	default:
		_, _ = w.Write(jsonrpc.AppendError(nil, m.ID, rpc.Errorf(rpc.CodeMethodNotFound, "no %s", m.Method)))
	}
}

const (
	legacyHello = `{"protocolVersion":"2025-06-18","capabilities":{"tools":{ },"tasks":{"list":{}},"x":9007199254740993},` +
		`"serverInfo":{"name":"N","version":"1"},"instructions":"<use> \u0026 enjoy"}`
	modernHello = `{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"x":9007199254740993},"ttlMs":0,"cacheScope":"SCOPE",` +
		`"more":1,"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"N"}}}`
	modernSays = `{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"x":9007199254740993},` +
		`"more":1,"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"N"}}}`
)

func TestServerIsIntroduced(t *testing.T) {
	legacySays := func(tasks string) string {
		return `{"supportedVersions":["2025-06-18"],"capabilities":{"tools":{ },` + tasks + `"x":9007199254740993},` +
			`"instructions":"<use> \u0026 enjoy","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"N","version":"1"}}}`
	}
	ann, bob := rpc.Caller{Principal: "ann"}, rpc.Caller{Principal: "bob"}
	for name, test := range map[string]struct {
		server  *introducer
		sharing mcpool.Sharing
		says    string
		// names are what it calls itself to ann, ann, bob, ann, bob: how often it
		// had been asked.
		names string
	}{
		"legacy":           {&introducer{hello: legacyHello}, "", legacySays(""), "1 1 2 1 2"},
		"legacy, all":      {&introducer{hello: legacyHello}, mcpool.ShareAll, legacySays(""), "1 1 1 1 1"},
		"legacy, session":  {&introducer{hello: legacyHello}, mcpool.ShareSession, legacySays(`"tasks":{"list":{}},`), "1 1 2 1 2"},
		"modern, public":   {&introducer{modern: true, hello: strings.Replace(modernHello, "SCOPE", "public", 1)}, "", modernSays, "1 1 1 1 1"},
		"modern, private":  {&introducer{modern: true, hello: strings.Replace(modernHello, "SCOPE", "private", 1)}, "", modernSays, "1 1 2 1 3"},
		"modern, by name":  {&introducer{modern: true, hello: `{"supportedVersions":["2026-07-28"],"capabilities":{},"cacheScope":"public","serverInfo":{"name":"N"}}`}, "", `{"supportedVersions":["2026-07-28"],"capabilities":{},"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"N"}}}`, "1 1 1 1 1"},
		"legacy, in short": {&introducer{hello: `{"protocolVersion":"2025-06-18","serverInfo":{"name":"N"}}`}, mcpool.ShareAll, `{"supportedVersions":["2025-06-18"],"capabilities":{},"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"N"}}}`, "1 1 1 1 1"},
		"modern, at last":  {&introducer{modern: true, silent: true, hello: `{"supportedVersions":["2026-07-28"],"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"N"}}}`}, "", `{"supportedVersions":["2026-07-28"],"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"N"}}}`, "1 2 3 4 5"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &server{}
				p := s.poolOver(t, test.server, func(c *mcpool.Config) { c.Sharing, c.MinConnections = test.sharing, 0 })
				defer closePool(t, p)
				var names []string
				for _, who := range []rpc.Caller{ann, ann, bob, ann, bob} {
					answer, err := p.Do(t.Context(), rpc.Call{Method: "server/discover", Caller: who})
					if err != nil {
						t.Fatal(err)
					}
					got := answer.Bytes()
					n := jsonrpc.GetString(got, "_meta", "io.modelcontextprotocol/serverInfo", "name")
					names = append(names, n)
					if want := strings.ReplaceAll(test.says, "N", n); string(got) != want && (n == "1" || name != "modern, private") {
						t.Errorf("%s got %s, want %s", who.Principal, got, want)
					}
				}
				if got := strings.Join(names, " "); got != test.names {
					t.Errorf("the server called itself %s, want %s", got, test.names)
				}
				stats := p.Stats()
				if asked := test.server.modern && name != "modern, public"; !asked && stats.Calls != 0 || stats.Errors != 0 || stats.CallsInFlight != 0 {
					t.Errorf("%d calls, %d errors, %d in flight", stats.Calls, stats.Errors, stats.CallsInFlight)
				}
			})
		})
	}
}

func TestServerThatIsNotThereIsNotIntroduced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		p := s.pool(t, nil)
		s.network.SetDown(true)
		discover := rpc.Call{Method: "server/discover"}
		began := time.Now()
		_, err := p.Do(t.Context(), discover)
		failed := (*mcpool.Error)(nil)
		if !errors.As(err, &failed) || failed.MayHaveRun || time.Since(began) > mcpool.DefaultConfig().ConnectionTimeout {
			t.Errorf("got %v after %v", err, time.Since(began))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := p.Do(ctx, discover); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if s := p.Stats(); s.Calls != 0 || s.Acquires[mcpool.AcquireUnavailable]+s.Acquires[mcpool.AcquireTimeout] == 0 {
			t.Errorf("%d calls, %v failed to get a connection", s.Calls, s.Acquires)
		}
		s.network.SetDown(false)
		time.Sleep(time.Minute)
		if _, err := p.Do(t.Context(), discover); err != nil {
			t.Error(err)
		}
		s.network.SetDown(true)
		if _, err := p.Do(t.Context(), discover); err != nil {
			t.Errorf("what is known needs no network: %v", err)
		}
		s.network.SetDown(false)
		closePool(t, p)
		if _, err := p.Do(t.Context(), discover); !errors.Is(err, mcpool.ErrPoolClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}
