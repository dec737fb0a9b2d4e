//go:build unix

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

const (
	raise  = "UPDATE orders SET total = 7 WHERE customer_id = 2"
	raised = "SELECT count(*) FROM orders WHERE total = 7"
)

// writing serves a base for writing by its owner, and reading by the role that
// only reads.
func (b *base) writing(t testing.TB) string {
	return configureDatabases(t, map[string]any{"shop": b.entry(t, object{"mode": "write", "write_dsn": b.owner})}, nil)
}

// holdsNothing checks that no transaction is open, once that of the call before
// has ended.
func (b *base) holdsNothing(t *testing.T) {
	t.Helper()
	if b.open == nil {
		return // the write of a test that follows would find a lock
	}
	for deadline := time.Now().Add(patience); b.open() > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("%d transactions are open", b.open())
			return
		}
	}
}

// TestWritingIsConfirmedByAPerson has clients of both eras that can ask a person
// write, on each engine. While the person thinks the database holds nothing.
func TestWritingIsConfirmedByAPerson(t *testing.T) {
	onEngines(t, func(t *testing.T, b *base) {
		onTransports(t, func(t *testing.T, open opener) {
			for answer, want := range map[string]int{"accept": 3, "not ticked": 0, "decline": 0, "cancel": 0} {
				b.exec("UPDATE orders SET total = 1")
				asked := 0
				s := open(&mcp.ClientOptions{ElicitationHandler: func(_ context.Context, r *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
					asked++
					if !strings.Contains(r.Params.Message, raise) || !strings.Contains(r.Params.Message, "3 rows") {
						t.Errorf("asked %q", r.Params.Message)
					}
					b.holdsNothing(t)
					b.exec("UPDATE orders SET total = 2 WHERE customer_id = 2") // would wait for a lock
					if answer == "not ticked" {
						return &mcp.ElicitResult{Action: "accept", Content: object{"commit": false}}, nil
					}
					return &mcp.ElicitResult{Action: answer, Content: object{"commit": true}}, nil
				}}, "--config", b.writing(t))
				if want > 0 {
					if got := s.want(t, "write_data", object{"query": raise}); !got.Committed || got.Affected != want || got.Token != "" {
						t.Errorf("%s: %s", answer, got.raw)
					}
				} else {
					s.fail(t, "CONFIRMATION_REQUIRED", "write_data", object{"query": raise})
				}
				if asked != 1 {
					t.Errorf("%s: asked %d times", answer, asked)
				}
				if got := count(t, b.exec(raised)); got != want {
					t.Errorf("%s: %d rows are changed, want %d", answer, got, want)
				}
			}
		})
	})
}

// TestWritingByAToken has clients write that can ask nobody.
func TestWritingByAToken(t *testing.T) {
	onEngines(t, func(t *testing.T, b *base) {
		onTransports(t, func(t *testing.T, open opener) {
			b.exec("UPDATE orders SET total = 1")
			s := open(&mcp.ClientOptions{Capabilities: &mcp.ClientCapabilities{}}, "--config", b.writing(t))
			preview := s.want(t, "write_data", object{"query": raise})
			if preview.Committed || preview.Affected != 3 || preview.Token == "" {
				t.Fatalf("the preview is %s", preview.raw)
			}
			if got := count(t, b.exec(raised)); got != 0 {
				t.Errorf("the preview has changed %d rows", got)
			}
			b.holdsNothing(t)
			s.fail(t, "CONFIRMATION_REQUIRED", "write_data", object{"query": raise + " OR 1 = 1", "token": preview.Token})
			if got := s.want(t, "write_data", object{"query": raise, "token": preview.Token}); !got.Committed || got.Affected != 3 {
				t.Errorf("committed %s", got.raw)
			}
			if got := count(t, b.exec(raised)); got != 3 {
				t.Errorf("%d rows are changed", got)
			}
			s.fail(t, "CONFIRMATION_REQUIRED", "write_data", object{"query": raise, "token": preview.Token})
			if got := s.want(t, "read_data", object{"query": raised}); string(got.Rows) != "[[3]]" {
				t.Errorf("read %s behind the commit", got.Rows)
			}
			s.fail(t, "READ_ONLY_VIOLATION", "read_data", object{"query": raise})
			if got := s.call(t, "write_data", object{"query": "DELETE FROM orders"}); !got.isError || got.Error.Next == "" {
				t.Errorf("without WHERE: %s", got.text)
			}
			if got := s.call(t, "write_data", object{"query": "DROP TABLE numbers"}); !got.isError || got.Error.Next == "" {
				t.Errorf("a change of the schema: %s", got.text)
			}
		})
	})
}

// TestWritingIsConfirmedInTwoRounds looks at what a modern client is answered:
// input_required, and then the result (MCP 2026-07-28, basic/patterns/mrtr).
func TestWritingIsConfirmedInTwoRounds(t *testing.T) {
	onEngines(t, func(t *testing.T, b *base) {
		p := serveDB(t, "--config", b.writing(t))
		h := web(t)
		call := func(capabilities string, more object) *modernAnswer {
			t.Helper()
			a, err := modernly(t.Context(), h, p.url+"/mcp", capabilities, "write_data", object{"query": raise}, more)
			if err != nil || a.Error != nil || a.status != 200 {
				t.Fatalf("%v, %+v", err, a)
			}
			return a
		}
		for answer, want := range map[string]int{`{"action":"accept","content":{"commit":true}}`: 3, `{"action":"decline"}`: 0} {
			b.exec("UPDATE orders SET total = 1")
			first := call(`{"elicitation":{}}`, nil)
			if first.Result.ResultType != "input_required" || len(first.Result.InputRequests) != 1 || first.Result.RequestState == "" {
				t.Fatalf("answered %s", first.body)
			}
			b.holdsNothing(t)
			responses := object{}
			for key, request := range first.Result.InputRequests {
				if request.Method != "elicitation/create" || !strings.Contains(string(request.Params), "requestedSchema") {
					t.Errorf("asked %s %s", request.Method, request.Params)
				}
				responses[key] = json.RawMessage(answer)
			}
			second := call(`{"elicitation":{}}`, object{"inputResponses": responses, "requestState": first.Result.RequestState})
			if second.Result.ResultType != "complete" || second.Result.StructuredContent.Committed != (want > 0) || second.Result.IsError != (want == 0) {
				t.Errorf("%s: answered %s", answer, second.body)
			}
			if got := count(t, b.exec(raised)); got != want {
				t.Errorf("%s: %d rows are changed, want %d", answer, got, want)
			}
		}
		if a := call(`{}`, nil); a.Result.ResultType != "complete" || a.Result.StructuredContent.Token == "" {
			t.Errorf("without capabilities: %s", a.body)
		}
	})
}

// TestTheDatabaseIsAHeaderToo holds what MCP 2026-07-28 says of arguments that
// are headers (basic/transports/streamable-http, "Custom Headers from Tool
// Parameters").
func TestTheDatabaseIsAHeaderToo(t *testing.T) {
	a, b := newSQLite(t), newSQLite(t)
	b.exec("DELETE FROM orders")
	p := serveDB(t, "--dsn", "full="+a.dsn, "--dsn", "empty="+b.dsn)
	h := web(t)
	// Which arguments are headers is looked up for the first call that has one.
	if _, err := modernly(t.Context(), h, p.url+"/mcp", `{}`, "read_data", object{"database": "full", "query": "SELECT 1"}, nil, "Mcp-Param-Database: full"); err != nil {
		t.Fatal(err)
	}
	for header, rows := range map[string]string{
		"Mcp-Param-Database: full":                "[[5]]",
		"mcp-param-database: full":                "[[5]]",
		"Mcp-Param-Database: =?base64?ZnVsbA==?=": "[[5]]",
		"Mcp-Param-Database: empty":               "",
		"Mcp-Param-Database: ":                    "",
		"X-Other: no such header":                 "",
		"Mcp-Param-Database: full, empty":         "",
		"Mcp-Param-Database: =?base64?ZW1wdHk=?=": "",
	} {
		got, err := modernly(t.Context(), h, p.url+"/mcp", `{}`, "read_data", object{"database": "full", "query": "SELECT count(*) FROM orders"}, nil, header)
		switch {
		case err != nil:
			t.Errorf("%s: %v", header, err)
		case rows != "" && (got.Error != nil || string(got.Result.StructuredContent.Rows) != rows):
			t.Errorf("%s: answered %s", header, got.body)
		case rows == "" && (got.status != 400 || got.Error == nil || got.Error.Code != -32020):
			t.Errorf("%s: status %d, answered %s", header, got.status, got.body)
		}
	}
	// One database needs no argument, and has no header.
	one := serveDB(t, "--dsn", a.dsn)
	got, err := modernly(t.Context(), h, one.url+"/mcp", `{}`, "read_data", object{"query": "SELECT count(*) FROM orders"}, nil)
	if err != nil || fmt.Sprint(string(got.Result.StructuredContent.Rows)) != "[[5]]" {
		t.Errorf("%+v, %v", got, err)
	}
}
