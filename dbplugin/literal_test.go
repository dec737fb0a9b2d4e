package dbplugin

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestReadLiteral(t *testing.T) {
	for text, want := range map[string]any{
		"None": nil, "True": true, "False": false, "null": nil, "true": true, "false": false,
		"9007199254740993": json.Number("9007199254740993"), "-0.10": json.Number("-0.10"), "1e+16": json.Number("1e+16"),
		"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity",
		`'it\'s'`: "it's", `"it's"`: "it's", `'a\n\t\\\x00\xe9\u20ac\U0001f600'`: "a\n\t\\\x00é€😀", `'\ud83d\ude00\ud83d\u0041'`: "😀\ufffdA", `'\ud83d'`: "\ufffd", `''`: "",
		`b'\x00\xff"\''`: []byte("\x00\xff\"'"), `b''`: []byte{},
		"[]": []any{}, "[1, [2,],]": []any{json.Number("1"), []any{json.Number("2")}}, "(1,)": []any{json.Number("1")}, "{1, 2}": []any{json.Number("1"), json.Number("2")},
		"{}": object{}, "{'a': 1, 'a': None}": object{{"a", json.Number("1")}, {"a", nil}}, "{1: 2}": object{{"1", json.Number("2")}},
		"Decimal('12345678901234.5678')": json.Number("12345678901234.5678"), "Decimal('1E+3')": json.Number("1E+3"),
		"Decimal('NaN')": "NaN", "Decimal('-Infinity')": "-Infinity",
		"UUID('0b7cd9e6-1b6e-4b0c-8d3e-6a2f5b1c9d10')": "0b7cd9e6-1b6e-4b0c-8d3e-6a2f5b1c9d10",
		"ipaddress.IPv4Address('10.0.0.1')":            "10.0.0.1", "IPv4Network('10.0.0.0/8')": "10.0.0.0/8",
		"datetime.date(2026, 1, 2)":                                                                                 "2026-01-02",
		"datetime.time(3, 4)":                                                                                       "03:04:00",
		"datetime.time(3, 4, 5, 6)":                                                                                 "03:04:05.000006",
		"datetime.datetime(2026, 1, 2, 3, 4)":                                                                       "2026-01-02T03:04:00",
		"datetime.datetime(2026, 1, 2, 3, 4, 5, 678000)":                                                            "2026-01-02T03:04:05.678",
		"datetime.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=datetime.timezone.utc)":                                   "2026-01-02T03:04:05.000006Z",
		"datetime.datetime(2026, 1, 2, 3, 4, tzinfo=zoneinfo.ZoneInfo(key='Etc/UTC'))":                              "2026-01-02T03:04:00Z",
		"datetime.datetime(2026, 1, 2, 3, 4, tzinfo=zoneinfo.ZoneInfo(key='Europe/Berlin'))":                        "2026-01-02T03:04:00[Europe/Berlin]",
		"datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.timezone(datetime.timedelta(seconds=19800)))":          "2026-01-02T03:04:00+05:30",
		"datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.timezone(datetime.timedelta(days=-1, seconds=68400)))": "2026-01-02T03:04:00-05:00",
		// What is not known stays as it is.
		"datetime.timedelta(days=1)": "datetime.timedelta(days=1)",
		"Range(1, 5, '[)')":          "Range(1, 5, '[)')",
		"datetime.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=zoneinfo.ZoneInfo(key='Europe/Berlin'))": "datetime.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=zoneinfo.ZoneInfo(key='Europe/Berlin'))",
		"datetime.date('x')": "datetime.date('x')",
		"set()":              "set()",
		" [ 'a' , 1 ] ":      []any{"a", json.Number("1")},
	} {
		if got, err := readLiteral(text); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %#v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "[", "[1 2]", "{'a': 1, 2}", "{'a'", "'a", `'\`, `'\q'`, `'\x4'`, `'\xgg'`, `'\Uffffffff'`, "1 2", "01", "--1", "-x", "hello", "hello world",
		"<memory at 0x7f>", "f(", "f(1", "[1]]", "Error: no such table", strings.Repeat("[", 2000) + strings.Repeat("]", 2000), strings.Repeat("f(", 2000) + strings.Repeat(")", 2000), "b", "b'", `b'\u20ac'`, `b'\ud83d\ude00'`, `b'\U0001f600'`, "{", "1.2.3"} {
		if got, err := readLiteral(text); err == nil || !strings.Contains(err.Error(), "at byte") {
			t.Errorf("%q: got %#v, %v", text, got, err)
		}
	}
}

// FuzzReadLiteral looks for texts that break the parser, and holds that what it
// reads is what can be written as JSON again.
func FuzzReadLiteral(f *testing.F) {
	for _, seed := range []string{"[{'a': None, \"b\": -1.5e3}]", `b'\x00' `, "{1, (2,), Decimal('3')}", "datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.timezone.utc)", `'\u20ac\''`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		v, err := readLiteral(text)
		if err != nil {
			return
		}
		if _, err := json.Marshal(plain(v)); err != nil {
			t.Errorf("%q is %#v: %v", text, v, err)
		}
	})
}

// FuzzReadJSON holds that nothing is lost of JSON that has no name twice.
func FuzzReadJSON(f *testing.F) {
	for _, seed := range []string{`{"a":[1,2.50,null,true,"é"],"b":{}}`, `9007199254740993`, `[]`, `{"a":1,"a":2}`, `{'a': None}`, `"\ud83d\ude00\ud83d\/\b"`, `"\ud83d\u0041"`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		v, err := readJSON(text)
		if !utf8.ValidString(text) || strings.Count(text, "[")+strings.Count(text, "{") > maxDepth {
			return
		}
		if (err == nil) != json.Valid([]byte(text)) {
			t.Fatalf("%q: %v", text, err)
		}
		if err != nil {
			return
		}
		d := json.NewDecoder(strings.NewReader(text))
		d.UseNumber()
		var want any
		if err := d.Decode(&want); err != nil {
			t.Fatal(err)
		}
		if got := plain(v); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	})
}
