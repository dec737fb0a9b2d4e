package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

// A client speaks to a gateway as clients of its era do. It is safe for
// concurrent use once it has begun.
type client struct {
	name, principal string
	modern          bool
	caps            string // an object
	http            http.RoundTripper
	url             string

	session string // legacy
}

// whoKey has the name of the client in the context of its requests, for hooks
// where no socket is in between.
type whoKey struct{}

// An exchange is what a client wants while it waits for an answer.
type exchange struct {
	meta string // more members of _meta, each with a comma before it
	// notified is told what precedes the answer; nil for nobody.
	notified func(method string, params json.RawMessage)
	// asked answers what the server asks, under an id where the client is
	// legacy; nil if nothing may be asked.
	asked func(id json.RawMessage, method string, params json.RawMessage) (json.RawMessage, error)
	// parked is shown the state that a modern client is to go on with; nil for
	// nobody.
	parked func(params json.RawMessage) error
}

// A statusError is an answer of HTTP that is no answer of the protocol.
type statusError struct {
	status     int
	retryAfter string
	body       string
}

func (e *statusError) Error() string { return fmt.Sprintf("HTTP %d: %s", e.status, e.body) }

// begin begins a session, if that is what clients of the era do.
func (c *client) begin(ctx context.Context) error {
	if c.modern {
		return nil
	}
	frame := `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":` + c.caps +
		`,"clientInfo":{"name":"` + c.name + `","version":"1"}}}`
	response, err := c.send(ctx, http.MethodPost, []byte(frame), nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if c.session = response.Header.Get("Mcp-Session-Id"); c.session == "" {
		return c.refused(response)
	}
	_, err = io.Copy(io.Discard, response.Body)
	return err
}

// call makes a request, and those that go on with it, and returns its result.
// The error is an *rpc.Error, a *statusError, or that of the connection.
func (c *client) call(ctx context.Context, id int, method, params string, x exchange) (json.RawMessage, error) {
	for more := ""; ; {
		result, err := c.once(ctx, id, method, params, more, x)
		if err != nil || !c.modern || jsonrpc.GetString(result, "resultType") != "input_required" {
			return result, err
		}
		if more, err = c.goOn(result, x); err != nil {
			return nil, err
		}
		if x.parked != nil {
			if err := x.parked(json.RawMessage("{" + strings.TrimPrefix(params+more, ",") + "}")); err != nil {
				return nil, err
			}
		}
	}
}

// goOn answers the questions of a result, and returns the members with which
// the call goes on.
func (c *client) goOn(result json.RawMessage, x exchange) (string, error) {
	var required struct {
		InputRequests map[string]struct {
			Method string
			Params json.RawMessage
		}
		RequestState json.RawMessage
	}
	if err := json.Unmarshal(result, &required); err != nil {
		return "", err
	}
	if x.asked == nil {
		return "", fmt.Errorf("asked for %s", result)
	}
	answers := make(map[string]json.RawMessage)
	for key, question := range required.InputRequests {
		answer, err := x.asked(nil, question.Method, question.Params)
		if err != nil {
			return "", err
		}
		answers[key] = answer
	}
	raw, err := json.Marshal(answers)
	return fmt.Sprintf(`,"inputResponses":%s,"requestState":%s`, raw, required.RequestState), err
}

// once makes one request. params are members, without braces.
func (c *client) once(ctx context.Context, id int, method, params, more string, x exchange) (json.RawMessage, error) {
	meta := strings.TrimPrefix(x.meta, ",")
	if c.modern {
		meta = `"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"` + c.name +
			`","version":"1"},"io.modelcontextprotocol/clientCapabilities":` + c.caps + x.meta
	}
	members := strings.TrimPrefix(params+more+`,"_meta":{`+meta+`}`, ",")
	frame := fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":%q,"params":{%s}}`, id, method, members)
	header := http.Header{}
	if c.modern {
		header.Set("Mcp-Method", method)
		header.Set("Mcp-Protocol-Version", "2026-07-28")
		for _, name := range []string{"name", "uri"} {
			if value := jsonrpc.GetString([]byte("{"+members+"}"), name); value != "" && (method == "tools/call" || method == "resources/read") {
				header.Set("Mcp-Name", value)
			}
		}
	}
	response, err := c.send(ctx, http.MethodPost, []byte(frame), header)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	var answer *jsonrpc.Message
	if strings.HasPrefix(response.Header.Get("Content-Type"), "text/event-stream") {
		err = readEvents(response.Body, func(_ string, m *jsonrpc.Message) error {
			if m.IsResponse() {
				answer = m
				return nil
			}
			return c.during(ctx, m, x)
		})
		if err == nil && answer == nil {
			err = io.ErrUnexpectedEOF
		}
	} else {
		answer, err = readAnswer(response)
	}
	switch {
	case err != nil:
		return nil, err
	case answer.ID != nil && string(answer.ID) != strconv.Itoa(id):
		return nil, fmt.Errorf("request %d was answered as %s", id, answer.ID)
	case response.StatusCode != http.StatusOK && (answer.Error == nil || response.StatusCode == http.StatusNotFound || response.StatusCode >= 429):
		return nil, &statusError{response.StatusCode, response.Header.Get("Retry-After"), string(answer.Error)}
	case answer.Error != nil:
		return nil, answer.Failure()
	}
	return answer.Result, nil
}

// readAnswer reads a response that is one frame.
func readAnswer(response *http.Response) (*jsonrpc.Message, error) {
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	m, err := jsonrpc.Parse(body)
	if err != nil {
		return nil, &statusError{response.StatusCode, response.Header.Get("Retry-After"), string(body)}
	}
	return &m, nil
}

// during takes in what comes before the answer.
func (c *client) during(ctx context.Context, m *jsonrpc.Message, x exchange) error {
	switch {
	case m.IsNotification():
		if x.notified != nil {
			x.notified(m.Method, m.Params)
		}
		return nil
	case x.asked == nil:
		return fmt.Errorf("asked for %s %s", m.Method, m.Params)
	}
	answer, err := x.asked(m.ID, m.Method, m.Params)
	if err != nil {
		return err
	}
	return c.tell(ctx, jsonrpc.AppendResult(nil, m.ID, answer))
}

// tell sends what is answered by nothing: a notification, or an answer.
func (c *client) tell(ctx context.Context, frame []byte) error {
	response, err := c.send(ctx, http.MethodPost, frame, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusAccepted {
		return c.refused(response)
	}
	return nil
}

func (c *client) refused(response *http.Response) error {
	body, _ := io.ReadAll(response.Body)
	return &statusError{response.StatusCode, response.Header.Get("Retry-After"), string(body)}
}

// send makes one HTTP request.
func (c *client) send(ctx context.Context, verb string, frame []byte, header http.Header) (*http.Response, error) {
	r, err := http.NewRequestWithContext(context.WithValue(ctx, whoKey{}, c.name), verb, c.url, bytes.NewReader(frame))
	if err != nil {
		return nil, err
	}
	if header != nil {
		r.Header = header
	}
	r.Header.Set("X-Principal", c.principal)
	r.Header.Set("Accept", "application/json, text/event-stream")
	if verb == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
	} else {
		r.Header.Set("Accept", "text/event-stream")
	}
	if c.session != "" {
		r.Header.Set("Mcp-Session-Id", c.session)
		r.Header.Set("Mcp-Protocol-Version", "2025-11-25")
	}
	return c.http.RoundTrip(r)
}

// hear has what comes outside of calls taken in, until ctx ends: on the stream
// of a legacy session, or as the answer to subscriptions/listen for so many
// notifications. begun is called once the gateway has said that it will tell.
func (c *client) hear(ctx context.Context, notifications string, begun func(), heard func(method string, params json.RawMessage)) error {
	if c.modern {
		_, err := c.once(ctx, 1_000_000, "subscriptions/listen", `"notifications":`+notifications, "", exchange{
			notified: func(method string, params json.RawMessage) {
				if method == "notifications/subscriptions/acknowledged" {
					begun()
					return
				}
				heard(method, params)
			},
		})
		return err
	}
	response, err := c.send(ctx, http.MethodGet, nil, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return c.refused(response)
	}
	begun()
	return readEvents(response.Body, func(_ string, m *jsonrpc.Message) error {
		heard(m.Method, m.Params)
		return nil
	})
}

// readEvents reads the messages of a stream to its end.
func readEvents(body io.Reader, take func(id string, m *jsonrpc.Message) error) error {
	lines, id := bufio.NewReader(body), ""
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return nil
		}
		if err != nil {
			return err
		}
		if rest, ok := bytes.CutPrefix(line, []byte("id: ")); ok {
			id = string(bytes.TrimSpace(rest))
		}
		data, ok := bytes.CutPrefix(line, []byte("data: "))
		if !ok {
			continue
		}
		m, err := jsonrpc.Parse(data)
		if err != nil {
			return err
		}
		if err := take(id, &m); err != nil {
			return err
		}
	}
}

// fails reports whether err is an answer of the protocol with that code.
func fails(err error, code int) bool {
	var answer *rpc.Error
	return errors.As(err, &answer) && answer.Code == code
}
