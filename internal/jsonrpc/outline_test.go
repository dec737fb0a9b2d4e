package jsonrpc

import (
	"strings"
	"testing"
)

func TestOutline(t *testing.T) {
	big := strings.Repeat(`{"id":99,"method":"inner","x":"\"id\":98}"},`, 50)
	for name, test := range map[string]struct {
		frame string
		id    string
		kind  Kind
	}{
		"id first":            {`{"jsonrpc":"2.0","id":7,"result":{"a":[` + big + `1]}}`, "7", Response},
		"id last":             {`{"result":{"a":[` + big + `1]},"jsonrpc":"2.0","id":7}`, "7", Response},
		"id before version":   {`{"result":{"a":[` + big + `1]} , "id" : 7 , "jsonrpc":"2.0"} `, "7", Response},
		"an error":            {`{"jsonrpc":"2.0","id":7,"error":{"code":1,"data":[` + big + `1]}}`, "7", Response},
		"string id":           {`{"result":"` + strings.Repeat("x", 500) + `","id":"a b"}`, `"a b"`, Response},
		"id in the middle":    {`{"result":[` + big + `1],"id":7,"x":[` + big + `1]}`, "", Response},
		"no id":               {`{"result":[` + big + `1]}`, "", Response},
		"id null":             {`{"id":null,"error":[` + big + `1]}`, "", Response},
		"request":             {`{"jsonrpc":"2.0","id":7,"method":"a/b","params":{"a":[` + big + `1]}}`, "7", Request},
		"params first":        {`{"params":{"a":[` + big + `1]},"method":"a/b","id":7}`, "7", Request},
		"notification":        {`{"jsonrpc":"2.0","method":"a/b","params":{"a":[` + big + `1]}}`, "", Request},
		"an unknown member":   {`{"x":[` + big + `1],"result":{},"id":7}`, "7", Unclear},
		"escaped key":         {`{"result":[` + big + `1],"x\"id":7}`, "", Response},
		"id within a string":  {`{"result":"` + strings.Repeat("x", 500) + `,\"id\":7}"}`, "", Response},
		"no object":           {`[` + big + `1]`, "", Unclear},
		"no JSON":             {strings.Repeat("log line ", 100), "", Unclear},
		"cut in the key":      {`{"jsonrpc":"2.0",` + strings.Repeat(" ", 500) + `"id":7,"result":1}`, "", Unclear},
		"id of an inner last": {`{"result":[` + big + `{"id":5}]}`, "", Response},
	} {
		t.Run(name, func(t *testing.T) {
			frame := []byte(test.frame)
			id, kind := Outline(frame[:60], frame[len(frame)-60:])
			if string(id) != test.id || kind != test.kind {
				t.Errorf("got %s, %v, want %s, %v", id, kind, test.id, test.kind)
			}
		})
	}
}

// However little is left of a frame, no other id than its own is seen.
func TestOutlineOfAnyCut(t *testing.T) {
	for _, text := range []string{
		`{"jsonrpc":"2.0","id":1234,"result":{"id":5,"x":"a\"id\":6}","y":[{"id":8}]}}`,
		`{"result":{"id":5,"x":",\"id\":6}","y":[{"id":8}]},"jsonrpc":"2.0","id":1234}`,
	} {
		for head := range len(text) + 1 {
			for tail := range len(text) + 1 {
				id, kind := Outline([]byte(text[:head]), []byte(text[tail:]))
				if id != nil && string(id) != "1234" || kind == Request {
					t.Fatalf("%s, then %s: got %s, %v", text[:head], text[tail:], id, kind)
				}
			}
		}
	}
}
