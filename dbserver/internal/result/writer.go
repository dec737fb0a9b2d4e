// Package result is what rows become as an engine yields them: the bytes of an
// answer. Each value is appended once as JSON and once as text, and never kept
// as a Go value in between; how much there can be is bounded from the start.
package result

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// Limits of a page. Cells are cut; a row for which there is no room is left
// out whole.
type Limits struct {
	Rows  int
	Bytes int // of the rows as JSON, with their brackets
	Cell  int // of one text value; of a blob [BlobBytes] are shown at most
}

// BlobBytes is how much is shown of a blob.
const BlobBytes = 256

// maxExact is up to where every reader of JSON keeps integers.
const maxExact = 1 << 53

// A Column is a column of a result.
type Column struct {
	Name   string
	Type   string // as the engine names it; empty for the class of its first value
	Origin string // schema.table.column that it is taken from, empty if not known
	Mask   Mask
}

// A Mask is what takes the place of a column's values.
type Mask int

const (
	Unmasked    Mask = iota
	MaskNull         // NULL
	MaskPartial      // the first character and ***
)

// Reasons for which a page is not all there is.
const (
	ByRows  = "rows"
	ByBytes = "bytes"
	ByCell  = "cell"
	ByNone  = "none"
)

// A Writer takes the columns and rows of a result. For each row an engine calls
// one of the methods for values for each column in order, and then EndRow. It
// is for one goroutine.
type Writer struct {
	limits  Limits
	spill   Spill
	columns []Column

	page  Page
	full  bool // the page takes no more rows; they go to spill
	ended bool // nobody takes rows any more

	whole int64 // length of the value that comes, of which there is a part; zero for none

	at   int // the column whose value comes next
	rows int // where the row begun starts in page.Rows
	text int // and in page.Text
	cut  int // of the row begun
	bad  int
}

// A Spill takes the rows behind those of a page, as JSON and as text in the form
// of [Page].Text, which are valid during the call. It returns whether it takes
// more. The first call of it means that the page is full.
type Spill func(row, text []byte) bool

// NewWriter returns a Writer of one page. Rows behind it go to spill; with a
// nil spill they end the reading.
func NewWriter(limits Limits, spill Spill) *Writer {
	w := writers.Get().(*Writer)
	w.limits, w.spill = limits, spill
	return w
}

// writers are those whose memory can be used again: it is most of what an answer
// costs, and is thrown away as soon as the answer is written.
var writers = sync.Pool{New: func() any { return new(Writer) }}

// mostKept is how much memory a Writer may have that is kept for others.
const mostKept = 1 << 20

// Release gives the memory of the Writer to others: its page, and what page has
// been returned, must not be used any more. A Writer need not be released.
func (w *Writer) Release() {
	rows, text := w.page.Rows[:0], w.page.Text[:0]
	if *w = (Writer{}); cap(rows)+cap(text) <= mostKept {
		w.page.Rows, w.page.Text = rows, text
	}
	writers.Put(w)
}

// A Page is what a result has got to.
type Page struct {
	Columns     []Column
	Rows        []byte // JSON arrays with commas between them
	Text        []byte // the same as lines of tab-separated values, escaped as the inside of a JSON string
	Count       int    // rows
	TruncatedBy string // ByRows or ByBytes if there are more rows, ByCell if all are there and some value was cut, ByNone
	Cut         int    // values of which a part is there
	Invalid     int    // values that were not UTF-8
}

// SetColumns says what the columns are. It comes before the first row, and
// also where there are none.
func (w *Writer) SetColumns(columns []Column) {
	w.columns = columns
	w.page.Columns = columns
}

// Page returns the page. Once spill has been called it does not change, and can
// be used while the Writer goes on.
func (w *Writer) Page() Page {
	p := w.page
	p.Columns = slices.Clone(p.Columns) // whose types are found as values come
	if p.TruncatedBy == "" {
		p.TruncatedBy = ByNone
		if p.Cut > 0 {
			p.TruncatedBy = ByCell
		}
	}
	return p
}

// Flaws returns how many values of the row that spill is called with were cut,
// and how many were not UTF-8.
func (w *Writer) Flaws() (cut, invalid int) { return w.cut, w.bad }

// Rows is how many rows the page takes at most.
func (w *Writer) Rows() int { return w.limits.Rows }

// Wants reports whether another row is wanted.
func (w *Writer) Wants() bool { return !w.ended }

// begin starts a value of a class and reports whether something else has taken
// its place.
func (w *Writer) begin(class string) (masked bool) {
	if w.at == 0 {
		w.rows, w.text, w.cut, w.bad = len(w.page.Rows), len(w.page.Text), 0, 0
		if w.page.Count > 0 || w.full {
			w.page.Rows = append(w.page.Rows, ',')
		}
		w.page.Rows = append(w.page.Rows, '[')
	} else {
		w.page.Rows = append(w.page.Rows, ',')
		w.page.Text = append(w.page.Text, `\t`...)
	}
	if w.at < len(w.columns) {
		c := &w.columns[w.at]
		if c.Type == "" && class != "" {
			c.Type = class
		}
		masked = c.Mask == MaskNull && class != ""
		if c.Mask != Unmasked {
			w.whole = 0 // the length of a secret is part of it
		}
	}
	w.at++
	if masked {
		w.null()
	}
	return masked
}

// partly reports whether of the value begun a part is to be shown.
func (w *Writer) partly() bool {
	return w.at <= len(w.columns) && w.columns[w.at-1].Mask == MaskPartial
}

func (w *Writer) null() {
	w.page.Rows = append(w.page.Rows, "null"...)
	w.page.Text = append(w.page.Text, `\\N`...)
}

// Whole says that of the text, JSON or blob that comes next only the beginning is
// given, and how many bytes all of it has.
func (w *Writer) Whole(bytes int64) { w.whole = bytes }

// Null adds a NULL.
func (w *Writer) Null() {
	w.begin("")
	w.null()
}

// Int adds an integer: a number, or a string beyond ±2^53.
func (w *Writer) Int(v int64) {
	if w.begin("INTEGER") {
		return
	}
	if w.partly() {
		w.partial(strconv.FormatInt(v, 10))
		return
	}
	start := len(w.page.Text)
	w.page.Text = strconv.AppendInt(w.page.Text, v, 10)
	w.number(w.page.Text[start:], v > maxExact || v < -maxExact)
}

// Uint adds an unsigned integer as Int does.
func (w *Writer) Uint(v uint64) {
	if v <= math.MaxInt64 {
		w.Int(int64(v))
		return
	}
	w.Decimal(strconv.FormatUint(v, 10))
}

// Digits adds an integer of at most 15 digits, or a floating-point number in the
// fewest digits that mean it, as an engine has written it: with no exponent.
func (w *Writer) Digits(v []byte, real bool) {
	class, point := "INTEGER", ""
	if real {
		class = "REAL"
		if bytes.IndexByte(v, '.') < 0 {
			point = ".0"
		}
	}
	switch {
	case w.begin(class):
	case w.partly():
		w.partial(string(v) + point)
	default:
		w.page.Rows = append(append(w.page.Rows, v...), point...)
		w.page.Text = append(append(w.page.Text, v...), point...)
	}
}

func (w *Writer) number(digits []byte, quoted bool) {
	if !quoted {
		w.page.Rows = append(w.page.Rows, digits...)
		return
	}
	w.page.Rows = append(append(append(w.page.Rows, '"'), digits...), '"')
}

// Real adds a floating-point number, which can always be told from an integer.
// JSON has no NaN and no infinities (RFC 8259, section 6): those are strings.
func (w *Writer) Real(v float64) { w.real(v, 64) }

// Real32 adds one of 32 bits, in the fewest digits that mean it.
func (w *Writer) Real32(v float32) { w.real(float64(v), 32) }

func (w *Writer) real(v float64, bits int) {
	if w.begin("REAL") {
		return
	}
	start := len(w.page.Text)
	text := appendReal(w.page.Text, v, bits)
	if w.partly() {
		w.partial(string(text[start:]))
		return
	}
	w.page.Text = text
	w.number(text[start:], math.IsNaN(v) || math.IsInf(v, 0))
}

// appendReal appends a number as encoding/json writes it.
func appendReal(dst []byte, v float64, bits int) []byte {
	switch {
	case math.IsNaN(v):
		return append(dst, "NaN"...)
	case math.IsInf(v, 1):
		return append(dst, "Infinity"...)
	case math.IsInf(v, -1):
		return append(dst, "-Infinity"...)
	}
	if abs := math.Abs(v); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		return strconv.AppendFloat(dst, v, 'e', -1, bits)
	}
	dst = strconv.AppendFloat(dst, v, 'f', -1, bits)
	if v == math.Trunc(v) {
		dst = append(dst, ".0"...)
	}
	return dst
}

// Decimal adds an exact number of any size by its digits: a string.
func (w *Writer) Decimal(digits string) { w.string("DECIMAL", digits) }

// Bool adds a truth value.
func (w *Writer) Bool(v bool) {
	if w.begin("BOOLEAN") {
		return
	}
	if w.partly() {
		w.partial(strconv.FormatBool(v))
		return
	}
	w.page.Rows = strconv.AppendBool(w.page.Rows, v)
	w.page.Text = strconv.AppendBool(w.page.Text, v)
}

// Text adds a text: cut at a character if it is longer than a cell may be, and
// ended with … then. Bytes that are not UTF-8 become U+FFFD.
func (w *Writer) Text(v string) { w.string("TEXT", v) }

func (w *Writer) string(class, v string) {
	if w.begin(class) {
		return
	}
	if w.partly() {
		w.partial(v)
		return
	}
	w.quote(v)
}

// partial adds the first character of a value, and *** for the rest.
func (w *Writer) partial(v string) {
	_, n := utf8.DecodeRuneInString(v)
	w.quote(v[:n] + "***")
}

// quote appends a value as a string.
func (w *Writer) quote(v string) {
	most := w.limits.Cell
	if w.whole > int64(len(v)) { // so it may end within a character
		most = min(most, max(len(v)-1, 0))
	}
	w.whole = 0
	shown, cut := Cut(v, most)
	start := len(w.page.Rows) + 1
	var invalid bool
	w.page.Rows, invalid = AppendText(append(w.page.Rows, '"'), shown)
	if len(w.page.Rows)-start == len(shown) { // nothing was escaped, so nothing will be
		w.page.Text = append(w.page.Text, shown...)
	} else {
		w.page.Text, _ = AppendText(w.page.Text, TSV(shown))
	}
	if cut {
		w.cut++
		w.page.Rows = append(w.page.Rows, "…"...)
		w.page.Text = append(w.page.Text, "…"...)
	}
	if invalid {
		w.bad++
	}
	w.page.Rows = append(w.page.Rows, '"')
}

// Bytes adds a blob: its length, and its first bytes in base64.
func (w *Writer) Bytes(v []byte) {
	if w.begin("BLOB") {
		return
	}
	if w.partly() {
		w.partial("") // the length of a secret is part of it
		return
	}
	whole := max(w.whole, int64(len(v)))
	w.whole = 0
	shown := v[:min(len(v), BlobBytes, w.limits.Cell)]
	if int64(len(shown)) < whole {
		w.cut++
	}
	w.page.Rows = strconv.AppendInt(append(w.page.Rows, `{"$bytes":`...), whole, 10)
	w.page.Rows = base64.StdEncoding.AppendEncode(append(w.page.Rows, `,"base64":"`...), shown)
	w.page.Rows = append(w.page.Rows, `"}`...)
	w.page.Text = strconv.AppendInt(append(w.page.Text, '<'), whole, 10)
	w.page.Text = append(w.page.Text, " bytes>"...)
}

// JSON adds a JSON document as it is, but in one line, or as a text if it is not
// valid JSON, holds numbers that readers would round, be it to Infinity or 0, or
// is longer than a cell may be.
func (w *Writer) JSON(v []byte) {
	if len(v) > w.limits.Cell || w.whole > int64(len(v)) || !json.Valid(v) || !exact(v) {
		w.string("JSON", string(v))
		return
	}
	if w.begin("JSON") {
		return
	}
	if w.partly() {
		w.partial("")
		return
	}
	start := len(w.page.Rows)
	w.page.Rows = append(w.page.Rows, v...)
	for i, c := range w.page.Rows[start:] {
		if c == '\n' || c == '\r' { // between tokens, and what ends a message over stdio
			w.page.Rows[start+i] = ' '
		}
	}
	w.page.Text, _ = AppendText(w.page.Text, TSV(string(v)))
}

// exact reports whether a valid document has no integer beyond ±2^53, and no
// number beyond what a double holds: readers make Infinity or 0 of that (RFC 8259,
// 6).
func exact(v []byte) bool {
	inString, digits := false, 0 // digits in a row
	for i, c := range v {
		switch {
		case inString:
			if c == '"' && !escaped(v, i) {
				inString = false
			}
		case c == '"':
			inString, digits = true, 0
		case '0' <= c && c <= '9':
			if digits++; digits > maxDigits {
				return false
			}
		case (c == 'e' || c == 'E') && digits > 0: // else it is of true or false
			if !fits(v, i) {
				return false
			}
			digits = 0
		default:
			digits = 0
		}
	}
	return true
}

// maxDigits is how many digits a double is sure to keep.
const maxDigits = 15

// leastNormal is the least number of which a double keeps so many.
const leastNormal = 0x1p-1022

// fits reports whether a double keeps the number of a valid document whose
// exponent begins at v[e].
func fits(v []byte, e int) bool {
	first, end := e, e+1
	for first > 0 && bytes.IndexByte([]byte("-.0123456789"), v[first-1]) >= 0 {
		first--
	}
	for end < len(v) && bytes.IndexByte([]byte("+-0123456789"), v[end]) >= 0 {
		end++
	}
	digits := bytes.TrimLeft(bytes.ReplaceAll(v[first:e], []byte("."), nil), "-0")
	f, err := strconv.ParseFloat(string(v[first:end]), 64)
	return len(digits) == 0 || err == nil && len(digits) <= maxDigits && math.Abs(f) >= leastNormal
}

func escaped(v []byte, i int) bool {
	n := 0
	for i--; i >= 0 && v[i] == '\\'; i-- {
		n++
	}
	return n%2 == 1
}

// EndRow ends a row and reports whether another is wanted. A row for which there
// is no room in the page leaves no trace in it.
func (w *Writer) EndRow() bool {
	if w.at == 0 { // a row without columns
		w.begin("")
	}
	w.at = 0
	p := &w.page
	p.Rows = append(p.Rows, ']')
	p.Text = append(p.Text, `\n`...)
	if !w.full {
		switch {
		case p.Count == w.limits.Rows:
			p.TruncatedBy = ByRows
		case len(p.Rows)+len("[]") > w.limits.Bytes:
			p.TruncatedBy = ByBytes
		default:
			p.Count++
			p.Cut += w.cut
			p.Invalid += w.bad
			return true
		}
		w.full = true
	}
	row, text := p.Rows[w.rows:], p.Text[w.text:]
	p.Rows, p.Text = p.Rows[:w.rows], p.Text[:w.text]
	if w.spill == nil {
		w.ended = true
		return false
	}
	if row[0] == ',' {
		row = row[1:]
	}
	w.ended = !w.spill(row, text)
	return !w.ended
}

// Cut returns the part of a text that is shown where at most most bytes are. It
// ends at a character.
func Cut(s string, most int) (shown string, cut bool) {
	if len(s) <= most {
		return s, false
	}
	end := most
	for end > 0 && end > most-utf8.UTFMax && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end], true
}

// TSV returns a text as a field of tab-separated values, in the text format of
// PostgreSQL's COPY.
func TSV(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return r == '\\' || r == '\t' || r == '\n' || r == '\r' }) < 0 {
		return s
	}
	return tsvEscaper.Replace(s)
}

var tsvEscaper = strings.NewReplacer("\\", `\\`, "\t", `\t`, "\n", `\n`, "\r", `\r`)
