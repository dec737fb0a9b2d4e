package program_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool/dbplugin"
	"github.com/mcpool-dev/mcpool/examples/internal/exampletest"
	"github.com/mcpool-dev/mcpool/examples/internal/program"
)

func TestMain(m *testing.M) { exampletest.Main(m) }

// asked returns what the agent of a command line is asked.
func asked(t *testing.T, args ...string) (got program.Model, question string, err error) {
	t.Helper()
	a := program.Agent{Name: "test", Provider: "TEST", Model: "usual",
		Ask: func(_ context.Context, model program.Model, functions []dbplugin.Function, q string) (string, error) {
			if len(functions) == 0 {
				t.Error("no functions")
			}
			got, question = model, q
			return "an answer", nil
		}}
	var out bytes.Buffer
	err = a.Run(t.Context(), args, &out)
	if (err == nil) != (out.String() == "an answer\n") {
		t.Errorf("error %v, written %q", err, out.String())
	}
	return got, question, err
}

func TestCommandLine(t *testing.T) {
	t.Setenv("TEST_API_KEY", "key")
	t.Setenv("TEST_BASE_URL", "http://environment")
	got, question, err := asked(t, "How", "many?")
	if want := (program.Model{Name: "usual", BaseURL: "http://environment", Key: "key"}); err != nil || got != want || question != "How many?" {
		t.Errorf("got %+v, %q, %v", got, question, err)
	}
	got, _, err = asked(t, "-model", "other", "-base-url", "http://flag")
	if want := (program.Model{Name: "other", BaseURL: "http://flag", Key: "key"}); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestCommandLinesThatAreRefused(t *testing.T) {
	t.Setenv("TEST_API_KEY", "")
	if _, _, err := asked(t); err == nil || !strings.Contains(err.Error(), "TEST_API_KEY is not set") {
		t.Errorf("without a key: %v", err)
	}
	t.Setenv("TEST_API_KEY", "key")
	if _, _, err := asked(t, "-mcp", "nowhere"); err == nil {
		t.Error("a server without a scheme was taken")
	}
	t.Setenv("MCP_POOL_MAX_CONNECTIONS", "none")
	if _, _, err := asked(t); err == nil || !strings.Contains(err.Error(), "MCP_POOL_MAX_CONNECTIONS") {
		t.Errorf("a pool that makes no sense: %v", err)
	}
	if _, _, err := asked(t, "-h"); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("help: %v", err)
	}
}
