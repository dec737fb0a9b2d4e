package dbplugin

import (
	"encoding/json"
	"fmt"
	"strings"
)

// An Answer is what a tool answered, beside what was read from it.
type Answer struct {
	// Raw is the answer's structured content as the server sent it. If it sent
	// none, Raw is its text if that is JSON, and nil otherwise.
	Raw json.RawMessage
	// Text is what the answer says to a reader of text, such as a model.
	Text string

	from *origin // nil if there was no answer
}

// An origin is what is needed of an answer to read it.
type origin struct {
	site   site
	blocks []string // of text
}

// A ToolError is a failure that a tool tells, such as SQL that does not
// compile. Servers that tell it in an answer like any other are understood, too.
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
func readAnswer(s site, tool string, result json.RawMessage) (Answer, error) {
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
	from := &origin{site: s}
	for _, c := range r.Content {
		if c.Type == "text" {
			from.blocks = append(from.blocks, c.Text)
		}
	}
	a := Answer{Text: strings.Join(from.blocks, "\n"), from: from}
	if len(r.StructuredContent) > 0 && r.StructuredContent[0] == '{' {
		a.Raw = r.StructuredContent
	} else if trimmed := strings.TrimSpace(a.Text); isJSON(trimmed) {
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

// value returns what an answer says, as readJSON and readLiteral do. The error
// is a *ToolError if it says that the tool failed.
func (a *Answer) value(tool string) (any, error) {
	if a.from.site.RowBlocks {
		return a.items(tool)
	}
	text := a.Text
	if a.Raw != nil {
		v, err := readJSON(string(a.Raw))
		if err != nil {
			return nil, anotherForm(tool, err)
		}
		o, ok := v.(object)
		switch result, isText := o.get("result").(string); {
		case !ok:
			return v, nil
		case o.failed():
			return nil, readError(tool, *a)
		case len(o) == 1 && isText: // Supabase, whose rows are in a text
			text = result
		case len(o) == 1 && isBlocks(o.get("result")): // FastMCP, which wraps blocks that a tool makes itself
		default:
			return v, nil
		}
	}
	text = strings.TrimSpace(unfence(text))
	v, err := readJSON(text)
	if quoted, ok := v.(string); ok { // Supabase before 0.6 sends the text itself as JSON
		text = strings.TrimSpace(unfence(quoted))
		v, err = readJSON(text)
	}
	if err == nil {
		return v, nil
	}
	v, err = readLiteral(text)
	switch {
	case err == nil:
		return v, nil
	case strings.HasPrefix(text, "Error") || strings.HasPrefix(text, "Database error"):
		return nil, readError(tool, *a)
	}
	return nil, anotherForm(tool, err)
}

// items returns the rows, or the items, that the blocks of an answer are.
func (a *Answer) items(tool string) (any, error) {
	items := []any{}
	for i, block := range a.from.blocks {
		if block == "null" {
			continue
		}
		item, err := readJSON(block)
		if err != nil {
			return nil, anotherForm(tool, fmt.Errorf("block %d of %d is no JSON: %.200s", i+1, len(a.from.blocks), block))
		}
		items = append(items, item)
	}
	return items, nil
}

// A formError says that an answer came, and could not be read.
type formError struct {
	tool  string
	cause error
}

func (e *formError) Error() string {
	return fmt.Sprintf("dbplugin: the answer of %s has another form: %v", e.tool, e.cause)
}

func (e *formError) Unwrap() error { return e.cause }

func anotherForm(tool string, cause error) error { return &formError{tool, cause} }

// isBlocks reports whether a value is a list of content blocks.
func isBlocks(v any) bool {
	list, _ := v.([]any)
	if len(list) == 0 {
		return false
	}
	first, _ := list[0].(object)
	_, ok := first.get("text").(string)
	return ok && first.get("type") == "text"
}

// unfence takes away what Supabase writes around data that is not trusted:
// <untrusted-data-UUID> on a line of its own, and behind the data its end.
func unfence(text string) string {
	_, rest, ok := strings.Cut(text, "<untrusted-data-")
	if !ok {
		return text
	}
	id, _, _ := strings.Cut(rest, ">")
	_, data, begins := strings.Cut(text, "\n<untrusted-data-"+id+">\n")
	data, _, ends := strings.Cut(data, "\n</untrusted-data-"+id+">")
	if !begins || !ends {
		return text
	}
	return data
}

// failed reports whether an answer in the form of some servers says that the
// tool failed.
func (o object) failed() bool {
	success, ok := o.get("success").(bool)
	return ok && !success
}

// readError reads what a tool says of its failure: {"error": {code, message,
// next}}, {"success": false, error, code}, {"success": false, message, error},
// where error is a code, or any other text.
func readError(tool string, a Answer) *ToolError {
	e := &ToolError{Tool: tool, Message: a.Text, Text: a.Text}
	v, _ := readJSON(string(a.Raw)) // in another form, it is told as text
	said, _ := v.(object)
	switch about := said.get("error").(type) {
	case object:
		e.Code, e.Next = about.text("code"), about.text("next")
		e.Message = about.text("message")
	case string:
		e.Code, e.Message = said.text("code"), about
		if message := said.text("message"); message != "" {
			e.Code, e.Message = about, message
		}
	default:
		if message := said.text("message"); said.failed() && message != "" {
			e.Message = message
		}
	}
	if e.Message == "" {
		e.Message = a.Text
	}
	if e.Message == "" {
		e.Message = "failed without a message"
	}
	return e
}
