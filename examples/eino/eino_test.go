package main

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/cloudwego/eino/compose"
	"github.com/cloudwego/eino/schema"

	"github.com/mcpool-dev/mcpool/examples/internal/exampletest"
)

func TestMain(m *testing.M) { exampletest.Main(m) }

func TestAgent(t *testing.T) { exampletest.Agent(t, agent) }

func TestAnswerThatWasCutOff(t *testing.T) {
	exampletest.Stuck(t, agent, exampletest.CutOff, `"length"`)
}

func TestEndlessCalls(t *testing.T) {
	exampletest.Stuck(t, agent, exampletest.Endless, compose.ErrExceedMaxSteps.Error())
}

func TestCallsWithoutAnAnswer(t *testing.T) {
	config := toolsNode(exampletest.Unreachable(t))
	node, err := compose.NewToolNode(t.Context(), &config)
	if err != nil {
		t.Fatal(err)
	}
	calls := schema.AssistantMessage("", []schema.ToolCall{
		{ID: "1", Type: "function", Function: schema.FunctionCall{Name: "list_database_tables", Arguments: "{}"}},
		{ID: "2", Type: "function", Function: schema.FunctionCall{Name: "drop_tables", Arguments: "{}"}},
	})
	got, err := node.Invoke(t.Context(), calls)
	if err != nil || len(got) != 2 || got[0].ToolCallID != "1" || got[1].ToolCallID != "2" {
		t.Fatalf("got %v, %v", got, err)
	}
	for i, want := range []string{exampletest.Reason, `no function "drop_tables"`} {
		if text := got[i].Content; !strings.HasPrefix(text, "error: ") || !strings.Contains(text, want) {
			t.Errorf("result %d is %q, want an error that says %q", i, text, want)
		}
	}

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := node.Invoke(ended, calls); !errors.Is(err, context.Canceled) {
		t.Errorf("once its context has ended: %v", err)
	}
}
