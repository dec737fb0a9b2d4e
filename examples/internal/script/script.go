// Package script is a language model that follows a script: a server that
// speaks the APIs of OpenAI (chat completions) and Anthropic (messages), as far
// as calling functions needs them, and without streaming.
//
// It holds one conversation. It lists the tables, describes three of them at
// once, makes a mistake in a query, corrects it, and answers with the figure
// that it read. Like a model it keeps nothing: each request has the whole
// conversation, and all of it is checked each time. A request that is not as
// the API wants it, or a result that is not what the script expects of the
// database, is refused with status 400 and the reason.
package script

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/mcpool-dev/mcpool/dbplugin"
)

const (
	// Question is the one that the model can answer.
	Question = "What was the revenue from tea in the stores of the North in 2024, in cents?"
	// Model is the name that it goes by, and Key the one that it takes.
	Model = "scripted"
	Key   = "scripted"
)

// A turn is what the model said, and what came back for it.
type turn struct {
	calls   []call
	answer  string // if there are no calls
	results []result
}

type call struct {
	id        string
	name      string
	arguments json.RawMessage
}

type result struct {
	id      string // of its call
	text    string
	isError bool
}

// A tool is a definition that came with a request.
type tool struct {
	name        string
	description string
	parameters  json.RawMessage
}

// A request has the conversation so far.
type request struct {
	model    string
	tools    []tool
	question string
	turns    []turn
}

// script is what the model says, turn by turn, and which words the database's
// answer to each call has. It takes tables and columns from the sample.
var script = []struct {
	calls []call
	words [][]string
}{
	{
		calls: []call{{"call-list", "list_database_tables", json.RawMessage(`{}`)}},
		words: [][]string{{"sales", "products", "stores", "calendar"}},
	},
	{
		calls: []call{
			{"call-sales", "describe_table_schema", json.RawMessage(`{"table_name":"sales"}`)},
			{"call-products", "describe_table_schema", json.RawMessage(`{"table_name":"products"}`)},
			{"call-stores", "describe_table_schema", json.RawMessage(`{"table_name":"stores"}`)},
		},
		words: [][]string{{"amount_cents", "product_id", "store_id", "date_key"}, {"category"}, {"region"}},
	},
	{
		calls: []call{{"call-mistaken", "execute_sql_query", query("amount_cent")}},
		words: [][]string{{"no such column", "amount_cents"}}, // what is wrong, and what was meant
	},
	{
		calls: []call{{"call-corrected", "execute_sql_query", query("amount_cents")}},
		words: [][]string{{"revenue_cents"}},
	},
}

// query returns the arguments of a query for the sum of a column of sales.
func query(column string) json.RawMessage {
	arguments, _ := json.Marshal(map[string]any{"limit": 10, "query": "SELECT sum(f." + column + ") AS revenue_cents FROM sales f " +
		"JOIN products p USING (product_id) JOIN stores s USING (store_id) JOIN calendar c USING (date_key) " +
		"WHERE p.category = 'tea' AND s.region = 'North' AND c.year = 2024"})
	return arguments // of strings and a number, which always marshal
}

// A model is the scripted model, with the functions that requests have to name.
type model struct{ functions []dbplugin.Function }

// Handler returns the model's server. The base URL of both APIs is that of the
// server. Requests have to name these functions, whole. What is refused is
// logged, as not every SDK says why it was.
func Handler(functions []dbplugin.Function, log *slog.Logger) http.Handler {
	m := model{functions}
	mux := http.NewServeMux()
	mux.Handle("POST /chat/completions", serve(m, openAI{}, log))
	mux.Handle("POST /v1/messages", serve(m, anthropic{}, log))
	return mux
}

// reply returns what the model says next.
func (m model) reply(r request) (turn, error) {
	if err := m.check(r); err != nil {
		return turn{}, err
	}
	for i, t := range r.turns {
		if i == len(script) {
			return turn{}, errors.New("the conversation goes on after the answer")
		}
		if err := checkCalls(t.calls, script[i].calls); err != nil {
			return turn{}, fmt.Errorf("turn %d: %w", i+1, err)
		}
		if err := checkResults(t, script[i].words); err != nil {
			return turn{}, fmt.Errorf("turn %d: %w", i+1, err)
		}
	}
	if len(r.turns) < len(script) {
		return turn{calls: script[len(r.turns)].calls}, nil
	}
	figure, err := readFigure(r.turns[len(r.turns)-1].results[0].text)
	return turn{answer: "The revenue from tea in the North was " + figure + " cents in 2024."}, err
}

// check checks all but the turns of a request.
func (m model) check(r request) error {
	if r.model != Model {
		return fmt.Errorf("there is no model %q", r.model)
	}
	if r.question != Question {
		return fmt.Errorf("the script does not know the question %q, but %q", r.question, Question)
	}
	if len(r.tools) != len(m.functions) {
		return fmt.Errorf("%d tools, want %d", len(r.tools), len(m.functions))
	}
	for i, f := range m.functions {
		switch t := r.tools[i]; {
		case t.name != f.Name:
			return fmt.Errorf("tool %d is %q, want %q", i, t.name, f.Name)
		case t.description == "" || t.description != f.Description:
			return fmt.Errorf("tool %s has the description %q, want %q", t.name, t.description, f.Description)
		case !sameJSON(t.parameters, f.Parameters):
			return fmt.Errorf("tool %s has the parameters %s, want %s", t.name, t.parameters, f.Parameters)
		}
	}
	return nil
}

// checkCalls checks that the model's own calls came back as it made them.
func checkCalls(calls, made []call) error {
	same := func(a, b call) bool { return a.id == b.id && a.name == b.name && sameJSON(a.arguments, b.arguments) }
	if !slices.EqualFunc(calls, made, same) {
		return fmt.Errorf("the model's calls have become %s, and were %s", calls, made)
	}
	return nil
}

// String says a call in an error.
func (c call) String() string { return fmt.Sprintf("%s %s(%s)", c.id, c.name, c.arguments) }

// checkResults checks that each call has its result, and one that has the words.
func checkResults(t turn, words [][]string) error {
	if len(t.results) != len(t.calls) {
		return fmt.Errorf("%d results of %d calls", len(t.results), len(t.calls))
	}
	for i, r := range t.results {
		if r.id != t.calls[i].id {
			return fmt.Errorf("result %d is of call %q, want %q", i, r.id, t.calls[i].id)
		}
		if r.isError && !strings.HasSuffix(r.id, "-mistaken") {
			return fmt.Errorf("the result of %s is an error: %s", r.id, r.text)
		}
		for _, word := range words[i] {
			if !strings.Contains(r.text, word) {
				return fmt.Errorf("the result of %s has no %q: %s", r.id, word, r.text)
			}
		}
	}
	return nil
}

var figures = regexp.MustCompile(`\b\d{5,}\b`)

// readFigure returns the one large number of a text.
func readFigure(text string) (string, error) {
	found := figures.FindAllString(text, -1)
	if len(found) != 1 {
		return "", fmt.Errorf("want one figure, found %q in: %s", found, text)
	}
	return found[0], nil
}

func sameJSON(a, b json.RawMessage) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}
