package jsonrpc

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
	"unicode/utf8"
)

func TestGet(t *testing.T) {
	const data = ` { "a" : 1, "b":{"c": [1, 2] ,"d":null}, "\u00e9":"x", "n":9007199254740993, "b2":"{\"c\":3}", "a":2 } `
	for _, test := range []struct {
		path []string
		want string
		ok   bool
	}{
		{[]string{"a"}, "2", true}, // the last of duplicates, as other readers take it
		{[]string{"b"}, `{"c": [1, 2] ,"d":null}`, true},
		{[]string{"b", "c"}, "[1, 2]", true},
		{[]string{"b", "d"}, "null", true},
		{[]string{"é"}, `"x"`, true},
		{[]string{"n"}, "9007199254740993", true},
		{[]string{"A"}, "", false},
		{[]string{"b", "d", "e"}, "", false},
		{[]string{"b", "c", "0"}, "", false},
		{[]string{"b2", "c"}, "", false},
	} {
		got, ok := Get([]byte(data), test.path...)
		if ok != test.ok || ok && string(got) != test.want {
			t.Errorf("%q: got %s, %v", test.path, got, ok)
		}
	}
	if _, ok := Get([]byte(data)); ok {
		t.Error("an empty path leads somewhere")
	}
	for _, none := range []string{``, `null`, `7`, `[{"a":1}]`, `"a"`, `{"a":1`, `{"a":1}}`, `{"a":1} x`} {
		if got, ok := Get([]byte(none), "a"); ok {
			t.Errorf("%s: got %s", none, got)
		}
	}
}

// What Get returns cannot be appended to without a copy.
func TestGetReturnsNoRoomBehind(t *testing.T) {
	data := []byte(`{"a":1,"b":2}`)
	got, _ := Get(data, "a")
	_ = append(got, "xxx"...)
	if string(data) != `{"a":1,"b":2}` {
		t.Errorf("data became %s", data)
	}
}

func TestGetString(t *testing.T) {
	for data, want := range map[string]string{
		`{"a":"x\u00e9\n\"\ud83d\ude00"}`: "xé\n\"😀",
		`{"a":""}`:                        "",
		`{"a":1}`:                         "",
		`{"a":null}`:                      "",
		`{}`:                              "",
		`nonsense`:                        "",
	} {
		if got := GetString([]byte(data), "a"); got != want {
			t.Errorf("%s: got %q, want %q", data, got, want)
		}
	}
}

func TestSet(t *testing.T) {
	for _, test := range []struct {
		data, value string
		path        []string
		want        string // empty: an error
	}{
		{`{}`, `1`, []string{"a"}, `{"a":1}`},
		{``, `1`, []string{"a"}, `{"a":1}`},
		{" \n", `1`, []string{"a"}, `{"a":1}`},
		{` { } `, `1`, []string{"a"}, ` {"a":1 } `},
		{`{"a": 0 ,"b":2}`, `1`, []string{"a"}, `{"a": 1 ,"b":2}`},
		{`{"b":2 }`, `1`, []string{"a"}, `{"b":2,"a":1 }`},
		{`{"a":0,"a":5}`, `1`, []string{"a"}, `{"a":0,"a":1}`},
		{`{"\u0061":0}`, `1`, []string{"a"}, `{"\u0061":1}`},
		{`{"n":9007199254740993}`, `{"x":1}`, []string{"a\"b"}, `{"n":9007199254740993,"a\"b":{"x":1}}`},
		{``, `1`, []string{"a", "b", "c"}, `{"a":{"b":{"c":1}}}`},
		{`{"a":{"x":1}}`, `1`, []string{"a", "b"}, `{"a":{"x":1,"b":1}}`},
		{`{"a":null}`, `1`, []string{"a", "b"}, `{"a":{"b":1}}`},
		{`{"a":7}`, `1`, []string{"a", "b"}, ``},
		{`{"a":[]}`, `1`, []string{"a", "b"}, ``},
		{`[]`, `1`, []string{"a"}, ``},
		{`null`, `1`, []string{"a"}, ``},
		{`{"a":`, `1`, []string{"a"}, ``},
		{`{"a":1} x`, `1`, []string{"a", "b"}, ``},
	} {
		before := []byte(test.data)
		got, err := Set(before, []byte(test.value), test.path...)
		if (err != nil) != (test.want == "") || string(got) != test.want {
			t.Errorf("%s at %q: got %s, %v, want %s", test.data, test.path, got, err, test.want)
		}
		if string(before) != test.data {
			t.Errorf("%s was changed to %s", test.data, before)
		}
	}
}

func TestDelete(t *testing.T) {
	for _, test := range []struct {
		data string
		path []string
		want string
	}{
		{`{"a":1}`, []string{"a"}, `{}`},
		{`{ "a" : 1 }`, []string{"a"}, `{ }`},
		{`{"a":1,"b":2}`, []string{"a"}, `{"b":2}`},
		{`{"a":1 , "b":2}`, []string{"a"}, `{"b":2}`},
		{`{"b":2 , "a":1 }`, []string{"a"}, `{"b":2  }`},
		{`{"b":",{","a":1}`, []string{"a"}, `{"b":",{"}`},
		{`{"c":1,"a":{"x":[1,2]},"b":2}`, []string{"a"}, `{"c":1,"b":2}`},
		{`{"a":1,"b":2,"a":3}`, []string{"a"}, `{"b":2}`},
		{`{"a":1,"a":3}`, []string{"a"}, `{}`},
		{`{"a":{"b":1,"c":2}}`, []string{"a", "b"}, `{"a":{"c":2}}`},
		{`{"a":{"b":{"c":2}}}`, []string{"a", "b", "c"}, `{"a":{"b":{}}}`},
		{`{"a":{"b":1}}`, []string{"a", "x"}, `{"a":{"b":1}}`},
		{`{"a":1}`, []string{"x"}, `{"a":1}`},
		{`{"a":1}`, []string{"x", "y"}, `{"a":1}`},
		{`{"a":1`, []string{"a"}, `{"a":1`},
		{`7`, []string{"a"}, `7`},
		{``, []string{"a"}, ``},
	} {
		before := []byte(test.data)
		if got := Delete(before, test.path...); string(got) != test.want {
			t.Errorf("%s without %q: got %s, want %s", test.data, test.path, got, test.want)
		}
		if string(before) != test.data {
			t.Errorf("%s was changed to %s", test.data, before)
		}
	}
}

func TestElements(t *testing.T) {
	for data, want := range map[string][]string{
		`[]`:                        {},
		` [ ] `:                     {},
		`[1]`:                       {"1"},
		` [ 1 , {"a":[2,3]},"]" ] `: {"1", `{"a":[2,3]}`, `"]"`},
	} {
		got, err := Elements([]byte(data))
		if err != nil || len(got) != len(want) {
			t.Errorf("%s: got %s, %v", data, got, err)
			continue
		}
		for i := range want {
			if string(got[i]) != want[i] {
				t.Errorf("%s: element %d is %s", data, i, got[i])
			}
		}
	}
	for _, none := range []string{``, `{}`, `null`, `[1`, `[1,]`, `[1] 2`} {
		if got, err := Elements([]byte(none)); err == nil {
			t.Errorf("%s: got %s", none, got)
		}
	}
}

// What was set is found, all else is as it was, and what is deleted is gone.
func FuzzSetGet(f *testing.F) {
	for _, seed := range []struct{ data, name, value string }{
		{`{"a":1,"b":{"c":[]}}`, "a", `{"x":null}`}, {` { } `, "", `7`}, {`{"\u0061":1,"a":2}`, "a", `"y"`}, {`{"é":1 }`, "\x00<", `[1, 2]`}, {`null`, "a", `1`},
	} {
		f.Add([]byte(seed.data), seed.name, []byte(seed.value))
	}
	f.Fuzz(func(t *testing.T, data []byte, name string, value []byte) {
		if !utf8.Valid(data) || !utf8.ValidString(name) || !json.Valid(value) || len(bytes.TrimSpace(data)) == 0 {
			return
		}
		value = bytes.TrimSpace(value)
		set, err := Set(data, value, name)
		if isObject := ValidObject(data) == nil; isObject != (err == nil) {
			t.Fatalf("%q: an object is %v, Set said %v", data, isObject, err)
		}
		if err != nil {
			return
		}
		if got, ok := Get(set, name); !ok || !bytes.Equal(got, value) {
			t.Fatalf("%q with %q = %q is %q, in which it is %q", data, name, value, set, got)
		}
		gone := Delete(set, name)
		if got, ok := Get(gone, name); ok {
			t.Fatalf("%q without %q is %q, in which it is %q", set, name, gone, got)
		}
		var before, with, without map[string]json.RawMessage
		for raw, to := range map[*map[string]json.RawMessage][]byte{&before: data, &with: set, &without: gone} {
			if err := json.Unmarshal(to, raw); err != nil {
				t.Fatalf("%q: %v", to, err)
			}
		}
		delete(before, name)
		if !reflect.DeepEqual(without, before) {
			t.Fatalf("%q without %q is %q", data, name, gone)
		}
		delete(with, name)
		if !reflect.DeepEqual(with, before) {
			t.Fatalf("%q with %q is %q", data, name, set)
		}
	})
}

func TestGetEach(t *testing.T) {
	names := []string{"a", "b/c", "d"}
	for data, want := range map[string][3]string{
		``:                               {},
		`{}`:                             {},
		`[1]`:                            {},
		`{"a":1}`:                        {"1", "", ""},
		`{"d": "x" ,"b\/c":{"a":2}}`:     {"", `{"a":2}`, `"x"`},
		`{"a":1,"x":{"d":2},"a":[3]}`:    {"[3]", "", ""}, // of two, the last
		`{"a":1,"d":2`:                   {},
		`{"a":1}x`:                       {},
		`{"a":null,"b/c":false,"d":"é"}`: {"null", "false", `"é"`},
	} {
		values := []json.RawMessage{[]byte("old"), nil, []byte("old")}
		GetEach([]byte(data), names, values)
		for i, name := range names {
			got, there := Get([]byte(data), name)
			if string(values[i]) != want[i] || string(got) != want[i] || there != (values[i] != nil) {
				t.Errorf("%s: %s is %q, by Get %q, want %q", data, name, values[i], got, want[i])
			}
		}
	}
}
