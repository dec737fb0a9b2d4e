package jsonrpc

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestValid(t *testing.T) {
	for _, valid := range []string{
		`null`, `true`, `false`, `0`, `-0`, `1.5`, `-1.5e+10`, `1E-2`, `9007199254740993`, `""`, `"\"\\\/\b\f\n\r\t\u00Ef"`, `"é"`,
		`{}`, `[]`, ` { "a" : [ 1 , { } ] , "b":null } `, "\t\r\n1\n",
		strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth),
		strings.Repeat("[", maxDepth-1) + "{}" + strings.Repeat("]", maxDepth-1),
		strings.Repeat("[", maxDepth) + "1" + strings.Repeat("]", maxDepth),
	} {
		if err := Valid([]byte(valid)); err != nil || !json.Valid([]byte(valid)) {
			t.Errorf("%.40s: %v", valid, err)
		}
	}
	for _, invalid := range []string{
		``, ` `, `nul`, `nulll`, `True`, `01`, `-`, `+1`, `.5`, `1.`, `1e`, `1e+`, `0x1`, `"`, `"\x"`, `"\u12"`, `"\u123g"`, "\"\n\"", "\"\x00\"",
		`{`, `}`, `{a:1}`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{,}`, `{"a" 1}`, `{"a":1 "b":2}`, `[`, `]`, `[1,]`, `[,]`, `[1 2]`, `[1}`, `{"a":1]`,
		`1 2`, `{} {}`, `'a'`, "\u00a01", "\uFEFF1",
		strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1),
		strings.Repeat(`{"a":`, maxDepth+1) + "1" + strings.Repeat("}", maxDepth+1),
		strings.Repeat("[", 1<<20),
	} {
		if err := Valid([]byte(invalid)); err == nil || json.Valid([]byte(invalid)) {
			t.Errorf("%.40s was accepted", invalid)
		}
	}
}

// Valid agrees with encoding/json, and no value that is cut is another value,
// but for a number.
func FuzzValid(f *testing.F) {
	for _, seed := range []string{`{"a":[1,-2.5e3,"\u00e9\n",true,false,null,{}]}`, `[[]]`, `"x`, `1e`, ` {} `, `{"a":1,"a":2}`, `tru`, `-`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if !utf8.Valid(data) {
			return
		}
		valid := Valid(data) == nil
		if valid != json.Valid(data) {
			t.Fatalf("%q: valid is %v, encoding/json differs", data, valid)
		}
		if isObject := ValidObject(data) == nil; isObject != (valid && strings.TrimSpace(string(data))[0] == '{') {
			t.Fatalf("%q: an object is %v", data, isObject)
		}
	})
}
