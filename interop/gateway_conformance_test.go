package interop

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	// everything is go-sdk's server for the official suite, at the version of
	// go.mod. It names no session where it is stateless, and speaks the modern
	// protocol only there.
	everything = "github.com/modelcontextprotocol/go-sdk/conformance/everything-server"
	// maxConnections is what the gateway is allowed in each of its groups.
	maxConnections = 2
	// suiteTime bounds one run of a suite, which takes seconds.
	suiteTime = 3 * time.Minute
)

// capabilitySets are the capabilities that clients of the suites declare: none,
// elicitation, sampling, both, and both with roots. The gateway has a group of
// connections to a legacy server for each, and to a modern one, which is told
// with each call, one for all.
const capabilitySets = 5

// TestGatewayConformance has the server scenarios of the official suite judge
// the gateway in front of [everything], as it does the server itself. What the
// server passes the gateway has to pass, twice at once, and over no more
// connections than it is allowed. So have legacy suites over a modern server
// and the modern suite over a legacy one, but for what is listed in
// conformance/CLIENT-over-SERVER.yml, by eras, each with the reason why it
// cannot pass. README.md has the figures. Nothing else is run meanwhile: some
// answers the suite awaits for half a second only.
func TestGatewayConformance(t *testing.T) {
	dir := t.TempDir()
	gateway, server := filepath.Join(dir, "mcpool"), filepath.Join(dir, "everything")
	suites := []*serverSuite{
		{name: "stable", era: "legacy", suite: official(t, "conformance-0.1")},
		{name: "2025-11-25", era: "legacy", suite: official(t, "conformance-0.2"), args: []string{"--requirements", "2025-11-25"}},
		{name: "2026-07-28", era: "modern", suite: official(t, "conformance-0.2"), args: []string{"--requirements", "2026-07-28"}},
	}
	build(t, ".", server, everything)
	build(t, "..", gateway, "./cmd/mcpool")

	var direct sync.WaitGroup
	for _, s := range suites {
		url := serveEverything(t, server, s.era)
		direct.Go(func() {
			var verdict error
			if s.direct, verdict = s.judge(t, url); verdict != nil {
				t.Errorf("%s: the suite's verdict on the server itself: %v", s.name, verdict)
			}
		})
	}
	direct.Wait()
	for _, era := range []string{"legacy", "modern"} {
		t.Run("over "+era, func(t *testing.T) {
			t.Parallel()
			meter := newMeter(t, serveEverything(t, server, era))
			url := serveGateway(t, gateway, meter.url)
			for _, s := range suites {
				t.Run(s.name, func(t *testing.T) { s.through(t, url, era) })
			}
			meter.check(t, era)
		})
	}
}

// serveEverything starts the server of an era and returns its URL.
func serveEverything(t *testing.T, program, era string) string {
	t.Helper()
	port := freePort(t)
	launch(t, t, era+" server", exec.Command(program, "-http", "127.0.0.1:"+port, fmt.Sprint("-stateless=", era == "modern")), port)
	return "http://127.0.0.1:" + port + "/"
}

// serveGateway starts the gateway of one server and returns its URL.
func serveGateway(t *testing.T, program, server string) string {
	t.Helper()
	dir, port := t.TempDir(), freePort(t)
	write(dir, "mcpool.yaml", fmt.Sprintf(`mcpServers:
  everything:
    url: %s
    pool: {sharing: shared, max_connections: %d}
`, server, maxConnections))
	cmd := exec.Command(program, "serve", "--config", "mcpool.yaml", "--listen", "127.0.0.1:"+port)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_STATE_HOME="+dir)
	launch(t, t, "gateway", cmd, port)
	return "http://127.0.0.1:" + port + "/mcp"
}

// A serverSuite is the server scenarios of a suite, of which each client is of
// one era.
type serverSuite struct {
	name, era string
	suite     suite
	args      []string
	direct    checks // of the server of the same era
}

// twice has the gateway judged twice at once, and says what is not as it should
// be.
func (s *serverSuite) twice(t *testing.T, url, era string) (runs []checks, wrong []string) {
	file := filepath.Join("conformance", s.era+"-over-"+era+".yml")
	expected := expectedOf(t, file, s.direct)
	runs = make([]checks, 2)
	var mu sync.Mutex // guards wrong
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		wrong = append(wrong, fmt.Sprintf(format, args...))
	}
	var both sync.WaitGroup
	for i := range runs {
		both.Go(func() {
			var verdict error
			runs[i], verdict = s.judge(t, url)
			if verdict != nil && s.era == era {
				say("run %d: the suite's verdict: %v", i, verdict)
			}
			lost := runs[i].lost(s.direct)
			for _, name := range slices.Sorted(maps.Keys(lost)) {
				if !slices.Contains(expected, name) {
					say("run %d: %s %s", i, name, lost[name])
				}
			}
			for _, name := range expected {
				if lost[name] == "" {
					say("run %d: %s is in %s, and passes", i, name, file)
				}
			}
		})
	}
	both.Wait()
	return runs, wrong
}

// through has the gateway at a URL, which is over a server of an era, judged
// twice at once; and again where that fails, since some checks measure time.
func (s *serverSuite) through(t *testing.T, url, era string) {
	var runs []checks
	var wrong []string
	for range 3 {
		if runs, wrong = s.twice(t, url, era); len(wrong) == 0 {
			break
		}
		t.Logf("not as it should be: %s", strings.Join(wrong, "\n"))
	}
	for _, what := range wrong {
		t.Error(what)
	}
	row := fmt.Sprintf("| %s | %s | %d | %d |", s.name, era, s.direct.passed(), runs[0].passed())
	t.Log(row)
	if text, err := os.ReadFile("README.md"); err != nil || !bytes.Contains(text, []byte(row)) {
		t.Errorf("README.md has not these figures: %s", row)
	}
}

// judge runs the suite against a server and returns the checks it made; the
// error is the suite's verdict on those that are scored.
func (s *serverSuite) judge(t *testing.T, url string) (checks, error) {
	ctx, cancel := context.WithTimeout(t.Context(), suiteTime)
	defer cancel()
	dir := t.TempDir()
	said, errs, err := s.suite.run(ctx, append([]string{"server", "--url", url, "--output-dir", dir}, s.args...)...)
	if exit := (*exec.ExitError)(nil); err != nil && (!errors.As(err, &exit) || ctx.Err() != nil) {
		t.Errorf("%v\n%s%s", err, said[max(0, len(said)-2000):], errs)
	}
	return readChecks(t, dir), err
}

// A tally is how often a check of a scenario was made.
type tally struct {
	passed, failed int    // a warning is a failure, as it is in the suite's own comparisons
	message        string // of a failure
}

// checks are the tallies of a run by SCENARIO:CHECK, as files of expected
// failures name them.
type checks map[string]tally

// madeAt ends the folder of a scenario.
var madeAt = regexp.MustCompile(`-\d{4}-\d\d-\d\dT[^/]*$`)

// readChecks reads what the suite wrote of a run.
func readChecks(t *testing.T, dir string) checks {
	all := checks{}
	files, _ := filepath.Glob(filepath.Join(dir, "*", "checks.json")) // the pattern is sound
	if len(files) == 0 {
		t.Errorf("the suite wrote no checks")
	}
	for _, file := range files {
		scenario := strings.TrimPrefix(madeAt.ReplaceAllString(filepath.Base(filepath.Dir(file)), ""), "server-")
		var made []struct{ ID, Status, ErrorMessage string }
		text, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(text, &made)
		}
		if err != nil {
			t.Errorf("%s: %v", file, err)
		}
		for _, m := range made {
			name := scenario + ":" + m.ID
			c := all[name]
			switch m.Status {
			case "SUCCESS":
				c.passed++
			case "FAILURE", "WARNING":
				c.failed++
				c.message = m.ErrorMessage
			}
			all[name] = c
		}
	}
	return all
}

// passed is how many checks passed.
func (c checks) passed() (n int) {
	for _, check := range c {
		n += check.passed
	}
	return n
}

// lost are the checks that passed less often than direct, or failed more
// often, each with how.
func (c checks) lost(direct checks) map[string]string {
	lost := map[string]string{}
	for name, d := range direct {
		if got := c[name]; got.passed < d.passed {
			lost[name] = fmt.Sprintf("passes %d times, and direct %d times: %s", got.passed, d.passed, got.message)
		}
	}
	for name, got := range c {
		if got.failed > direct[name].failed {
			lost[name] = fmt.Sprintf("fails %d times, and direct %d times: %s", got.failed, direct[name].failed, got.message)
		}
	}
	return lost
}

// expectedOf reads the checks that a file lists, of those scenarios that were
// run.
func expectedOf(t *testing.T, file string, run checks) (expected []string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	scenarios := map[string]bool{}
	for name := range run {
		scenario, _, _ := strings.Cut(name, ":")
		scenarios[scenario] = true
	}
	for _, name := range regexp.MustCompile(`(?m)^  - (\S+)$`).FindAllStringSubmatch(string(text), -1) {
		if scenario, _, _ := strings.Cut(name[1], ":"); scenarios[scenario] {
			expected = append(expected, name[1])
		}
	}
	return expected
}

// A meter stands between the gateway and its server, and counts the sessions
// that the server begins and what is done in each.
type meter struct {
	url   string
	proxy *httputil.ReverseProxy

	mu         sync.Mutex          // guards what follows
	sessions   map[string][]string // ids, by the capabilities that were declared
	calls      map[string]int      // of each session
	discovered int
}

func newMeter(t *testing.T, server string) *meter {
	t.Helper()
	target, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 100}
	m := &meter{sessions: map[string][]string{}, calls: map[string]int{}, proxy: &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport:     transport,
		FlushInterval: -1,
		ErrorLog:      log.New(io.Discard, "", 0), // a call that is broken off is none
	}}
	listener := httptest.NewServer(m)
	t.Cleanup(func() {
		listener.Close()
		transport.CloseIdleConnections()
	})
	m.url = listener.URL + "/"
	return m
}

// ServeHTTP passes a request on.
func (m *meter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	var message struct {
		ID     json.RawMessage
		Method string
		Params struct{ Capabilities json.RawMessage }
	}
	_ = json.Unmarshal(body, &message) // a GET has none
	switch {
	case message.Method == "initialize":
		m.proxy.ServeHTTP(w, r)
		if id := w.Header().Get("Mcp-Session-Id"); id != "" {
			m.mu.Lock()
			defer m.mu.Unlock()
			declared := string(message.Params.Capabilities)
			m.sessions[declared] = append(m.sessions[declared], id)
		}
		return
	case message.Method == "server/discover":
		m.mu.Lock()
		m.discovered++
		m.mu.Unlock()
	case message.Method != "" && message.ID != nil:
		m.mu.Lock()
		m.calls[r.Header.Get("Mcp-Session-Id")]++
		m.mu.Unlock()
	}
	m.proxy.ServeHTTP(w, r)
}

// check checks that all calls rode on as few connections as the gateway is
// allowed, and that a modern server, which begins no sessions, was asked what
// it is no more often. Clients ask that, and begin sessions, over and over.
func (m *meter) check(t *testing.T, era string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	calls, begun := 0, 0
	for _, n := range m.calls {
		calls += n
	}
	for declared, ids := range m.sessions {
		begun += len(ids)
		if len(ids) > maxConnections {
			t.Errorf("%d sessions were begun with capabilities %s, want %d at most", len(ids), declared, maxConnections)
		}
		for _, id := range ids {
			t.Logf("a session with capabilities %s had %d calls", declared, m.calls[id])
		}
	}
	t.Logf("%d calls on %d sessions with %d sets of capabilities; server/discover was asked %d times", calls, begun, len(m.sessions), m.discovered)
	if calls == 0 {
		t.Error("no call came through")
	}
	if era == "legacy" && (len(m.sessions) == 0 || len(m.sessions) > capabilitySets || m.calls[""] > 0) {
		t.Errorf("%d sets of capabilities were declared, want 1 to %d; %d calls named no session", len(m.sessions), capabilitySets, m.calls[""])
	}
	if era == "modern" && (begun > 0 || m.discovered > maxConnections) {
		t.Errorf("a modern server began %d sessions, want none, and was asked %d times what it is, want %d at most", begun, m.discovered, maxConnections)
	}
}
