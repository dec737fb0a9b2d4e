package postgres

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/jackc/pgx/v5/pgproto3"
)

// message is one as a server sends it.
func message(kind byte, body []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(body)+4)), body...)
}

// dataRow is a row with values of such lengths; a negative one is NULL.
func dataRow(lengths ...int) []byte {
	body := binary.BigEndian.AppendUint16(nil, uint16(len(lengths)))
	for i, n := range lengths {
		body = binary.BigEndian.AppendUint32(body, uint32(int32(n)))
		body = append(body, bytes.Repeat([]byte{'a' + byte(i%26)}, max(n, 0))...)
	}
	return message('D', body)
}

// taken says of each value of a row how many bytes are kept, and of how many.
func taken(t *testing.T, r *row) string {
	t.Helper()
	var b strings.Builder
	for i, v := range r.values {
		if v == nil {
			b.WriteString("NULL ")
			continue
		}
		if !bytes.Equal(v, bytes.Repeat([]byte{'a' + byte(i%26)}, len(v))) {
			t.Errorf("value %d has bytes of another", i)
		}
		fmt.Fprintf(&b, "%d/%d ", len(v), r.lengths[i])
	}
	return strings.TrimSpace(b.String())
}

// readers yield bytes in different portions.
func readers(sent []byte) map[string]io.Reader {
	return map[string]io.Reader{"at once": bytes.NewReader(sent), "by bytes": iotest.OneByteReader(bytes.NewReader(sent)),
		"by halves": iotest.HalfReader(bytes.NewReader(sent))}
}

func TestStreamPartsRowsFromOtherMessages(t *testing.T) {
	var sent []byte
	others := map[int][]byte{}
	for i := range 2000 {
		others[i] = append(message('N', bytes.Repeat([]byte{'D'}, i)), message('Z', []byte{'I'})...)
		sent = slices.Concat(sent, others[i], dataRow(i, -1, 0, 7), dataRow())
	}
	for name, r := range readers(sent) {
		s := newStream(r)
		var got row
		for i := range 2000 {
			if s.next(&got) {
				t.Fatalf("%s: message %d is taken for a row", name, i)
			}
			other := make([]byte, len(others[i]))
			if _, err := io.ReadFull(s, other); err != nil || !bytes.Equal(other, others[i]) {
				t.Fatalf("%s: messages %d are others (%v)", name, i, err)
			}
			if want := fmt.Sprintf("%d/%d NULL 0/0 7/7", i, i); !s.next(&got) || taken(t, &got) != want {
				t.Fatalf("%s: row %d is %s, want %s", name, i, taken(t, &got), want)
			}
			if !s.next(&got) || len(got.values) != 0 {
				t.Fatalf("%s: the row without values has %d", name, len(got.values))
			}
		}
		if n, err := s.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("%s: at the end: %d, %v", name, n, err)
		}
	}
}

// What pgconn has not asked for stays where rows are looked for.
func TestStreamYieldsNoMoreThanAMessage(t *testing.T) {
	first := message('C', []byte("SELECT 1\x00"))
	s := newStream(bytes.NewReader(slices.Concat(first, message('Z', []byte{'I'}), dataRow(3))))
	buf := make([]byte, 1<<10)
	for _, want := range []int{len(first), header + 1} {
		if n, err := s.Read(buf); n != want || err != nil {
			t.Fatalf("got %d bytes (%v), want %d", n, err, want)
		}
	}
	if !s.next(&row{}) {
		t.Error("the row is gone")
	}
}

func TestStreamCutsLongValues(t *testing.T) {
	for _, c := range []struct {
		lengths []int
		want    string
	}{
		{[]int{40 << 10, -1}, "40960/40960 NULL"},
		{[]int{valueMost - 10}, "1048566/1048566"},
		{[]int{valueMost, 3}, "1048576/1048576 3/3"},
		{[]int{5, 3 * valueMost, -1, 2}, "5/5 1048576/3145728 NULL 2/2"},
		{[]int{2 * valueMost, 2 * valueMost, 2 * valueMost, 2 * valueMost, 2 * valueMost, 100}, "1048576/2097152 1048576/2097152 1048576/2097152 1048576/2097152 1024/2097152 100/100"},
	} {
		for name, r := range readers(slices.Concat(dataRow(c.lengths...), dataRow(1))) {
			s := newStream(r)
			var got row
			if !s.next(&got) || taken(t, &got) != c.want {
				t.Errorf("%s: got %s (%v), want %s", name, taken(t, &got), s.broken, c.want)
			}
			if !s.next(&got) || taken(t, &got) != "1/1" {
				t.Errorf("%s: the next row is not there", name)
			}
		}
	}
}

func TestStreamSaysThatAMessageBroke(t *testing.T) {
	with := func(at int, b byte, message []byte) []byte {
		message[at] = b
		return message
	}
	for name, c := range map[string]struct {
		sent []byte
		want error
	}{
		"a part of a header":               {[]byte{'D', 0}, io.ErrUnexpectedEOF},
		"a part of a row":                  {dataRow(5)[:9], io.ErrUnexpectedEOF},
		"a part of a larger one":           {dataRow(valueMost - 10)[:valueMost/2], io.ErrUnexpectedEOF},
		"a part of a long row":             {dataRow(2 * valueMost)[:valueMost], io.ErrUnexpectedEOF},
		"no number of values":              {message('D', nil), errMessage},
		"a value longer than the row":      {with(10, 9, dataRow(5)), errMessage},
		"a value shorter than the row":     {with(10, 3, dataRow(5)), errMessage},
		"more values than the row":         {with(6, 2, dataRow(5)), errMessage},
		"a value longer than the long row": {with(7, 2, dataRow(2*valueMost)), errMessage},
		"more values than the long row":    {with(6, 2, dataRow(2*valueMost)), errMessage},
		"fewer values than the long row":   {with(6, 0, dataRow(2*valueMost)), errMessage},
	} {
		s := newStream(bytes.NewReader(c.sent))
		if s.next(&row{}) {
			t.Errorf("%s is a row", name)
		}
		if _, err := io.ReadAll(s); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
}

func TestRowsOfOtherColumnsBreakTheConnection(t *testing.T) {
	w := &wire{in: newStream(bytes.NewReader(slices.Concat(dataRow(1, 2), dataRow(1, 2, 3), dataRow(1, 2))))}
	a := &answer{w: w, fields: make([]pgproto3.FieldDescription, 2)}
	if !a.next() {
		t.Fatalf("the first row is not read: %v", a.err)
	}
	if a.next() || a.err != errMessage || w.in.broken != errMessage || a.next() {
		t.Errorf("a row of three columns, where there are two: %v", a.err)
	}
}

func TestPlain(t *testing.T) {
	for text, want := range map[string]struct{ integer, real bool }{
		"0": {true, true}, "-0": {true, true}, "10": {true, true}, "-17": {true, true}, "0.5": {false, true}, "-0.25": {false, true}, "12.125": {false, true},
		"": {}, "-": {}, ".": {}, "1.": {}, ".5": {}, "-.5": {}, "1.2.3": {}, "1-2": {}, "--1": {}, "+1": {}, "007": {}, "00": {}, "-01": {}, "1e5": {}, "NaN": {}, "1 ": {}, "1,2": {},
	} {
		if integer, real := plain([]byte(text), false), plain([]byte(text), true); integer != want.integer || real != want.real {
			t.Errorf("%q: got %v and %v, want %v", text, integer, real, want)
		}
	}
}
