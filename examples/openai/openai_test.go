package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"

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

func TestNothingSaid(t *testing.T) {
	exampletest.Stuck(t, agent, `{"choices":[]}`, "said nothing")
}

func TestCallsWithoutAnAnswer(t *testing.T) {
	var message openai.ChatCompletionMessage
	if err := json.Unmarshal([]byte(`{"role":"assistant","tool_calls":[
		{"id":"1","type":"function","function":{"name":"list_database_tables","arguments":"{}"}},
		{"id":"2","type":"function","function":{"name":"drop_tables","arguments":"{}"}}]}`), &message); err != nil {
		t.Fatal(err)
	}
	got := results(t.Context(), exampletest.Unreachable(t), message.ToolCalls)
	if len(got) != 2 || got[0].OfTool.ToolCallID != "1" || got[1].OfTool.ToolCallID != "2" {
		t.Fatalf("got %+v", got)
	}
	for i, want := range []string{exampletest.Reason, `no function "drop_tables"`} {
		if text := got[i].OfTool.Content.OfString.Value; !strings.HasPrefix(text, "error: ") || !strings.Contains(text, want) {
			t.Errorf("result %d is %q, want an error that says %q", i, text, want)
		}
	}
}
