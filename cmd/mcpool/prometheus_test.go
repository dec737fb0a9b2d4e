package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

// deploy is the folder of what a user has Prometheus and Grafana do.
const deploy = "../../deploy/"

// A rule is an alert.
type rule struct {
	Alert       string
	Expr        string
	Annotations map[string]string
}

func alerts(t *testing.T) []rule {
	t.Helper()
	text, err := os.ReadFile(deploy + "prometheus/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct{ Rules []rule }
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Groups) != 1 || len(file.Groups[0].Rules) == 0 {
		t.Fatalf("got %+v", file)
	}
	return file.Groups[0].Rules
}

// figure is the expression of an alert without what it is held against.
func (r *rule) figure(t *testing.T) string {
	match := regexp.MustCompile(`(?s)^(.*\S)\s+(?:==|>|<)\s+[0-9.]+\s*$`).FindStringSubmatch(r.Expr)
	if match == nil {
		t.Fatalf("%s: %q is no figure against a threshold", r.Alert, r.Expr)
	}
	return match[1]
}

// queries are those of the panels of the dashboard, by title and letter, with
// all instances and servers chosen.
func queries(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(deploy + "grafana/mcpool.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			Type, Title, Description string
			Targets                  []struct{ RefID, Expr string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	all := make(map[string]string)
	chosen := strings.NewReplacer("$instance", ".*", "$server", ".*", "$__rate_interval", "10s", "$__range", "1h")
	for _, p := range board.Panels {
		if p.Type == "row" {
			continue
		}
		if p.Description == "" || len(p.Targets) == 0 {
			t.Errorf("panel %q lacks a description or a query", p.Title)
		}
		for _, target := range p.Targets {
			all[p.Title+" "+target.RefID] = chosen.Replace(target.Expr)
			if expr := all[p.Title+" "+target.RefID]; strings.Contains(expr, "$") {
				t.Errorf("panel %q has a variable that is not known: %s", p.Title, expr)
			}
		}
	}
	return all
}

// promtool checks a file with the tool of that name.
func promtool(t *testing.T, what, file string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "promtool", "check", what, file).CombinedOutput()
	if err != nil {
		t.Errorf("promtool check %s %s: %v\n%s", what, file, err, out)
	}
}

// TestPrometheusScrapesItAndQueriesReturnData has a real Prometheus scrape a
// gateway under load each second, with the rules and the scrape configuration of
// deploy, and asks it all that the dashboard and the alerts ask.
func TestPrometheusScrapesItAndQueriesReturnData(t *testing.T) {
	for _, program := range []string{"prometheus", "promtool"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed (Debian: apt-get install prometheus)", program)
		}
	}
	promtool(t, "rules", deploy+"prometheus/alerts.yml")
	promtool(t, "config", deploy+"prometheus/prometheus.yml")

	server := &mcptest.Server{CallDelay: 20 * time.Millisecond}
	p := serve(t, "--config", configure(t, "mcp.json", `{
		"mcpServers": {
			"one": {"url": %q, "pool": {"max_connections": 2, "calls_per_connection": 1, "sharing": "shared"}},
			"gone": {"url": "http://127.0.0.1:1/mcp", "pool": {"connection_timeout": "300ms"}}
		},
		"databases": {"sales": {"dsn": "sample", "max_connections": 2, "max_rows": 20}},
		"database_server": {"name": "db"}
	}`, upstream(t, server)))
	keepBusy(t, p.url)
	at := startPrometheus(t, strings.TrimPrefix(p.url, "http://"))

	await := func(query string) {
		t.Helper()
		for deadline := time.Now().Add(2 * patience); ; time.Sleep(200 * time.Millisecond) {
			if result, err := at.ask(query); err == nil && len(result) > 0 {
				return
			} else if time.Now().After(deadline) {
				t.Fatalf("%s returns no data: %v", query, err)
			}
		}
	}
	await(`count_over_time(up{job="mcpool"}[1m]) >= 5`)
	for _, r := range alerts(t) {
		t.Run(r.Alert, func(t *testing.T) {
			if _, err := at.ask(r.Expr); err != nil {
				t.Errorf("%s: %v", r.Expr, err)
			}
			await(r.figure(t))
			if r.Annotations["summary"] == "" || r.Annotations["action"] == "" {
				t.Error("it does not say what is wrong, or what to do")
			}
		})
	}
	for name, query := range queries(t) {
		t.Run(name, func(t *testing.T) { await(query) })
	}
	at.rulesAreHealthy(t)
}

// keepBusy calls servers and a database until the test is over: with results, with
// errors of each kind, and more at once than there is room for.
func keepBusy(t *testing.T, gateway string) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	t.Cleanup(func() { cancel(); all.Wait() })
	h := web(t)
	call := func(c *client, tool string, arguments map[string]any) {
		// Some are to fail; what comes of them is in the metrics.
		_, _ = c.request(ctx, "tools/call", map[string]any{"name": tool, "arguments": arguments})
	}
	for i := range 4 {
		c := connect(t, h, gateway+"/mcp")
		all.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				call(c, "one__echo", map[string]any{"id": fmt.Sprint(i, n), "text": "x"})
				call(c, "one__verbatim", map[string]any{"id": "e", "text": "it fails"})
				call(c, "db__read_data", map[string]any{"query": "SELECT * FROM sales LIMIT 200"})
				call(c, "db__read_data", map[string]any{"query": "SELEKT"})
				if i == 0 {
					call(c, "gone__x", map[string]any{})
				}
			}
		})
	}
}

// A prometheus is one that runs, by its URL.
type prometheus string

// startPrometheus starts a Prometheus that scrapes a gateway each second, until
// the test ends.
func startPrometheus(t *testing.T, target string) prometheus {
	t.Helper()
	text, err := os.ReadFile(deploy + "prometheus/prometheus.yml")
	if err != nil {
		t.Fatal(err)
	}
	rules, err := filepath.Abs(deploy + "prometheus/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	config := string(text)
	for was, is := range map[string]string{"scrape_interval: 15s": "scrape_interval: 1s", "evaluation_interval: 15s": "evaluation_interval: 1s",
		"- alerts.yml": "- " + rules, "127.0.0.1:7432": target} {
		if strings.Count(config, was) != 1 {
			t.Fatalf("deploy/prometheus/prometheus.yml does not have %q once", was)
		}
		config = strings.Replace(config, was, is, 1)
	}
	listener, err := net.Listen("tcp", somewhere)
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close() // it cannot be handed one that listens
	var out output
	cmd := exec.Command("prometheus", "--config.file="+configure(t, "prometheus.yml", "%s", config),
		"--storage.tsdb.path="+t.TempDir(), "--web.listen-address="+address, "--log.level=warn")
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // fails if it has ended
		_ = cmd.Wait()         // it was killed
	})
	at := prometheus("http://" + address)
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		if response, err := http.Get(string(at) + "/-/ready"); err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return at
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("Prometheus is not ready: %s", &out)
		}
	}
}

// ask evaluates a query now, and returns the series that it finds.
func (at prometheus) ask(query string) ([]json.RawMessage, error) {
	var answer struct {
		Result []json.RawMessage
	}
	err := at.get("/api/v1/query?query="+url.QueryEscape(query), &answer)
	return answer.Result, err
}

func (at prometheus) get(path string, data any) error {
	response, err := http.Get(string(at) + path)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return err
	}
	if answer.Status != "success" {
		return fmt.Errorf("%s: %s", answer.Status, answer.Error)
	}
	return json.Unmarshal(answer.Data, data)
}

// rulesAreHealthy checks that Prometheus could evaluate each rule.
func (at prometheus) rulesAreHealthy(t *testing.T) {
	t.Helper()
	var answer struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError string }
		}
	}
	if err := at.get("/api/v1/rules", &answer); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, group := range answer.Groups {
		for _, r := range group.Rules {
			if n++; r.Health != "ok" {
				t.Errorf("rule %s is %s: %s", r.Name, r.Health, r.LastError)
			}
		}
	}
	if want := len(alerts(t)); n != want {
		t.Errorf("Prometheus has %d rules, want %d", n, want)
	}
}
