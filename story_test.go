package mcpool_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

// told is a story in a line each, with the seconds since began.
func told(began time.Time, events []mcpool.Event) string {
	var lines []string
	for _, e := range events {
		lines = append(lines, fmt.Sprintf("%v %s %s", e.At.Sub(began).Seconds(), e.Event, e.Detail))
	}
	return strings.Join(lines, "\n")
}

func TestStoryOfAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := false
		s := &server{Server: mcptest.Server{OpenDelay: time.Second}}
		s.Fault = func(_ *http.Request, method string, w http.ResponseWriter) bool {
			if broken && method == "tools/call" {
				http.Error(w, "no", http.StatusForbidden)
				return true
			}
			return false
		}
		p := s.pool(t, nil)
		began := time.Now()
		tell := func(id, state, want string) {
			t.Helper()
			c, events, found := p.Story(id)
			if !found || c.State() != state || told(began, events) != want {
				t.Errorf("found: %v, %s; got\n%s\nwant\n%s", found, c.State(), told(began, events), want)
			}
		}
		for range 3 {
			call(t.Context(), p, nobody, "echo", "x")
		}
		opened := p.Conns()[0].OpenTook().String()
		tell("test-1", "ready", "1 opened in "+opened+"\n1 calls 3")
		time.Sleep(20 * time.Second)
		broken = true
		for range 2 {
			if _, err := call(t.Context(), p, nobody, "echo", "x"); err == nil {
				t.Error("no error")
			}
		}
		broken = false
		call(t.Context(), p, nobody, "unknown", "x") // an error of the protocol
		_, events, _ := p.Story("test-1")
		forbidden := events[2].Detail
		if !strings.Contains(forbidden, "403") || !strings.HasSuffix(forbidden, " (2 times in a row)") {
			t.Errorf("the failure is told as %q", forbidden)
		}
		story := "1 opened in " + opened + "\n1 calls 3\n21 error " + forbidden +
			"\n21 error the server answered with error -32602\n21 calls 3, 3 failed"
		tell("test-1", "ready", story)

		time.Sleep(time.Second)
		p.Reset()
		synctest.Wait()
		story += "\n22 retired reset\n22 closed reset"
		tell("test-1", "closed", story)
		time.Sleep(time.Hour)
		tell("test-1", "closed", story)
		if c, _, _ := p.Story("test-1"); c.Age() != 21*time.Second {
			t.Errorf("it was %v old in the end", c.Age())
		}
		time.Sleep(time.Second)
		if _, _, found := p.Story("test-1"); found {
			t.Error("it is remembered for more than an hour")
		}
		closePool(t, p)
	})
}

func TestStoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		p := s.pool(t, func(c *mcpool.Config) { c.MaxConnectionAge, c.HealthCheckInterval = 0, 0 })
		began := time.Now()
		for range 100 {
			call(t.Context(), p, nobody, "echo", "x")
			time.Sleep(11 * time.Second)
		}
		_, events, _ := p.Story("test-1")
		if len(events) != 62 || events[0].Event != "opened" || events[1].At.Sub(began) != 39*11*time.Second {
			t.Errorf("%d events, then one of %v", len(events), events[1].At.Sub(began))
		}
		for i := range 300 {
			p.Reset()
			synctest.Wait()
			call(t.Context(), p, nobody, "echo", fmt.Sprint(i))
		}
		if n := mcpool.Past(p); n != 256 {
			t.Errorf("%d closed connections are remembered, want 256", n)
		}
		known := 0
		for i := range 301 {
			if _, _, found := p.Story(fmt.Sprintf("test-%d", i+1)); found {
				known++
			}
		}
		if known != 256+1 {
			t.Errorf("%d connections are known, want 256 that are closed and the open one", known)
		}
		closePool(t, p)
	})
}

func TestAboutHasNothingThatMayBeSecret(t *testing.T) {
	for _, test := range []struct {
		server            mcpool.Server
		transport, target string
		sharing           mcpool.Sharing
	}{
		{mcpool.Server{URL: "https://me:s3cret@a.example:8443/s3cret/mcp?key=s3cret#s3cret"}, "http", "https://a.example:8443", mcpool.SharePrincipal},
		{mcpool.Server{URL: "http://a.example/sse", SSE: true}, "sse", "http://a.example", mcpool.SharePrincipal},
		{mcpool.Server{URL: "http+unix://%2Frun%2Fs3cret.sock/mcp"}, "http", "unix socket", mcpool.SharePrincipal},
		{mcpool.Server{Command: "/opt/s3cret/tool", Args: []string{"s3cret"}, Env: []string{"A=s3cret"}}, "stdio", "tool", mcpool.ShareSession},
		{mcpool.Server{Handler: sleeper{}}, "in process", "", mcpool.ShareAll},
	} {
		test.server.Name = "test"
		p, err := mcpool.New(test.server, nil)
		if err != nil {
			t.Fatal(err)
		}
		a := p.About()
		if a.Transport != test.transport || a.Target != test.target || a.Sharing != test.sharing || a.Trouble != nil {
			t.Errorf("got %+v, want %+v", a, test)
		}
		closePool(t, p)
	}
}

func TestAboutKnowsTheEraAndTheLastTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		p := s.pool(t, nil)
		if a := p.About(); a.Era != "unknown" || a.ProtocolVersion != "" {
			t.Errorf("at first %+v", a)
		}
		call(t.Context(), p, nobody, "echo", "x")
		if a := p.About(); a.Era != "legacy" || a.ProtocolVersion != "2025-11-25" || a.Trouble != nil {
			t.Errorf("after a call %+v", a)
		}
		s.network.SetDown(true)
		p.Reset()
		began := time.Now()
		call(t.Context(), p, nobody, "echo", "x")
		if a := p.About(); a.Trouble == nil || a.TroubleAt.Before(began) {
			t.Errorf("with the server away %+v", a)
		}
		s.network.SetDown(false)
		closePool(t, p)
	})
}

func TestEachSettingIsWhatItWasSetTo(t *testing.T) {
	unset := mcpool.DefaultConfig()
	for _, name := range mcpool.SettingNames() {
		for _, value := range []string{"3", "3s", "false", "session"} {
			c := mcpool.DefaultConfig()
			if err := c.Set(name, value); err != nil {
				continue
			}
			back := mcpool.DefaultConfig()
			if err := back.Set(name, c.Get(name)); err != nil || fmt.Sprint(back) != fmt.Sprint(c) || c.Get(name) == unset.Get(name) {
				t.Errorf("%s set to %s is %q: %v", name, value, c.Get(name), err)
			}
		}
	}
	if got := new(mcpool.Config).Get("no_such"); got != "" {
		t.Errorf("got %q", got)
	}
}
