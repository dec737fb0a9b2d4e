package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"

	"github.com/mcpool-dev/mcpool/examples/internal/exampletest"
)

func TestMain(m *testing.M) { exampletest.Main(m) }

func TestAgent(t *testing.T) { exampletest.Agent(t, agent) }

func TestAnswerThatWasCutOff(t *testing.T) {
	exampletest.Stuck(t, agent, `{"role":"assistant","stop_reason":"max_tokens","content":[{"type":"text","text":"The"}]}`, `"max_tokens"`)
}

func TestEndlessCalls(t *testing.T) {
	exampletest.Stuck(t, agent, `{"role":"assistant","stop_reason":"tool_use",
		"content":[{"type":"tool_use","id":"1","name":"get_database_info","input":{}}]}`, "20 turns")
}

func TestCallsWithoutAnAnswer(t *testing.T) {
	var message anthropic.Message
	if err := json.Unmarshal([]byte(`{"role":"assistant","content":[{"type":"text","text":"Let me see."},
		{"type":"tool_use","id":"1","name":"list_database_tables","input":{}},
		{"type":"tool_use","id":"2","name":"drop_tables","input":{}}]}`), &message); err != nil {
		t.Fatal(err)
	}
	got := results(t.Context(), exampletest.Unreachable(t), &message)
	if len(got) != 2 || got[0].OfToolResult.ToolUseID != "1" || got[1].OfToolResult.ToolUseID != "2" {
		t.Fatalf("got %+v", got)
	}
	for i, want := range []string{exampletest.Reason, `no function "drop_tables"`} {
		r := got[i].OfToolResult
		if text := r.Content[0].OfText.Text; !r.IsError.Value || !strings.Contains(text, want) {
			t.Errorf("result %d is %q, is_error %t, want an error that says %q", i, text, r.IsError.Value, want)
		}
	}
}
