package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

// doctor runs the command on one server, named one.
func doctor(t *testing.T, entry string, args ...string) (status int, found checkup, stderr string) {
	t.Helper()
	file := configure(t, "mcp.json", `{"mcpServers": {"one": %s}}`, entry)
	status, out, stderr := finish(t, append([]string{"doctor", "--config", file, "--json"}, args...)...)
	if err := json.Unmarshal([]byte(out), &found); err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, stderr)
	}
	return status, found, stderr
}

// refusing answers each request with a status.
func refusing(status int) *mcptest.Server {
	return &mcptest.Server{Fault: func(_ *http.Request, _ string, w http.ResponseWriter) bool {
		w.WriteHeader(status)
		return true
	}}
}

// having puts more members at the beginning of a JSON object.
func having(entry, members string) string { return strings.Replace(entry, "{", "{"+members+", ", 1) }

func overURL(url string) string { return fmt.Sprintf(`{"url": %q}`, url) }

func TestDoctor(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("children cannot be told to end on Windows")
	}
	w := newWitness(t)
	hung := make(chan struct{})
	t.Cleanup(func() { close(hung) })
	mute := &mcptest.Server{Fault: func(r *http.Request, _ string, _ http.ResponseWriter) bool {
		select {
		case <-hung:
		case <-r.Context().Done():
		}
		return true
	}}
	readable := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(readable, []byte("a-token"), 0o644); err != nil {
		t.Fatal(err)
	}
	limited := &mcptest.Server{Fault: func(_ *http.Request, _ string, w http.ResponseWriter) bool {
		w.Header().Set("RateLimit-Policy", `"burst";q=100;w=60`)
		return false
	}}
	for name, test := range map[string]struct {
		entry  string
		status int
		want   []string // each in what or fix of a finding of its level, as LEVEL: TEXT; none for no finding
	}{
		"well":            {entry: overURL(upstream(t, &mcptest.Server{})), want: nil},
		"well and modern": {entry: overURL(upstream(t, &mcptest.Server{Modern: true})), want: nil},
		"down":            {overURL("http://127.0.0.1:1/mcp"), 1, []string{"error: refused"}},
		"no such host":    {overURL("http://nowhere.invalid/mcp"), 1, []string{"warning: go over http", "error: nowhere.invalid"}},
		"no credentials":  {overURL(upstream(t, refusing(http.StatusUnauthorized))), 1, []string{"error: it wants credentials and has none"}},
		"bad credentials": {having(overURL(upstream(t, refusing(http.StatusUnauthorized))), `"headers": {"Authorization": "Bearer old-and-secret"}`), 1,
			[]string{"error: it does not take these credentials"}},
		"not allowed":   {overURL(upstream(t, refusing(http.StatusForbidden))), 1, []string{"error: ask for more rights"}},
		"too many":      {overURL(upstream(t, refusing(http.StatusTooManyRequests))), 1, []string{"error: it limits its callers"}},
		"another path":  {overURL(upstream(t, refusing(http.StatusNotFound))), 1, []string{"error: most servers are at /mcp"}},
		"hangs":         {overURL(upstream(t, mute)), 1, []string{"error: did not answer within 2s"}},
		"slow":          {having(overURL(upstream(t, &mcptest.Server{OpenDelay: 600 * time.Millisecond})), `"pool": {"connection_timeout": 1}`), 0, []string{"warning: raise connection_timeout to"}},
		"limits":        {overURL(upstream(t, limited)), 0, []string{`advice: RateLimit-Policy: "burst";q=100;w=60`}},
		"token to read": {having(overURL(upstream(t, &mcptest.Server{})), fmt.Sprintf(`"auth": {"bearer_file": %q}`, readable)), 0, []string{"warning: chmod 600"}},
		"no token":      {having(overURL(upstream(t, &mcptest.Server{})), `"auth": {"bearer_file": "/no/token"}`), 1, []string{"error: bearer_file /no/token is not there", "error: correct what auth names"}},
		"child":         {w.child(mcptest.Normal), 0, []string{"advice: has all clients share its processes"}},
		"shared child":  {having(w.child(mcptest.Normal), `"pool": {"sharing": "shared"}`), 0, nil},
		"dead child":    {w.child(mcptest.Dead), 1, []string{"error: exit status 3"}},
		"mute child":    {w.child(mcptest.Mute), 1, []string{"error: did not answer within 2s"}},
		"no command":    {`{"command": "no-such-command-here"}`, 1, []string{"error: install it"}},
	} {
		t.Run(name, func(t *testing.T) {
			end := mcptest.Within(t, 10*time.Second)
			status, found, stderr := doctor(t, test.entry, "--timeout=2s")
			end()
			one := found.Servers[0]
			if status != test.status {
				t.Errorf("status %d, want %d: %s", status, test.status, stderr)
			}
			if len(one.Findings) != len(test.want) {
				t.Errorf("found %+v, want %d", one.Findings, len(test.want))
			}
			for _, want := range test.want {
				level, text, _ := strings.Cut(want, ": ")
				holds := false
				for _, f := range one.Findings {
					holds = holds || f.Level == level && strings.Contains(f.What+"\n"+f.Fix, text)
				}
				if !holds {
					t.Errorf("found %+v, want %s", one.Findings, want)
				}
			}
			if text := fmt.Sprintf("%+v %s", found, stderr); strings.Contains(text, "old-and-secret") || strings.Contains(text, "a-token") {
				t.Errorf("a secret is told: %s", text)
			}
			if status == 0 && (one.Tools == 0 || one.Took.Open <= 0 || one.Took.ListTools <= 0 || one.Took.Handshake <= 0) {
				t.Errorf("%d tools, %+v", one.Tools, one.Took)
			}
		})
	}
}

// TestDoctorTellsTheParts holds that an opening is divided, and what else is
// seen of a server over https.
func TestDoctorTellsTheParts(t *testing.T) {
	authority := mcptest.NewAuthority(t)
	for name, test := range map[string]struct {
		left   time.Duration // of the certificate
		trusts bool
		want   string
	}{
		"good":      {90 * 24 * time.Hour, true, ""},
		"ends soon": {72*time.Hour + time.Minute, true, "warning: in 3 days"},
		"is over":   {-time.Minute, true, "error: renew the certificate"},
		"unknown":   {90 * 24 * time.Hour, false, "error: name its authority as ca_file"},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewUnstartedServer(&mcptest.Server{OpenDelay: 50 * time.Millisecond})
			s.TLS = &tls.Config{Certificates: []tls.Certificate{*authority.Issue(t, "server.test", func(c *x509.Certificate) {
				c.NotAfter = time.Now().Add(test.left)
			})}}
			s.Config.ErrorLog = log.New(io.Discard, "", 0)
			s.StartTLS()
			defer s.Close()
			entry := overURL(s.URL)
			if test.trusts {
				entry = having(entry, fmt.Sprintf(`"ca_file": %q`, authority.CAFile(t)))
			}
			_, found, _ := doctor(t, entry, "--timeout=10s")
			one := found.Servers[0]
			told := ""
			for _, f := range one.Findings {
				told += f.Level + ": " + f.What + "; " + f.Fix + "\n"
			}
			level, text, _ := strings.Cut(test.want, ": ")
			if test.want == "" && told != "" || !strings.Contains(told, level) || !strings.Contains(told, text) {
				t.Errorf("found %q, want %q", told, test.want)
			}
			if level == "error" {
				return
			}
			parts := one.Took
			if parts.TCP <= 0 || parts.TLS <= 0 || parts.Handshake < 0.05 || parts.TCP+parts.TLS+parts.DNS+parts.Handshake > parts.Open*1.001 {
				t.Errorf("the parts are %+v", parts)
			}
			if !one.SessionID || one.Expires == nil || one.Era != "legacy" || one.ServerName != "mcptest" {
				t.Errorf("found %+v", one)
			}
		})
	}
}

func TestDoctorOfDatabases(t *testing.T) {
	file := configure(t, "mcp.json", `{"databases": {"sales": {"dsn": "sample"}, "missing": {"dsn": "/no/such.db"}}, "limits": {"max_connections": 3}}`)
	status, out, stderr := finish(t, "doctor", "--config", file)
	for _, want := range []string{
		"sales: sqlite", "reading only: proven by a write that was refused",
		"error: database missing: DATABASE_UNREACHABLE", "limits.max_connections of 3 is less than", "\n    do: ",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q, but\n%s", want, out)
		}
	}
	if status != 1 || !strings.Contains(stderr, "mcpool: error: 1 of 1 server: something is wrong") {
		t.Errorf("status %d: %s", status, stderr)
	}
	if status, out, stderr := finish(t, "doctor"); status != 0 || !strings.HasPrefix(out, "sales ") {
		t.Errorf("of the sample: status %d: %s%s", status, out, stderr)
	}
	if status, _, stderr := finish(t, "doctor", "other"); status != 2 || !strings.Contains(stderr, `there is no server "other"`) {
		t.Errorf("of none: status %d: %s", status, stderr)
	}
}

// TestDoctorSaysWhatItWaitsFor holds that it shows progress where something takes
// longer than a second.
func TestDoctorSaysWhatItWaitsFor(t *testing.T) {
	_, _, stderr := doctor(t, overURL(upstream(t, &mcptest.Server{OpenDelay: 1500 * time.Millisecond})))
	if stderr != "mcpool: checking one\n" {
		t.Errorf("it says %q", stderr)
	}
}

// TestDoctorGivesEachServerItsTime holds that servers that say nothing take no
// time from those behind them.
func TestDoctorGivesEachServerItsTime(t *testing.T) {
	mute := upstream(t, &mcptest.Server{Fault: func(r *http.Request, _ string, _ http.ResponseWriter) bool {
		<-r.Context().Done()
		return true
	}})
	servers := ""
	for i := range examinedAtOnce {
		servers += fmt.Sprintf(`"mute%d": {"url": %q}, `, i, mute)
	}
	file := configure(t, "mcp.json", `{"mcpServers": {%s"good": {"url": %q}}}`, servers, upstream(t, &mcptest.Server{}))
	status, out, _ := finish(t, "doctor", "--config", file, "--timeout", "3s")
	if status != 1 || strings.Count(out, "did not answer within 3s") != examinedAtOnce || !strings.Contains(out, "\ngood   ok  ") {
		t.Errorf("status %d: %s", status, out)
	}
}
