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
	exampletest.Stuck(t, agent, exampletest.CutOff, `"length"`)
}

func TestEndlessCalls(t *testing.T) {
	exampletest.Stuck(t, agent, exampletest.Endless, "20 turns")
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
