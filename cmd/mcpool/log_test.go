package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool/config"
	"github.com/mcpool-dev/mcpool/gateway"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

// TestTheLogIsAsItIsSet has each setting of the log given in each way.
func TestTheLogIsAsItIsSet(t *testing.T) {
	const entry = `{"mcpServers": {"one": {"url": %q}}`
	url := upstream(t, &mcptest.Server{})
	for name, test := range map[string]struct {
		file                       string
		environment                map[string]string
		args                       []string
		json, debug, info, request bool
	}{
		"default":            {info: true},
		"the file":           {file: `, "log": {"level": "debug", "format": "json", "access": "all"}`, json: true, debug: true, info: true, request: true},
		"the environment":    {environment: map[string]string{"LEVEL": "warn", "FORMAT": "json", "ACCESS": "all"}, json: true},
		"flags":              {args: []string{"--log-level", "debug", "--log-format=json", "--log-access", "1"}, json: true, debug: true, info: true, request: true},
		"a level that hides": {args: []string{"--log-level", "error", "--log-access", "all"}},
		"flags beat both": {
			file: `, "log": {"level": "error", "format": "json", "access": "all"}`, environment: map[string]string{"LEVEL": "error", "FORMAT": "json", "ACCESS": "all"},
			args: []string{"--log-level", "info", "--log-format", "text", "--log-access", "off"}, info: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			for variable, value := range test.environment {
				t.Setenv("MCP_POOL_LOG_"+variable, value)
			}
			p := serve(t, append(test.args, "--config", configure(t, "mcp.json", entry+test.file+"}", url))...)
			if _, err := connect(t, web(t), p.url+"/mcp").call(t.Context(), "echo", "x"); err != nil {
				t.Fatal(err)
			}
			p.stop()
			p.end(t)
			says := p.err.String()
			if test.json {
				for line := range strings.Lines(says) {
					if !json.Valid([]byte(line)) {
						t.Errorf("a line is no JSON: %s", line)
					}
				}
			}
			for text, want := range map[string]bool{"connection opened": test.info, "request_id": test.request} {
				if strings.Contains(says, text) != want {
					t.Errorf("%q is there: %v; it says\n%s", text, !want, says)
				}
			}
		})
	}
}

func TestAccessLog(t *testing.T) {
	for share, most := range map[float64]int{0: 0, 1: 1000, 0.1: 200} {
		var out output
		l := newLogger(&out, config.Log{Format: config.LogText, Access: share})
		for range 1000 {
			l.request(gateway.Access{Status: 200})
		}
		if n := strings.Count(out.String(), "\n"); n > most || share > 0 && n < most/4 {
			t.Errorf("%d of 1000 requests have a line where the share is %v", n, share)
		}
		before := strings.Count(out.String(), "\n")
		for _, status := range []int{0, 400, 503} {
			l.request(gateway.Access{Status: status})
		}
		if n := strings.Count(out.String(), "\n") - before; share > 0 && n != 3 || share == 0 && n != 0 {
			t.Errorf("%d of 3 that failed have a line where the share is %v", n, share)
		}
	}
}

// A client's id of a request goes through to the log and back to it.
func TestARequestIsFoundInTheLog(t *testing.T) {
	p := serve(t, "--log-access", "all", "--config", behind(t, upstream(t, &mcptest.Server{})))
	resp := send(t, "POST", p.url+"/mcp/one", initializeBody, "Content-Type", "application/json", "X-Request-Id", "trace-1")
	if got := resp.Header.Get("X-Request-Id"); got != "trace-1" {
		t.Errorf("the client is told %q", got)
	}
	p.await(t, &p.err, `level=INFO msg=request request_id=trace-1 method=POST path=/mcp/one call=initialize server=one tool="" principal="" from=127\.0\.0\.1:\d+ status=200 bytes=\d+ duration=\S+\n`)
}

// TestWhatIsBesideTheGatewayIsLogged has an admin, another, and nobody use what is
// beside /mcp, and steer.
func TestWhatIsBesideTheGatewayIsLogged(t *testing.T) {
	ann, lineOfAnn := issueKey(t, "ann")
	root, lineOfRoot := issueKey(t, "root", "--admin")
	keys := configure(t, "keys", "%s\n%s\n", lineOfAnn, lineOfRoot)
	p := serve(t, "--log-access", "all", "--auth-key-file", keys, "--config", behind(t, upstream(t, &mcptest.Server{})))
	for _, test := range []struct{ method, path, key, says string }{
		{"GET", "/status", "", `path=/status call="" server="" tool="" principal="" from=127\.0\.0\.1:\d+ status=401 `},
		{"GET", "/metrics", ann, `path=/metrics [^\n]*principal=ann from=127\.0\.0\.1:\d+ status=403 `},
		{"GET", "/metrics", root, `path=/metrics [^\n]*principal=root from=127\.0\.0\.1:\d+ status=200 `},
		{"GET", "/", "", `path=/ [^\n]*principal="" from=127\.0\.0\.1:\d+ status=200 `},
		{"GET", "/admin/v1/pools", ann, `path=/admin/v1/pools [^\n]*principal=ann from=127\.0\.0\.1:\d+ status=403 `},
		{"POST", "/mcp", "x", `path=/mcp [^\n]*principal="" from=127\.0\.0\.1:\d+ status=401 `},
		{"POST", "/admin/v1/pools/one/pause", root, `level=INFO msg="steered by the admin API" path=/admin/v1/pools/one/pause principal=root from=127\.0\.0\.1:\d+\n`},
		{"POST", "/admin/v1/pools/two/pause", root, `level=WARN msg="the admin API did not do what it was told" path=/admin/v1/pools/two/pause principal=root from=\S+ error="there is no server`},
		{"POST", "/admin/v1/pools/one/resume", root, `path=/admin/v1/pools/one/resume [^\n]*principal=root from=\S+ status=200 `},
	} {
		headers := []string{"X-Mcpool-Admin", "1"}
		if test.key != "" {
			headers = append(headers, "Authorization", "Bearer "+test.key)
		}
		sendAll(t, test.method, p.url+test.path, "", headers...)
		p.await(t, &p.err, test.says)
	}
	sendAll(t, "GET", p.url+"/healthz", "")
	p.stop()
	p.end(t)
	if strings.Contains(p.err.String(), "healthz") {
		t.Error("a probe has a line")
	}
}
