package jsonrpc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/mcpool-dev/mcpool/rpc"
)

// A Message is one JSON-RPC 2.0 frame. Its members are slices of the frame,
// nil where absent.
type Message struct {
	ID     json.RawMessage // a string or a number as it was written; null counts as absent
	Method string
	Params json.RawMessage
	Result json.RawMessage
	Error  json.RawMessage
}

// IsRequest reports whether the message wants an answer.
func (m *Message) IsRequest() bool { return m.Method != "" && m.ID != nil }

// IsNotification reports whether the message wants no answer.
func (m *Message) IsNotification() bool { return m.Method != "" && m.ID == nil }

// IsResponse reports whether the message is an answer.
func (m *Message) IsResponse() bool { return m.Method == "" }

// ErrBatch is Parse's answer to an array: batches left MCP with 2025-06-18.
var ErrBatch = errors.New("JSON-RPC batches are not supported: send one message per frame")

// A SyntaxError is a frame that is not JSON, where every other error of Parse
// is a frame that is JSON and not a message.
type SyntaxError struct{ Err error }

func (e *SyntaxError) Error() string { return e.Err.Error() }
func (e *SyntaxError) Unwrap() error { return e.Err }

// Parse reads one frame: a request, a notification or a response. The error
// is a [*SyntaxError], [ErrBatch], or says what is wrong with the message; the
// ID is then returned where one was found, so that it can be answered.
func Parse(frame []byte) (Message, error) {
	var m Message
	start := skipSpace(frame, 0)
	if start < len(frame) && frame[start] != '{' {
		if err := Valid(frame); err != nil {
			return m, &SyntaxError{err}
		}
		if frame[start] == '[' {
			return m, ErrBatch
		}
		return m, errors.New("a JSON-RPC message is an object")
	}
	var version, method json.RawMessage
	var twice string
	err := object(frame, func(f member) {
		value := frame[f.valueStart:f.valueEnd:f.valueEnd]
		var to *json.RawMessage
		name := f.name(frame)
		switch string(name) {
		case "jsonrpc":
			to = &version
		case "id":
			to = &m.ID
		case "method":
			to = &method
		case "params":
			to = &m.Params
		case "result":
			to = &m.Result
		case "error":
			to = &m.Error
		default:
			return
		}
		if *to != nil {
			twice = string(name)
		}
		*to = value
	})
	if err != nil {
		return Message{}, &SyntaxError{err}
	}
	if string(m.ID) == "null" {
		m.ID = nil
	}
	if m.ID != nil && !IsID(m.ID) {
		m.ID = nil
		return m, errors.New("id is neither a string nor a number")
	}
	switch {
	case twice != "":
		// Two readers could take it for two different messages.
		return m, fmt.Errorf("%s stands twice in the message", twice)
	case string(version) != `"2.0"`:
		return m, errors.New(`jsonrpc is not "2.0"`)
	case method != nil && (method[0] != '"' || len(method) == 2):
		return m, errors.New("method is not a non-empty string")
	case m.Params != nil && m.Params[0] != '{' && string(m.Params) != "null":
		return m, errors.New("params is not an object")
	case method != nil && (m.Result != nil || m.Error != nil):
		return m, errors.New("a message with a method has a result or an error as well")
	case method == nil && (m.Result == nil) == (m.Error == nil):
		return m, errors.New("a message without a method has exactly one of result and error")
	case m.Error != nil && m.Error[0] != '{':
		return m, errors.New("error is not an object")
	}
	if string(m.Params) == "null" {
		m.Params = nil
	}
	if method != nil {
		m.Method = unquoted(method)
	}
	return m, nil
}

// IsID reports whether a JSON value can be an id or a progress token: a
// string or a number.
func IsID(value json.RawMessage) bool {
	return len(value) > 0 && (value[0] == '"' || value[0] == '-' || '0' <= value[0] && value[0] <= '9')
}

// Failure returns the error a response carries.
func (m *Message) Failure() *rpc.Error {
	e := &rpc.Error{Message: GetString(m.Error, "message")}
	if code, ok := Get(m.Error, "code"); ok {
		n, err := strconv.ParseFloat(string(code), 64)
		if err == nil {
			e.Code = int(n)
		}
	}
	if data, ok := Get(m.Error, "data"); ok {
		e.Data = bytes.Clone(data)
	}
	if e.Message == "" {
		e.Message = "the server's error has no message"
	}
	return e
}

// AppendRequest appends a request frame; with a nil id, a notification.
func AppendRequest(dst []byte, id json.RawMessage, method string, params json.RawMessage) []byte {
	dst = slices.Grow(dst, len(id)+len(method)+len(params)+len(`{"jsonrpc":"2.0","id":,"method":"","params":}`))
	dst = append(dst, `{"jsonrpc":"2.0"`...)
	if id != nil {
		dst = append(append(dst, `,"id":`...), id...)
	}
	dst = appendString(append(dst, `,"method":`...), method)
	if params != nil {
		dst = append(append(dst, `,"params":`...), params...)
	}
	return append(dst, '}')
}

// AppendResult appends a response frame that carries a result.
func AppendResult(dst []byte, id, result json.RawMessage) []byte {
	before, after := AroundResult(id, len(result))
	dst = slices.Grow(dst, len(before)+len(result)+len(after))
	return append(append(append(dst, before...), result...), after...)
}

// AroundResult returns what stands before and after a result of that size in a
// response frame. The id stands behind a large one, which [Skim] may not have
// looked through: of two ids readers take the last, and that is to be ours.
func AroundResult(id json.RawMessage, size int) (before, after []byte) {
	id = idOrNull(id)
	if size < Large {
		before = append(append([]byte(`{"jsonrpc":"2.0","id":`), id...), `,"result":`...)
		return before, []byte{'}'}
	}
	return []byte(`{"jsonrpc":"2.0","result":`), append(append([]byte(`,"id":`), id...), '}')
}

// AppendError appends a response frame that carries an error. A nil id is
// written as null, as JSON-RPC 2.0 section 5 asks where none could be read.
func AppendError(dst []byte, id json.RawMessage, e *rpc.Error) []byte {
	dst = append(append(dst, `{"jsonrpc":"2.0","id":`...), idOrNull(id)...)
	dst = strconv.AppendInt(append(dst, `,"error":{"code":`...), int64(e.Code), 10)
	dst = appendString(append(dst, `,"message":`...), e.Message)
	if len(e.Data) > 0 {
		dst = append(append(dst, `,"data":`...), e.Data...)
	}
	return append(dst, '}', '}')
}

func idOrNull(id json.RawMessage) json.RawMessage {
	if id == nil {
		return json.RawMessage("null")
	}
	return id
}
