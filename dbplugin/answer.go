package dbplugin

import (
	"encoding/json"
	"fmt"
	"strings"
)

// An Answer is what a tool answered, beside what was read from it.
type Answer struct {
	// Raw is the answer's structured content as the server sent it. If it sent
	// none, Raw is its text if that is JSON, and nil otherwise; what was read
	// from the answer is then empty.
	Raw json.RawMessage `json:"-"`
	// Text is what the answer says to a reader of text, such as a model.
	Text string `json:"-"`
}

// A ToolError is a failure that a tool tells, such as SQL that does not
// compile.
type ToolError struct {
	Tool    string
	Code    string // such as UNKNOWN_OBJECT; empty if the server gives none
	Message string
	Next    string // what to do about it; empty if the server does not say
	Text    string // the whole answer as text
}

func (e *ToolError) Error() string {
	if e.Code == "" {
		return fmt.Sprintf("dbplugin: %s: %s", e.Tool, e.Message)
	}
	return fmt.Sprintf("dbplugin: %s: %s: %s", e.Tool, e.Code, e.Message)
}

// readAnswer reads the result of tools/call. The error is a *ToolError if the
// result is one.
func readAnswer(tool string, result json.RawMessage) (Answer, error) {
	var r struct {
		Content []struct {
			Type string `json:"type"`
			Text string `json:"text"`
		} `json:"content"`
		StructuredContent json.RawMessage `json:"structuredContent"`
		IsError           bool            `json:"isError"`
	}
	if err := json.Unmarshal(result, &r); err != nil {
		return Answer{}, fmt.Errorf("dbplugin: %s answered no tool result: %w", tool, err)
	}
	var texts []string
	for _, c := range r.Content {
		if c.Type == "text" {
			texts = append(texts, c.Text)
		}
	}
	a := Answer{Raw: r.StructuredContent, Text: strings.Join(texts, "\n")}
	if string(a.Raw) == "null" {
		a.Raw = nil
	}
	if trimmed := strings.TrimSpace(a.Text); a.Raw == nil && isJSON(trimmed) {
		a.Raw = json.RawMessage(trimmed)
	}
	if a.Text == "" {
		a.Text = string(a.Raw)
	}
	if r.IsError {
		return Answer{}, readError(tool, a)
	}
	return a, nil
}

// isJSON reports whether a text is a JSON object or array. A number or a word
// in quotes is a text that happens to be JSON.
func isJSON(s string) bool {
	return s != "" && (s[0] == '{' || s[0] == '[') && json.Valid([]byte(s))
}

func readError(tool string, a Answer) *ToolError {
	var said struct {
		Error struct {
			Code    string `json:"code"`
			Message string `json:"message"`
			Next    string `json:"next"`
		} `json:"error"`
	}
	if a.Raw != nil {
		_ = json.Unmarshal(a.Raw, &said) // in another form, it is told as text
	}
	e := &ToolError{Tool: tool, Code: said.Error.Code, Message: said.Error.Message, Next: said.Error.Next, Text: a.Text}
	if e.Message == "" {
		e.Message = a.Text
	}
	if e.Message == "" {
		e.Message = "failed without a message"
	}
	return e
}
