package script

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool/dbplugin"
)

var functions = []dbplugin.Function{
	{Name: "list_database_tables", Description: "List.", Parameters: json.RawMessage(`{"type":"object"}`)},
	{Name: "describe_table_schema", Description: "Describe.", Parameters: json.RawMessage(`{"type":"object","required":["table_name"]}`)},
	{Name: "execute_sql_query", Description: "Run.", Parameters: json.RawMessage(`{"type":"object","required":["query"]}`)},
}

// conversation returns a request that is as it should be, after so many turns.
func conversation(turns int) request {
	r := request{model: Model, question: Question}
	for _, f := range functions {
		r.tools = append(r.tools, tool{f.Name, f.Description, f.Parameters})
	}
	for _, step := range script[:turns] {
		var t turn
		for i, c := range step.calls {
			t.calls = append(t.calls, c)
			t.results = append(t.results, result{id: c.id, text: strings.Join(step.words[i], " ") + " 12345"})
		}
		r.turns = append(r.turns, t)
	}
	return r
}

func TestConversation(t *testing.T) {
	m := model{functions}
	for n := range len(script) {
		said, err := m.reply(conversation(n))
		if err != nil || said.answer != "" || checkCalls(said.calls, script[n].calls) != nil {
			t.Errorf("turn %d is %+v, %v", n+1, said, err)
		}
	}
	r := conversation(len(script))
	r.turns[2].results[0].isError = true // it may be said to be one: it is
	said, err := m.reply(r)
	if err != nil || said.calls != nil || !strings.Contains(said.answer, " 12345 ") {
		t.Errorf("the answer is %+v, %v", said, err)
	}
}

func TestConversationsThatAreRefused(t *testing.T) {
	m := model{functions}
	for _, test := range []struct {
		name   string
		change func(*request)
		want   string
	}{
		{"another model", func(r *request) { r.model = "gpt" }, `no model "gpt"`},
		{"another question", func(r *request) { r.question = "Why?" }, `"Why?"`},
		{"a tool is missing", func(r *request) { r.tools = r.tools[1:] }, "2 tools, want 3"},
		{"tools have changed places", func(r *request) { r.tools[0], r.tools[1] = r.tools[1], r.tools[0] }, `tool 0 is "describe_table_schema"`},
		{"no description", func(r *request) { r.tools[1].description = "" }, `the description ""`},
		{"parameters without one", func(r *request) { r.tools[1].parameters = json.RawMessage(`{"type":"object"}`) }, `the parameters {"type":"object"}`},
		{"no parameters", func(r *request) { r.tools[1].parameters = nil }, "the parameters "},
		{"a call has gone", func(r *request) { r.turns[1].calls = r.turns[1].calls[1:] }, "turn 2: the model's calls have become"},
		{"a call has another name", func(r *request) { r.turns[0].calls[0].name = "list" }, "turn 1: the model's calls have become"},
		{"a call has other arguments", func(r *request) { r.turns[2].calls[0].arguments = json.RawMessage(`{}`) }, "turn 3: the model's calls have become"},
		{"a result is missing", func(r *request) { r.turns[1].results = r.turns[1].results[1:] }, "2 results of 3 calls"},
		{"results have changed places", func(r *request) {
			r.turns[1].results[0], r.turns[1].results[1] = r.turns[1].results[1], r.turns[1].results[0]
		}, `result 0 is of call "call-products"`},
		{"results have changed texts", func(r *request) {
			r.turns[1].results[1].text, r.turns[1].results[2].text = r.turns[1].results[2].text, r.turns[1].results[1].text
		}, `call-products has no "category"`},
		{"the list has failed", func(r *request) { r.turns[0].results[0].isError = true }, "call-list is an error"},
		{"the mistake was not told", func(r *request) { r.turns[2].results[0].text = "revenue_cents 0" }, `call-mistaken has no "no such column"`},
		{"the figure is missing", func(r *request) { r.turns[3].results[0].text = "revenue_cents" }, "want one figure"},
		{"there are two figures", func(r *request) { r.turns[3].results[0].text += " 54321" }, `["12345" "54321"]`},
		{"it goes on after the answer", func(r *request) { r.turns = append(r.turns, turn{answer: "12345"}) }, "goes on"},
	} {
		r := conversation(len(script))
		test.change(&r)
		if said, err := m.reply(r); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %+v, %v\nwant an error that says %q", test.name, said, err, test.want)
		}
	}
}

func TestRequestsThatAreRefused(t *testing.T) {
	server := httptest.NewServer(Handler(functions, slog.New(slog.DiscardHandler)))
	defer server.Close()
	const openAI, anthropic = "/chat/completions", "/v1/messages"
	for _, test := range []struct {
		path, body string
		want       string
	}{
		{openAI, `{`, "unexpected end"},
		{openAI, `{"model":"` + strings.Repeat("x", maxBytes) + `"}`, "too large"},
		{openAI, `{"stream":true}`, "does not stream"},
		{openAI, `{"tools":[{"type":"custom"}]}`, `type \"custom\"`},
		{openAI, `{"messages":[{"role":"function"}]}`, `role \"function\"`},
		{openAI, `{"messages":[{"role":"tool","tool_call_id":"1"}]}`, "before any call"},
		{openAI, `{"messages":[{"role":"user","content":[{"type":"image_url"}]}]}`, `type \"image_url\"`},
		{anthropic, `{"max_tokens":1,"stream":true}`, "does not stream"},
		{anthropic, `{"messages":[]}`, "max_tokens is required"},
		{anthropic, `{"max_tokens":1,"messages":[{"role":"assistant"}]}`, `role \"assistant\", want \"user\"`},
		{anthropic, `{"max_tokens":1,"messages":[{"role":"user","content":[{"type":"tool_result"}]}]}`, `type \"tool_result\" of the user`},
		{anthropic, `{"max_tokens":1,"messages":[{"role":"user","content":[{"type":"tool_use"}]}]}`, `type \"tool_use\" of the user`},
	} {
		status, body := post(t, server.URL+test.path, test.body, Key)
		if status != http.StatusBadRequest || !strings.Contains(body, test.want) {
			t.Errorf("%s %.80s: got %d %s\nwant 400 with %q", test.path, test.body, status, body, test.want)
		}
	}
	for _, path := range []string{openAI, anthropic} {
		if status, body := post(t, server.URL+path, `{}`, "another"); status != http.StatusUnauthorized {
			t.Errorf("%s with another key: got %d %s", path, status, body)
		}
	}
}

func post(t *testing.T, url, body, key string) (status int, answer string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+key)
	request.Header.Set("X-Api-Key", key)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	read, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(read)
}
