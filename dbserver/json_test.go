package dbserver

import (
	"bytes"
	"database/sql/driver"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"unicode/utf8"
)

// wantText is what encoding/json writes for a text when it does not escape
// HTML.
func wantText(t testing.TB, s string) string {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func FuzzAppendText(f *testing.F) {
	for _, s := range []string{"", "plain", "\"\\/\b\f\n\r\t\x00\x1f\x7f", "é🙂نص\u2028\u2029\ufffd", "a\xffb\xc3", "<a&b>", "\xed\xa0\x80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, invalid := appendText([]byte(`"`), s)
		if got = append(got, '"'); string(got) != wantText(t, s) {
			t.Errorf("%q: got %s, want %s", s, got, wantText(t, s))
		}
		if invalid == utf8.ValidString(s) {
			t.Errorf("%q: invalid is %t", s, invalid)
		}
		shown, cut := cutText(s)
		if len(shown) > maxCellBytes || cut != (len(shown) < len(s)) || !strings.HasPrefix(s, shown) {
			t.Errorf("%d bytes are cut to %d, %t", len(s), len(shown), cut)
		}
		if utf8.ValidString(s) && !utf8.ValidString(shown) {
			t.Errorf("cut within a character")
		}
	})
}

func FuzzAppendReal(f *testing.F) {
	for _, v := range []float64{0, math.Copysign(0, -1), 1, -1.5, 1e-7, 1e21, 123456789, math.MaxFloat64, math.SmallestNonzeroFloat64} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, v float64) {
		got := appendReal(nil, v)
		if math.IsNaN(v) || math.IsInf(v, 0) {
			if got[0] != '"' {
				t.Errorf("%v is %s", v, got)
			}
			return
		}
		var back float64
		if err := json.Unmarshal(got, &back); err != nil || math.Float64bits(back) != math.Float64bits(v) {
			t.Errorf("%v is %s, which is read as %v, %v", v, got, back, err)
		}
		if !bytes.ContainsAny(got, ".e") {
			t.Errorf("%v is %s, which looks like an integer", v, got)
		}
	})
}

func BenchmarkAddRow(b *testing.B) {
	row := []driver.Value{int64(42), "a name of some length", 3.25, nil, "2024-02-29"}
	r := &resultSet{maxRows: math.MaxInt, maxBytes: math.MaxInt}
	b.ReportAllocs()
	for b.Loop() {
		r.rows, r.text = r.rows[:0], r.text[:0]
		r.add(row)
	}
}
