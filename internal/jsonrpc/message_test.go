package jsonrpc

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/mcpool-dev/mcpool/rpc"
)

func raw(s string) json.RawMessage { return json.RawMessage(s) }

func TestParse(t *testing.T) {
	for frame, want := range map[string]Message{
		`{"jsonrpc":"2.0","id":1,"method":"ping"}`:                             {ID: raw("1"), Method: "ping"},
		`{"jsonrpc":"2.0","id":9007199254740993,"method":"a","params":{ }}`:    {ID: raw("9007199254740993"), Method: "a", Params: raw("{ }")},
		` { "method" : "a\u002fb" , "id" : "x" , "jsonrpc" : "2.0" } `:         {ID: raw(`"x"`), Method: "a/b"},
		`{"jsonrpc":"2.0","method":"n","params":null}`:                         {Method: "n"},
		`{"jsonrpc":"2.0","id":null,"method":"n"}`:                             {Method: "n"},
		`{"jsonrpc":"2.0","id":-1.5,"result":null}`:                            {ID: raw("-1.5"), Result: raw("null")},
		`{"result":{"a":[1]},"jsonrpc":"2.0","id":"","unknown":{"id":7}}`:      {ID: raw(`""`), Result: raw(`{"a":[1]}`)},
		`{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"what"}}`: {Error: raw(`{"code":-32700,"message":"what"}`)},
	} {
		got, err := Parse([]byte(frame))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, %v", frame, got, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for frame, want := range map[string]struct {
		text string
		id   string
	}{
		`{"jsonrpc":"2.0","id":1,"method":"a","id":1}`:            {"id stands twice", "1"},
		`{"jsonrpc":"2.0","id":1,"method":"a","m\u0065thod":"b"}`: {"method stands twice", "1"},
		`{"id":1,"method":"a"}`:                                   {"jsonrpc", "1"},
		`{"jsonrpc":2.0,"id":1,"method":"a"}`:                     {"jsonrpc", "1"},
		`{"jsonrpc":"1.0","id":1,"method":"a"}`:                   {"jsonrpc", "1"},
		`{"jsonrpc":"2.0","id":{},"method":"a"}`:                  {"id is neither", ""},
		`{"jsonrpc":"2.0","id":true,"method":"a"}`:                {"id is neither", ""},
		`{"jsonrpc":"2.0","id":1,"method":7}`:                     {"method", "1"},
		`{"jsonrpc":"2.0","id":1,"method":""}`:                    {"method", "1"},
		`{"jsonrpc":"2.0","id":1,"method":null}`:                  {"method", "1"},
		`{"jsonrpc":"2.0","id":1,"method":"a","params":[1]}`:      {"params", "1"},
		`{"jsonrpc":"2.0","id":1,"method":"a","params":"x"}`:      {"params", "1"},
		`{"jsonrpc":"2.0","id":1,"method":"a","result":{}}`:       {"as well", "1"},
		`{"jsonrpc":"2.0","id":1,"method":"a","error":{}}`:        {"as well", "1"},
		`{"jsonrpc":"2.0","id":1}`:                                {"exactly one", "1"},
		`{"jsonrpc":"2.0","id":1,"result":{},"error":{}}`:         {"exactly one", "1"},
		`{"jsonrpc":"2.0","id":1,"error":"bad"}`:                  {"error is not", "1"},
		`{"jsonrpc":"2.0","id":1,"error":null}`:                   {"error is not", "1"},
		`7`:                                                       {"is an object", ""},
		`"x"`:                                                     {"is an object", ""},
	} {
		got, err := Parse([]byte(frame))
		if err == nil || !strings.Contains(err.Error(), want.text) || string(got.ID) != want.id {
			t.Errorf("%s: got id %s, %v", frame, got.ID, err)
		}
		if syntax := (*SyntaxError)(nil); errors.As(err, &syntax) {
			t.Errorf("%s is JSON, got %v", frame, err)
		}
	}
	for _, frame := range []string{``, ` `, `{`, `{"jsonrpc":"2.0","id":1,"method":"a"`, `{"jsonrpc":"2.0"}}`, `[1`, `nope`, `{"a":01}`} {
		_, err := Parse([]byte(frame))
		if syntax := (*SyntaxError)(nil); !errors.As(err, &syntax) || syntax.Unwrap() == nil {
			t.Errorf("%q: got %v, want a *SyntaxError", frame, err)
		}
	}
	for _, frame := range []string{`[]`, ` [{"jsonrpc":"2.0","id":1,"method":"a"}] `} {
		if _, err := Parse([]byte(frame)); !errors.Is(err, ErrBatch) {
			t.Errorf("%s: got %v", frame, err)
		}
	}
}

func TestKindOfMessage(t *testing.T) {
	for frame, want := range map[string][3]bool{ // request, notification, response
		`{"jsonrpc":"2.0","id":0,"method":"a"}`:  {true, false, false},
		`{"jsonrpc":"2.0","method":"a"}`:         {false, true, false},
		`{"jsonrpc":"2.0","id":"","result":{}}`:  {false, false, true},
		`{"jsonrpc":"2.0","id":null,"error":{}}`: {false, false, true},
	} {
		m, err := Parse([]byte(frame))
		if got := [3]bool{m.IsRequest(), m.IsNotification(), m.IsResponse()}; err != nil || got != want {
			t.Errorf("%s: got %v, %v", frame, got, err)
		}
	}
}

func TestFailure(t *testing.T) {
	for frame, want := range map[string]rpc.Error{
		`{"code":-32601,"message":"no","data":{"a":[1]}}`: {Code: -32601, Message: "no", Data: raw(`{"a":[1]}`)},
		`{"code":-32601.0,"message":""}`:                  {Code: -32601, Message: "the server's error has no message"},
		`{"code":"x","message":7,"data":null}`:            {Message: "the server's error has no message", Data: raw("null")},
		`{}`:                                              {Message: "the server's error has no message"},
	} {
		m := Message{Error: raw(frame)}
		if got := m.Failure(); !reflect.DeepEqual(*got, want) {
			t.Errorf("%s: got %+v", frame, got)
		}
	}
}

func TestIsID(t *testing.T) {
	for _, id := range []string{`1`, `-1`, `0.5`, `""`, `"x"`} {
		if !IsID(raw(id)) {
			t.Errorf("%s is no id", id)
		}
	}
	for _, id := range []string{``, `null`, `true`, `{}`, `[]`} {
		if IsID(raw(id)) {
			t.Errorf("%s is an id", id)
		}
	}
}

func TestAppend(t *testing.T) {
	const before = "x"
	for want, got := range map[string][]byte{
		`x{"jsonrpc":"2.0","id":1,"method":"a/\"b\"","params":{"n": 1}}`:           AppendRequest([]byte(before), raw("1"), `a/"b"`, raw(`{"n": 1}`)),
		`x{"jsonrpc":"2.0","method":"n"}`:                                          AppendRequest([]byte(before), nil, "n", nil),
		`x{"jsonrpc":"2.0","id":"a","result":{}}`:                                  AppendResult([]byte(before), raw(`"a"`), raw("{}")),
		`x{"jsonrpc":"2.0","id":null,"error":{"code":-1,"message":"line\nbreak"}}`: AppendError([]byte(before), nil, &rpc.Error{Code: -1, Message: "line\nbreak"}),
		`x{"jsonrpc":"2.0","id":1,"error":{"code":7,"message":"","data":{"a":1}}}`: AppendError([]byte(before), raw("1"), &rpc.Error{Code: 7, Data: raw(`{"a":1}`)}),
	} {
		if string(got) != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if _, err := Parse(got[len(before):]); err != nil {
			t.Errorf("%s: %v", got, err)
		}
	}
}

// Parse agrees with encoding/json on what is JSON, its members are where
// encoding/json finds them, and no part of a message is a message.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"n":9007199254740993}}}`,
		`{"jsonrpc":"2.0","id":"x","result":{"content":[]}}`,
		`{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"\u00e9"}}`,
		`{"jsonrpc":"2.0","method":"n","params":null}`,
		`[{"jsonrpc":"2.0"}]`, `{"id":1,"\u0069d":2}`, `{`, ``, ` null `,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		if !utf8.Valid(frame) {
			return
		}
		m, err := Parse(frame)
		syntax := (*SyntaxError)(nil)
		if errors.As(err, &syntax) == json.Valid(frame) {
			t.Fatalf("%q: got %v, and encoding/json differs", frame, err)
		}
		if err != nil {
			return
		}
		var members map[string]json.RawMessage
		if err := json.Unmarshal(frame, &members); err != nil {
			t.Fatal(err)
		}
		for name, got := range map[string]json.RawMessage{"id": m.ID, "params": m.Params, "result": m.Result, "error": m.Error} {
			want := members[name]
			if string(want) == "null" && name != "result" {
				want = nil
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("%q: %s is %q, want %q", frame, name, got, want)
			}
		}
		whole := bytes.TrimRight(frame, " \t\r\n")
		for end := range len(whole) {
			if _, err := Parse(whole[:end]); err == nil {
				t.Fatalf("%q is a message, cut from %q", whole[:end], whole)
			}
		}
	})
}

func BenchmarkParse(b *testing.B) {
	for name, text := range map[string]string{"100 B": strings.Repeat("x", 40), "10 KB": strings.Repeat("x", 10<<10), "1 MB": strings.Repeat("x", 1<<20)} {
		frame := []byte(`{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"` + text + `"}]}}`)
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(frame)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse(frame); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
