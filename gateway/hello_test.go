package gateway

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestASilentServerIsWaitedForOnce holds that of many clients that begin the
// first alone waits for a server that says nothing.
func TestASilentServerIsWaitedForOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		good, mute := &shop{name: "good", tools: []string{"x"}}, &shop{name: "mute", tools: []string{"y"}}
		g := newPlain(t, nil, Server{Name: "good", Handler: good}, Server{Name: "mute", Handler: mute})
		begin := func(takes time.Duration) {
			t.Helper()
			began := time.Now()
			initialize(t, g, "/mcp")
			if took := time.Since(began); took != takes {
				t.Errorf("a client began after %v, want %v", took, takes)
			}
		}
		mute.set(errHangs)
		begin(helloWait)
		begin(0)
		time.Sleep(silence)
		begin(helloWait)
		begin(0)
		// One that answers anything is asked again.
		mute.set(nil)
		if r := callModern(g, "/mcp", "mute__y", ""); r.said(t) != "mute" {
			t.Errorf("got %s", r)
		}
		mute.set(errHangs)
		begin(helloWait)
		closed(t, g)
	})
}

// TestClientsOfAServerThatIsAwayMakeFewLines has a client a second begin at two
// servers and list, while one of them is away.
func TestClientsOfAServerThatIsAwayMakeFewLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		g, err := New([]Server{{Name: "one", Handler: polite(handler(demo))}, {Name: "two", Handler: fails(errors.New("away"))}},
			&Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		for range 90 {
			for _, method := range []string{"server/discover", "tools/list"} {
				do(g, "POST", "/mcp", `{"jsonrpc":"2.0","id":1,"method":"`+method+`","params":{`+meta+`}}`, modernHeaders(method, "")...)
			}
			time.Sleep(time.Second)
		}
		for _, what := range []string{"a client began without a server", "a server is left out of a list"} {
			if n := strings.Count(log.String(), what); n != 2 {
				t.Errorf("%d lines say %q, want 2", n, what)
			}
		}
	})
}
