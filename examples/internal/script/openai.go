package script

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// openAI is the API for chat completions
// (https://platform.openai.com/docs/api-reference/chat/create).
type openAI struct{}

func (openAI) key(h http.Header) string {
	key, _ := strings.CutPrefix(h.Get("Authorization"), "Bearer ")
	return key
}

// openAICall is a function call of the model.
type openAICall struct {
	ID       string `json:"id"`
	Type     string `json:"type"`
	Function struct {
		Name      string `json:"name"`
		Arguments string `json:"arguments"`
	} `json:"function"`
}

func (openAI) read(body []byte) (request, error) {
	var sent struct {
		Model  string
		Stream bool
		Tools  []struct {
			Type     string
			Function struct {
				Name, Description string
				Parameters        json.RawMessage
			}
		}
		Messages []openAIMessage
	}
	if err := json.Unmarshal(body, &sent); err != nil {
		return request{}, err
	}
	if sent.Stream {
		return request{}, errors.New("the script does not stream")
	}
	r := request{model: sent.Model}
	for _, t := range sent.Tools {
		if t.Type != "function" {
			return r, fmt.Errorf("a tool of type %q", t.Type)
		}
		r.tools = append(r.tools, tool{t.Function.Name, t.Function.Description, t.Function.Parameters})
	}
	for _, m := range sent.Messages {
		if err := r.addOpenAI(m); err != nil {
			return r, err
		}
	}
	return r, nil
}

type openAIMessage struct {
	Role       string
	Content    text
	ToolCalls  []openAICall `json:"tool_calls"`
	ToolCallID string       `json:"tool_call_id"`
}

// addOpenAI adds a message to the conversation.
func (r *request) addOpenAI(m openAIMessage) error {
	switch m.Role {
	case "system", "developer":
	case "user":
		r.question += string(m.Content)
	case "assistant":
		t := turn{answer: string(m.Content)}
		for _, c := range m.ToolCalls {
			t.calls = append(t.calls, call{c.ID, c.Function.Name, json.RawMessage(c.Function.Arguments)})
		}
		r.turns = append(r.turns, t)
	case "tool":
		if len(r.turns) == 0 {
			return errors.New("a result before any call")
		}
		last := &r.turns[len(r.turns)-1]
		last.results = append(last.results, result{id: m.ToolCallID, text: string(m.Content)})
	default:
		return fmt.Errorf("a message of role %q", m.Role)
	}
	return nil
}

func (openAI) turn(t turn) any {
	message := map[string]any{"role": "assistant", "content": nil, "refusal": nil}
	finish := "tool_calls"
	if t.calls == nil {
		message["content"], finish = t.answer, "stop"
	} else {
		calls := make([]openAICall, len(t.calls))
		for i, c := range t.calls {
			calls[i].ID, calls[i].Type = c.id, "function"
			calls[i].Function.Name, calls[i].Function.Arguments = c.name, string(c.arguments)
		}
		message["tool_calls"] = calls
	}
	return map[string]any{
		"id": "chatcmpl-scripted", "object": "chat.completion", "created": 0, "model": Model,
		"choices": []any{map[string]any{"index": 0, "message": message, "finish_reason": finish}},
		"usage":   map[string]int{"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
	}
}

func (openAI) failure(reason string) any {
	return map[string]any{"error": map[string]any{"message": reason, "type": "invalid_request_error", "param": nil, "code": nil}}
}
