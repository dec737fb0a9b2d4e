package main

import (
	"strings"
	"testing"

	"github.com/tmc/langchaingo/llms"

	"github.com/mcpool-dev/mcpool/examples/internal/exampletest"
)

func TestMain(m *testing.M) { exampletest.Main(m) }

func TestAgent(t *testing.T) { exampletest.Agent(t, agent) }

func TestAnswerThatWasCutOff(t *testing.T) {
	exampletest.Stuck(t, agent, `{"choices":[{"index":0,"finish_reason":"length","message":{"role":"assistant","content":"The"}}]}`, `"length"`)
}

func TestEndlessCalls(t *testing.T) {
	exampletest.Stuck(t, agent, `{"choices":[{"index":0,"finish_reason":"tool_calls","message":{"role":"assistant",
		"tool_calls":[{"id":"1","type":"function","function":{"name":"get_database_info","arguments":"{}"}}]}}]}`, "20 turns")
}

func TestCallsWithoutAnAnswer(t *testing.T) {
	got := results(t.Context(), exampletest.Unreachable(t), []llms.ToolCall{
		{ID: "1", Type: "function", FunctionCall: &llms.FunctionCall{Name: "list_database_tables", Arguments: "{}"}},
		{ID: "2", Type: "function", FunctionCall: &llms.FunctionCall{Name: "drop_tables", Arguments: "{}"}},
	})
	if len(got) != 2 {
		t.Fatalf("got %+v", got)
	}
	for i, want := range []llms.ToolCallResponse{
		{ToolCallID: "1", Name: "list_database_tables", Content: exampletest.Reason},
		{ToolCallID: "2", Name: "drop_tables", Content: `no function "drop_tables"`},
	} {
		r, ok := got[i].Parts[0].(llms.ToolCallResponse)
		if !ok || got[i].Role != llms.ChatMessageTypeTool || r.ToolCallID != want.ToolCallID || r.Name != want.Name ||
			!strings.HasPrefix(r.Content, "error: ") || !strings.Contains(r.Content, want.Content) {
			t.Errorf("got %+v\nwant %+v", got[i], want)
		}
	}
}
