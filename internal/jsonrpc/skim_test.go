package jsonrpc

import (
	"strings"
	"testing"
)

// inner has in it whatever could be taken for the end of a frame.
var inner = strings.Repeat(`{"id":99,"x":"\"id\":98}","result":{}},`, Large/32)

func TestSkim(t *testing.T) {
	result := `{"a":[` + inner + `{}]}`
	for name, test := range map[string]struct {
		frame   string
		skimmed bool
	}{
		"id first":          {`{"jsonrpc":"2.0","id":7,"result":` + result + `}`, true},
		"id last":           {`{"jsonrpc":"2.0","result":` + result + `,"id":7}`, true},
		"all behind":        {`{"result":` + result + `,"jsonrpc":"2.0","id":7}`, true},
		"all behind, space": {"\n { \"result\" : " + result + " ,\t\"id\" : 7 ,\n\"jsonrpc\" : \"2.0\" } \n", true},
		"string id":         {`{"id":"7","result":` + result + `,"jsonrpc":"2.0"}`, true},
		"brace in the id":   {`{"result":` + result + `,"jsonrpc":"2.0","id":"}7"}`, false},
		"other members":     {`{"x":1,"result":` + result + `,"jsonrpc":"2.0","id":7}`, false},
		"others behind":     {`{"jsonrpc":"2.0","id":7,"result":` + result + `,"x":1}`, false},
		"escaped key":       {`{"jsonrpc":"2.0","\u0069d":7,"result":` + result + `}`, false},
		"an error":          {`{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":"","data":[` + inner + `{}]}}`, false},
		"a request":         {`{"jsonrpc":"2.0","id":7,"method":"a","params":` + result + `}`, false},
		"result no object":  {`{"jsonrpc":"2.0","id":7,"result":[` + inner + `{}]}`, false},
		"small":             {`{"jsonrpc":"2.0","id":7,"result":{}}`, false},
		"much space":        {`{"jsonrpc":"2.0",` + strings.Repeat(" ", 600) + `"id":7,"result":` + result + `}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			want, err := Parse([]byte(test.frame))
			if err != nil {
				t.Fatal(err)
			}
			got, err := Skim([]byte(test.frame))
			if err != nil || string(got.ID) != string(want.ID) || string(got.Result) != string(want.Result) ||
				got.Method != want.Method || string(got.Params) != string(want.Params) || string(got.Error) != string(want.Error) {
				t.Errorf("got %.80q %v, want %.80q", got, err, want)
			}
			skimmed := false
			if len(test.frame) >= Large {
				_, skimmed = skim([]byte(test.frame))
			}
			if skimmed != test.skimmed {
				t.Errorf("skimmed: %v, want %v", skimmed, test.skimmed)
			}
		})
	}
}

func TestSkimRefuses(t *testing.T) {
	result := `{"a":[` + inner + `{}]}`
	for name, frame := range map[string]string{
		"two ids":      `{"jsonrpc":"2.0","id":7,"result":` + result + `,"id":8}`,
		"no id":        `{"jsonrpc":"2.0","id":null,"result":[` + inner + `{}]`,
		"no version":   `{"id":7,"result":` + result + `}`,
		"its version":  `{"jsonrpc":"1.0","id":7,"result":` + result + `}`,
		"no end":       `{"jsonrpc":"2.0","id":7,"result":` + result,
		"more behind":  `{"jsonrpc":"2.0","id":7,"result":` + result + `}x`,
		"another":      `{"jsonrpc":"2.0","id":7,"result":` + result + `},"id":8}`,
		"a batch":      `[{"jsonrpc":"2.0","id":7,"result":` + result + `}]`,
		"space alone":  strings.Repeat(" ", 2*Large),
		"brace alone":  "{" + strings.Repeat(" ", 2*Large),
		"braces alone": strings.Repeat("}", 2*Large),
	} {
		if m, err := Skim([]byte(frame)); err == nil {
			t.Errorf("%s: taken in as %.100q", name, m)
		}
	}
}

// What a server hides in a result that is not looked through can be no other
// answer: the id that counts is the last.
func TestSkimmedResultHasNoIDOfItsOwn(t *testing.T) {
	frame := `{"jsonrpc":"2.0","id":7,"result":{"a":[` + inner + `{}]},"id":8,"x":{"y":{}}}`
	m, ok := skim([]byte(frame))
	if !ok || !strings.Contains(string(m.Result), `"id":8`) {
		t.Fatalf("that is found out: %.100q", m)
	}
	out := AppendResult(nil, []byte("1"), m.Result)
	if id, ok := Get(out, "id"); !ok || string(id) != "1" { // of two, the last
		t.Errorf("the answer is for %s", id)
	}
}

// A frame that was cut is never made a valid one.
func FuzzSkim(f *testing.F) {
	result := `{"a":[` + inner + `{}]}`
	f.Add(`{"jsonrpc":"2.0","id":7,"result":`+result+`}`, 10)
	f.Add(`{"result":`+result+`,"jsonrpc":"2.0","id":7}`, 40)
	f.Fuzz(func(t *testing.T, frame string, cut int) {
		want, err := Parse([]byte(frame))
		if err != nil {
			return
		}
		got, err := Skim([]byte(frame))
		if err != nil {
			t.Fatalf("refused: %v", err)
		}
		// The result that was skimmed may be more than the result, if the frame has
		// members that no frame has.
		if string(got.ID) != string(want.ID) || !strings.HasPrefix(string(got.Result), string(want.Result)) {
			t.Fatalf("got %.100q, want %.100q", got, want)
		}
		if cut < 0 || cut >= len(frame) {
			return
		}
		if m, err := Skim([]byte(frame[:cut])); err == nil && m.Result != nil &&
			Valid(AppendResult(nil, []byte("1"), m.Result)) == nil && Valid([]byte(frame[:cut])) != nil {
			t.Fatalf("cut at %d it becomes valid", cut)
		}
	})
}
