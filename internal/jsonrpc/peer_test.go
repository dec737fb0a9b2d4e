package jsonrpc

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	sdk "github.com/modelcontextprotocol/go-sdk/jsonrpc"

	"github.com/mcpool-dev/mcpool/rpc"
)

// differs says why go-sdk may refuse a frame that we accept, or "".
func differs(frame []byte, m *Message) string {
	var e struct {
		Code    *int64
		Message *string
	}
	switch {
	case m.IsResponse() && m.ID == nil:
		return "go-sdk wants an id in each response, JSON-RPC 2.0 allows null where none could be read"
	case m.Error != nil && json.Unmarshal(m.Error, &e) != nil:
		return "go-sdk wants a code that is an integer and a message that is a string"
	case depth(frame) > 1000:
		return "go-sdk reads 1000 levels, we 10000"
	case m.ID != nil && m.ID[0] != '"':
		if _, err := strconv.ParseFloat(string(m.ID), 64); err != nil {
			return "the id is a number beyond what a float64 holds"
		}
	}
	return ""
}

// laxer says why we may refuse a frame that go-sdk accepts, by what we say.
var laxer = []string{
	"stands twice in the message",                   // go-sdk takes the last
	"method is not a non-empty string",              // go-sdk takes an empty one, and null for one
	"params is not an object",                       // JSON-RPC allows an array, MCP does not
	"a message with a method has a result or an",    // go-sdk drops the result
	"a message without a method has exactly one of", // go-sdk takes a response without either, or with both
	"error is not an object",                        // go-sdk takes null for none
	"id is neither a string nor a number",
}

func depth(frame []byte) int {
	deep, deepest := 0, 0
	for _, b := range frame {
		switch b {
		case '{', '[':
			deep++
			deepest = max(deepest, deep)
		case '}', ']':
			deep--
		}
	}
	return deepest
}

// Parse and go-sdk agree on what a message is and on all that is in it, but
// for the differences that are listed, and each reads what the other writes.
func FuzzParseAgainstSDK(f *testing.F) {
	for _, seed := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"n":9007199254740993,"f":1.10}}}`,
		`{"jsonrpc":"2.0","id":9007199254740993,"result":{"content":[]}}`,
		`{"jsonrpc":"2.0","id":1.5,"result":null}`,
		`{"jsonrpc":"2.0","id":1e400,"result":{}}`,
		`{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"\u00e9"}}`,
		`{"jsonrpc":"2.0","id":"x","error":{"code":1.5,"message":7,"data":[1, 2]}}`,
		`{"jsonrpc":"2.0","id":"","error":{}}`,
		`{"jsonrpc":"2.0","method":"n","params":null}`, `{"jsonrpc":"2.0","method":"n","params":[1]}`,
		`{"jsonrpc":"2.0","id":1,"\u0069d":2,"method":"a"}`, `{"jsonrpc":"2.0","ID":1,"method":"a"}`,
		`{"jsonrpc":"2.0","id":1}`, `{"jsonrpc":"2.0","id":1,"result":{},"error":{}}`, `{"jsonrpc":"2.0","id":1,"method":""}`,
		`[{"jsonrpc":"2.0","method":"n"}]`, `{"jsonrpc":"2.0","method":"n"} x`, ` null `, `{`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		if !utf8.Valid(frame) { // go-sdk replaces what is not UTF-8
			return
		}
		ours, err := Parse(frame)
		theirs, refused := sdk.DecodeMessage(frame)
		syntax := (*SyntaxError)(nil)
		switch {
		case errors.As(err, &syntax): // as FuzzParse shows, encoding/json says so too
			return
		case err != nil && refused == nil:
			for _, known := range laxer {
				if strings.Contains(err.Error(), known) {
					return
				}
			}
			t.Fatalf("%q: go-sdk has read %+v, we say %v", frame, theirs, err)
		case err != nil:
			return
		case refused != nil:
			if differs(frame, &ours) == "" {
				t.Fatalf("%q: go-sdk says %v", frame, refused)
			}
			return
		}
		same(t, frame, &ours, theirs)

		written, err := sdk.EncodeMessage(theirs)
		if err != nil {
			t.Fatalf("%q: %v", frame, err)
		}
		if again, err := Parse(written); err == nil {
			same(t, written, &again, theirs)
		} else if _, response := theirs.(*sdk.Response); !response || string(ours.Result) != "null" {
			t.Fatalf("go-sdk wrote %s: %v", written, err)
		}
		if again, err := sdk.DecodeMessage(write(&ours)); err != nil {
			t.Fatalf("we wrote %s: %v", write(&ours), err)
		} else {
			same(t, frame, &ours, again)
		}
	})
}

// write writes a message as we do.
func write(m *Message) []byte {
	switch {
	case m.Error != nil:
		return AppendError(nil, m.ID, m.Failure())
	case m.IsResponse():
		return AppendResult(nil, m.ID, m.Result)
	}
	return AppendRequest(nil, m.ID, m.Method, m.Params)
}

// same checks that two readers have read the same message.
func same(t *testing.T, frame []byte, ours *Message, theirs sdk.Message) {
	t.Helper()
	var id any
	switch theirs := theirs.(type) {
	case *sdk.Request:
		id = theirs.ID.Raw()
		if ours.Method != theirs.Method || theirs.IsCall() != ours.IsRequest() || !equal(ours.Params, theirs.Params) {
			t.Errorf("%q: we have read %s %s, go-sdk %s %s", frame, ours.Method, ours.Params, theirs.Method, theirs.Params)
		}
	case *sdk.Response:
		id = theirs.ID.Raw()
		if !ours.IsResponse() || !equal(ours.Result, theirs.Result) || (ours.Error != nil) != (theirs.Error != nil) {
			t.Errorf("%q: we have read %s or %s, go-sdk %+v", frame, ours.Result, ours.Error, theirs)
		}
		var e *sdk.Error
		if errors.As(theirs.Error, &e) {
			sameError(t, frame, ours.Failure(), e)
		}
	}
	// go-sdk keeps an id as a string or an int64, which it makes of a float64.
	var want any
	if ours.ID != nil {
		_ = json.Unmarshal(ours.ID, &want) // a string, or a number that go-sdk could read
	}
	if made, err := sdk.MakeID(want); err != nil || id != made.Raw() {
		t.Errorf("%q: we have read the id %s, go-sdk %v", frame, ours.ID, id)
	}
}

// equal reports whether two values are the same JSON but for spaces; null
// counts as absent.
func equal(a, b json.RawMessage) bool {
	var out [2]bytes.Buffer
	for i, value := range []json.RawMessage{a, b} {
		if value == nil {
			value = json.RawMessage("null")
		}
		if json.Compact(&out[i], value) != nil {
			return false
		}
	}
	return bytes.Equal(out[0].Bytes(), out[1].Bytes())
}

func sameError(t *testing.T, frame []byte, ours *rpc.Error, theirs *sdk.Error) {
	t.Helper()
	message := theirs.Message
	if message == "" {
		message = "the server's error has no message"
	}
	if int64(ours.Code) != theirs.Code && -1<<53 <= theirs.Code && theirs.Code <= 1<<53 || ours.Message != message || !equal(ours.Data, theirs.Data) {
		t.Errorf("%q: we have read %+v, go-sdk %+v", frame, ours, theirs)
	}
}
