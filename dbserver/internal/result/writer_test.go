package result

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
)

func newTestWriter(columns ...Column) *Writer {
	w := NewWriter(Limits{Rows: 100, Bytes: 1 << 20, Cell: 100}, nil)
	w.SetColumns(columns)
	return w
}

func TestValues(t *testing.T) {
	for _, c := range []struct {
		name       string
		add        func(w *Writer)
		json, text string
		cut, bad   int
	}{
		{"null", func(w *Writer) { w.Null() }, `null`, `\\N`, 0, 0},
		{"2^53", func(w *Writer) { w.Int(1 << 53) }, `9007199254740992`, `9007199254740992`, 0, 0},
		{"2^53+1", func(w *Writer) { w.Int(1<<53 + 1) }, `"9007199254740993"`, `9007199254740993`, 0, 0},
		{"-2^53-1", func(w *Writer) { w.Int(-1<<53 - 1) }, `"-9007199254740993"`, `-9007199254740993`, 0, 0},
		{"least", func(w *Writer) { w.Int(math.MinInt64) }, `"-9223372036854775808"`, `-9223372036854775808`, 0, 0},
		{"unsigned", func(w *Writer) { w.Uint(7) }, `7`, `7`, 0, 0},
		{"most unsigned", func(w *Writer) { w.Uint(math.MaxUint64) }, `"18446744073709551615"`, `18446744073709551615`, 0, 0},
		{"real", func(w *Writer) { w.Real(0.1) }, `0.1`, `0.1`, 0, 0},
		{"whole real", func(w *Writer) { w.Real(3) }, `3.0`, `3.0`, 0, 0},
		{"large real", func(w *Writer) { w.Real(1e21) }, `1e+21`, `1e+21`, 0, 0},
		{"negative zero", func(w *Writer) { w.Real(math.Copysign(0, -1)) }, `-0.0`, `-0.0`, 0, 0},
		{"NaN", func(w *Writer) { w.Real(math.NaN()) }, `"NaN"`, `NaN`, 0, 0},
		{"infinity", func(w *Writer) { w.Real(math.Inf(-1)) }, `"-Infinity"`, `-Infinity`, 0, 0},
		{"real of 32 bits", func(w *Writer) { w.Real32(0.1) }, `0.1`, `0.1`, 0, 0},
		{"decimal", func(w *Writer) { w.Decimal("1.10") }, `"1.10"`, `1.10`, 0, 0},
		{"bool", func(w *Writer) { w.Bool(true) }, `true`, `true`, 0, 0},
		{"text", func(w *Writer) { w.Text("a\tb\\\"\n\u2028<") }, `"a\tb\\\"\n\u2028<"`, `a\\tb\\\\\"\\n\u2028<`, 0, 0},
		{"control", func(w *Writer) { w.Text("\x00\x1f\x7f\b\f\r") }, `"\u0000\u001f` + "\x7f" + `\b\f\r"`, `\u0000\u001f` + "\x7f" + `\b\f\\r`, 0, 0},
		{"not UTF-8", func(w *Writer) { w.Text("a\xffb") }, `"a\ufffdb"`, `a\ufffdb`, 0, 1},
		{"as long as a cell", func(w *Writer) { w.Text(strings.Repeat("x", 100)) }, `"` + strings.Repeat("x", 100) + `"`, strings.Repeat("x", 100), 0, 0},
		{"longer", func(w *Writer) { w.Text(strings.Repeat("x", 101)) }, `"` + strings.Repeat("x", 100) + `…"`, strings.Repeat("x", 100) + "…", 1, 0},
		{"cut at a character", func(w *Writer) { w.Text(strings.Repeat("x", 99) + "ä") }, `"` + strings.Repeat("x", 99) + `…"`, strings.Repeat("x", 99) + "…", 1, 0},
		{"bytes", func(w *Writer) { w.Bytes([]byte{1, 2}) }, `{"$bytes":2,"base64":"AQI="}`, `<2 bytes>`, 0, 0},
		{"many bytes", func(w *Writer) { w.Bytes(make([]byte, 102)) }, `{"$bytes":102,"base64":"` + strings.Repeat("A", 134) + `=="}`, `<102 bytes>`, 1, 0},
		{"JSON", func(w *Writer) { w.JSON([]byte(`{"a": [1.5, "x\n"]}`)) }, `{"a": [1.5, "x\n"]}`, `{\"a\": [1.5, \"x\\\\n\"]}`, 0, 0},
		{"JSON with a large integer", func(w *Writer) { w.JSON([]byte(`[9007199254740993]`)) }, `"[9007199254740993]"`, `[9007199254740993]`, 0, 0},
		{"JSON with digits in a text", func(w *Writer) { w.JSON([]byte(`["\"9007199254740993"]`)) }, `["\"9007199254740993"]`, `[\"\\\\\"9007199254740993\"]`, 0, 0},
		{"JSON in lines", func(w *Writer) { w.JSON([]byte("{\n\t\"a\":\r\n1}")) }, "{ \t\"a\":  1}", `{\\n\\t\"a\":\\r\\n1}`, 0, 0},
		{"no JSON", func(w *Writer) { w.JSON([]byte(`{`)) }, `"{"`, `{`, 0, 0},
		{"much JSON", func(w *Writer) { w.JSON([]byte(`"` + strings.Repeat("x", 100) + `"`)) }, `"\"` + strings.Repeat("x", 99) + `…"`, `\"` + strings.Repeat("x", 99) + "…", 1, 0},
	} {
		w := newTestWriter(Column{Name: "a"})
		c.add(w)
		w.EndRow()
		p := w.Page()
		if string(p.Rows) != "["+c.json+"]" || string(p.Text) != c.text+`\n` || p.Cut != c.cut || p.Invalid != c.bad {
			t.Errorf("%s:\n got %s and %s, %d cut, %d bad\nwant [%s] and %s\\n", c.name, p.Rows, p.Text, p.Cut, p.Invalid, c.json, c.text)
		}
		if !json.Valid(p.Rows) || !json.Valid([]byte(`"`+string(p.Text)+`"`)) {
			t.Errorf("%s: %s or %s is no JSON", c.name, p.Rows, p.Text)
		}
		if want := map[bool]string{true: ByCell, false: ByNone}[c.cut > 0]; p.TruncatedBy != want {
			t.Errorf("%s: truncated by %s", c.name, p.TruncatedBy)
		}
	}
}

// TestNumbersOfJSONAreKeptByADouble: what a reader would round, or make Infinity
// or 0 of, is a text.
func TestNumbersOfJSONAreKeptByADouble(t *testing.T) {
	for number, kept := range map[string]bool{
		"0": true, "-0.0": true, "1e308": true, "-1.5E+10": true, "1.7976931348623e308": true, "2.5e-308": true, "0e999": true, "0.000E-999": true, "123456789012345": true,
		"1e309": false, "1e400": false, "-1E400": false, "1e+400": false, "17976931348624e295": false, "1e-400": false, "1E-310": false, "0.0001e-306": false,
		"9007199254740993": false, "9007199254740.993e3": false, "9007199254740993e0": false, "0.1234567890123456": false, "1e9999999999999999": false,
	} {
		for _, document := range []string{`%s`, `[true,%s]`, `{"e":%s, "f":false}`, `{"a":"1e400","b":%s}`, `[1e5,%s,1e6]`} {
			v := strings.ReplaceAll(document, "%s", number)
			w := newTestWriter(Column{Name: "a"})
			w.JSON([]byte(v))
			w.EndRow()
			var rows [][]any
			if err := json.Unmarshal([]byte("["+string(w.Page().Rows)+"]"), &rows); err != nil {
				t.Fatalf("%s: %v", v, err)
			}
			if text, is := rows[0][0].(string); is == kept || is && text != v {
				t.Errorf("%s is %s, and kept as it is: %v, want %v", v, w.Page().Rows, !is, kept)
			}
		}
	}
}

// TestTheTextSaysWhatTheJSONSays: read back from either, cells are the same.
func TestTheTextSaysWhatTheJSONSays(t *testing.T) {
	w := newTestWriter(Column{Name: "a"}, Column{Name: "b"})
	values := []string{"", "a\tb", "\\N", "\\", "line\r\nline", "\"quoted\"", "ä🎉", "\x01", "\\t", "…"}
	for i, v := range values {
		w.Int(int64(i))
		w.Text(v)
		w.EndRow()
	}
	var rows [][]any
	if err := json.Unmarshal([]byte("["+string(w.Page().Rows)+"]"), &rows); err != nil {
		t.Fatal(err)
	}
	var text string
	if err := json.Unmarshal([]byte(`"`+string(w.Page().Text)+`"`), &text); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	unescape := strings.NewReplacer(`\\`, `\`, `\t`, "\t", `\n`, "\n", `\r`, "\r")
	for i, v := range values {
		cells := strings.Split(lines[i], "\t")
		if rows[i][1] != v || len(cells) != 2 || cells[0] != fmt.Sprint(i) || unescape.Replace(cells[1]) != v {
			t.Errorf("%q: JSON has %q, text %q", v, rows[i][1], cells)
		}
	}
}

func TestRowsAreCappedExactly(t *testing.T) {
	for rows, want := range map[int]string{2: ByNone, 3: ByRows} {
		w := NewWriter(Limits{Rows: 2, Bytes: 1000, Cell: 100}, nil)
		for i := range rows {
			w.Int(int64(i))
			if wants := w.EndRow(); wants != (i < 2) || wants != w.Wants() {
				t.Errorf("row %d of %d: wants another: %t", i, rows, wants)
			}
		}
		if p := w.Page(); p.Count != 2 || p.TruncatedBy != want || string(p.Rows) != "[0],[1]" || string(p.Text) != `0\n1\n` {
			t.Errorf("%d rows: got %+v", rows, p)
		}
	}
}

// TestBytesAreCappedExactly: "[[0],[1]]" has nine bytes, and a row that is left
// out leaves nothing behind, also not of its cells that were cut.
func TestBytesAreCappedExactly(t *testing.T) {
	for most, want := range map[int]int{9: 2, 8: 1, 4: 0} {
		w := NewWriter(Limits{Rows: 10, Bytes: most, Cell: 1}, nil)
		for i := range 2 {
			w.Int(int64(i))
			w.EndRow()
		}
		w.Text("long")
		w.EndRow()
		p := w.Page()
		if whole := len(p.Rows) + len("[]"); p.Count != want || whole > most && want > 0 || p.TruncatedBy != ByBytes || p.Cut != 0 || bytes.HasSuffix(p.Rows, []byte(",")) {
			t.Errorf("%d bytes: got %d rows, %s, %s, %d cut", most, p.Count, p.Rows, p.TruncatedBy, p.Cut)
		}
	}
}

func TestRowsBehindThePageAreSpilled(t *testing.T) {
	var rows, texts []string
	var w *Writer
	w = NewWriter(Limits{Rows: 1, Bytes: 1000, Cell: 100}, func(row, text []byte) bool {
		rows, texts = append(rows, string(row)), append(texts, string(text))
		if p := w.Page(); p.Count != 1 || p.TruncatedBy != ByRows {
			t.Errorf("the page changed: %+v", p)
		}
		return len(rows) < 3
	})
	w.SetColumns([]Column{{Name: "a"}, {Name: "b"}})
	for i := range 4 {
		w.Int(int64(i))
		w.Text("x\t")
		if wants := w.EndRow(); wants != (i < 3) {
			t.Errorf("row %d: wants another: %t", i, wants)
		}
	}
	if want := []string{`[1,"x\t"]`, `[2,"x\t"]`, `[3,"x\t"]`}; !reflect.DeepEqual(rows, want) {
		t.Errorf("got %q", rows)
	}
	if want := []string{`1\tx\\t\n`, `2\tx\\t\n`, `3\tx\\t\n`}; !reflect.DeepEqual(texts, want) {
		t.Errorf("got %q", texts)
	}
	if p := w.Page(); string(p.Rows) != `[0,"x\t"]` || string(p.Text) != `0\tx\\t\n` {
		t.Errorf("got %s, %s", p.Rows, p.Text)
	}
	// Also where not one row fits the page.
	rows = nil
	w = NewWriter(Limits{Rows: 1, Bytes: 3, Cell: 100}, func(row, _ []byte) bool { rows = append(rows, string(row)); return true })
	for i := range 2 {
		w.Int(int64(i))
		w.EndRow()
	}
	if p := w.Page(); !reflect.DeepEqual(rows, []string{"[0]", "[1]"}) || p.Count != 0 || len(p.Rows) > 0 || p.TruncatedBy != ByBytes {
		t.Errorf("got %q, %+v", rows, p)
	}
}

func TestMasksTakeThePlaceOfValues(t *testing.T) {
	add := map[string]func(w *Writer){
		"int": func(w *Writer) { w.Int(42) }, "uint": func(w *Writer) { w.Uint(math.MaxUint64) }, "real": func(w *Writer) { w.Real(4.2) },
		"decimal": func(w *Writer) { w.Decimal("42.0") }, "bool": func(w *Writer) { w.Bool(true) }, "text": func(w *Writer) { w.Text("äbc") },
		"bytes": func(w *Writer) { w.Bytes([]byte("secret")) }, "json": func(w *Writer) { w.JSON([]byte(`{"s":1}`)) }, "no json": func(w *Writer) { w.JSON([]byte(`{s`)) },
		"null": func(w *Writer) { w.Null() }, "empty": func(w *Writer) { w.Text("") },
	}
	partial := map[string]string{"int": "4***", "uint": "1***", "real": "4***", "decimal": "4***", "bool": "t***", "text": "ä***", "bytes": "***", "json": "***", "no json": "{***", "empty": "***"}
	for name, add := range add {
		w := newTestWriter(Column{Name: "a", Mask: MaskNull}, Column{Name: "b", Mask: MaskPartial}, Column{Name: "c"})
		add(w)
		add(w)
		w.Int(1)
		w.EndRow()
		wantJSON, wantText := `[null,"`+partial[name]+`",1]`, `\\N\t`+partial[name]+`\t1\n`
		if name == "null" {
			wantJSON, wantText = `[null,null,1]`, `\\N\t\\N\t1\n`
		}
		if p := w.Page(); string(p.Rows) != wantJSON || string(p.Text) != wantText {
			t.Errorf("%s: got %s and %s", name, p.Rows, p.Text)
		}
	}
}

func TestColumnsHaveTheClassOfTheirFirstValue(t *testing.T) {
	w := newTestWriter(Column{Name: "a"}, Column{Name: "b", Type: "int4"}, Column{Name: "c"})
	w.Null()
	w.Int(1)
	w.Null()
	w.EndRow()
	w.Text("x")
	w.Int(1)
	w.Null()
	w.EndRow()
	if c := w.Page().Columns; c[0].Type != "TEXT" || c[1].Type != "int4" || c[2].Type != "" {
		t.Errorf("got %+v", c)
	}
	w = newTestWriter()
	w.EndRow() // a row without columns
	if p := w.Page(); !json.Valid(append(append([]byte{'['}, p.Rows...), ']')) {
		t.Errorf("got %s", p.Rows)
	}
}

// FuzzAppendText holds the escaping to that of encoding/json.
func FuzzAppendText(f *testing.F) {
	for _, s := range []string{"", "a", "\"\\\n\x00", "\u2028\u2029", "\xff\xc3", "ä🎉", "<&>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if err := e.Encode(s); err != nil {
			t.Fatal(err)
		}
		got, invalid := AppendText([]byte{'"'}, s)
		if want := strings.TrimSuffix(b.String(), "\n"); string(got)+`"` != want || invalid != (strings.ToValidUTF8(s, "") != s) {
			t.Errorf("%q: got %s, %t, want %s", s, got, invalid, want)
		}
	})
}

// BenchmarkPage is a page of 1,000 rows of three columns.
func BenchmarkPage(b *testing.B) {
	columns := []Column{{Name: "id"}, {Name: "name"}, {Name: "price"}}
	b.ReportAllocs()
	for b.Loop() {
		w := NewWriter(Limits{Rows: 1000, Bytes: 1 << 20, Cell: 4 << 10}, nil)
		w.SetColumns(columns)
		for i := range 1000 {
			w.Int(int64(i))
			w.Text("a name of some length")
			w.Real(19.99)
			w.EndRow()
		}
		if w.Page().Count != 1000 {
			b.Fatal("rows are missing")
		}
	}
}
