package script

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// anthropic is the API for messages
// (https://docs.anthropic.com/en/api/messages).
type anthropic struct{}

func (anthropic) key(h http.Header) string { return h.Get("X-Api-Key") }

// A block is a part of a message.
type block struct {
	Type string `json:"type"`
	Text string `json:"text"`
	// Of tool_use.
	ID    string          `json:"id"`
	Name  string          `json:"name"`
	Input json.RawMessage `json:"input"`
	// Of tool_result.
	ToolUseID string `json:"tool_use_id"`
	Content   text   `json:"content"`
	IsError   bool   `json:"is_error"`
}

func (anthropic) read(body []byte) (request, error) {
	var sent struct {
		Model     string
		MaxTokens int `json:"max_tokens"`
		Stream    bool
		Tools     []struct {
			Name, Description string
			InputSchema       json.RawMessage `json:"input_schema"`
		}
		Messages []anthropicMessage
	}
	if err := json.Unmarshal(body, &sent); err != nil {
		return request{}, err
	}
	if sent.Stream {
		return request{}, errors.New("the script does not stream")
	}
	if sent.MaxTokens < 1 {
		return request{}, errors.New("max_tokens is required")
	}
	r := request{model: sent.Model}
	for _, t := range sent.Tools {
		r.tools = append(r.tools, tool{t.Name, t.Description, t.InputSchema})
	}
	for i, m := range sent.Messages {
		if want := []string{"user", "assistant"}[i%2]; m.Role != want {
			return r, fmt.Errorf("message %d is of role %q, want %q", i, m.Role, want)
		}
		if m.Role == "assistant" {
			r.turns = append(r.turns, turn{})
		}
		for _, b := range m.Content {
			if err := r.addAnthropic(m.Role, b); err != nil {
				return r, err
			}
		}
	}
	return r, nil
}

type anthropicMessage struct {
	Role    string
	Content []block
}

// addAnthropic adds a block of a message to the conversation.
func (r *request) addAnthropic(role string, b block) error {
	var last *turn
	if len(r.turns) > 0 {
		last = &r.turns[len(r.turns)-1]
	}
	switch of := role + " " + b.Type; {
	case of == "user text" && last == nil:
		r.question += b.Text
	case of == "assistant text":
		last.answer += b.Text
	case of == "assistant tool_use":
		last.calls = append(last.calls, call{b.ID, b.Name, b.Input})
	case of == "user tool_result" && last != nil:
		last.results = append(last.results, result{b.ToolUseID, string(b.Content), b.IsError})
	default:
		return fmt.Errorf("a block of type %q of the %s, which has no place there", b.Type, role)
	}
	return nil
}

func (anthropic) turn(t turn) any {
	type object = map[string]any
	content, stop := []any{}, "tool_use"
	if t.calls == nil {
		content, stop = append(content, object{"type": "text", "text": t.answer}), "end_turn"
	}
	for _, c := range t.calls {
		content = append(content, object{"type": "tool_use", "id": c.id, "name": c.name, "input": c.arguments})
	}
	return object{
		"id": "msg_scripted", "type": "message", "role": "assistant", "model": Model,
		"content": content, "stop_reason": stop, "stop_sequence": nil,
		"usage": map[string]int{"input_tokens": 0, "output_tokens": 0},
	}
}

func (anthropic) failure(reason string) any {
	return map[string]any{"type": "error", "error": map[string]any{"type": "invalid_request_error", "message": reason}}
}
