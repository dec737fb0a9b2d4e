package transport

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// readEvents returns the data of all events of a stream.
func readEvents(stream io.Reader, limit int) ([]string, error) {
	events := newEventReader(stream, limit)
	defer events.release()
	var all []string
	for {
		data, err := events.next()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		all = append(all, string(data))
	}
}

func TestEventReader(t *testing.T) {
	for name, test := range map[string]struct {
		stream string
		want   []string
	}{
		"empty":               {"", nil},
		"LF":                  {"data: a\n\ndata: b\n\n", []string{"a", "b"}},
		"CRLF":                {"data: a\r\n\r\ndata: b\r\n\r\n", []string{"a", "b"}},
		"CR":                  {"data: a\r\rdata: b\r\r", []string{"a", "b"}},
		"mixed":               {"data: a\r\n\ndata: b\n\r\ndata: c\r\n\r", []string{"a", "b", "c"}},
		"many lines":          {"data: a\ndata:\ndata: b\n\n", []string{"a\n\nb"}},
		"no space":            {"data:a\n\n", []string{"a"}},
		"one space goes":      {"data:  a\n\n", []string{" a"}},
		"comments":            {": hello\n\n:\ndata: a\n: between\ndata: b\n\n", []string{"a\nb"}},
		"other fields":        {"id: 7\nretry: 10\nnonsense\nnon: sense\ndata: a\n\n", []string{"a"}},
		"message":             {"event: message\ndata: a\n\n", []string{"a"}},
		"other type":          {"event: ping\ndata: a\n\ndata: b\n\n", []string{"b"}},
		"type behind data":    {"data: a\nevent: ping\n\ndata: b\n\n", []string{"b"}},
		"no data":             {"event: message\n\nid: 7\n\ndata: a\n\n", []string{"a"}},
		"empty data":          {"id: 7\ndata:\n\ndata: a\n\n", []string{"a"}},
		"byte order mark":     {"\uFEFFdata: a\n\n", []string{"a"}},
		"mark elsewhere":      {"data: \uFEFFa\n\n", []string{"\uFEFFa"}},
		"begins like a mark":  {"\u00EF: x\ndata: a\n\n", []string{"a"}},
		"no blank line":       {"data: a\n\ndata: b\n", []string{"a"}},
		"no end of line":      {"data: a\n\ndata: b", []string{"a"}},
		"no end of the blank": {"data: a\r\n\r", []string{"a"}},
		"blank lines":         {"\n\n\ndata: a\n\n\n\n", []string{"a"}},
		"colon in the data":   {"data: {\"a\": 1}\n\n", []string{`{"a": 1}`}},
		"data is all of line": {"data\ndata: a\n\n", []string{"\na"}},
		"longer than a chunk": {"data: " + strings.Repeat("x", 10000) + "\r\n\r\n", []string{strings.Repeat("x", 10000)}},
	} {
		for way, stream := range map[string]io.Reader{
			"at once":       strings.NewReader(test.stream),
			"byte for byte": iotest.OneByteReader(strings.NewReader(test.stream)),
			"EOF with data": iotest.DataErrReader(strings.NewReader(test.stream)),
		} {
			got, err := readEvents(stream, 1<<20)
			if err != nil || !slices.Equal(got, test.want) {
				t.Errorf("%s, %s: got %q, %v, want %q", name, way, got, err, test.want)
			}
		}
	}
}

func TestEventReaderTypes(t *testing.T) {
	events := newEventReader(strings.NewReader("event: endpoint\ndata: /a\n\ndata: b\nevent: ping\n\ndata: c\n\n"+
		"event: x\nevent: message\ndata: d\n\nevent: x\n\ndata: e\n\nevent: y\nevent:\ndata: f\n\n"), 100)
	var got []string
	for {
		kind, data, err := events.event()
		if err != nil {
			break
		}
		got = append(got, kind+" "+string(data))
	}
	if want := []string{"endpoint /a", "ping b", "message c", "message d", "message e", "message f"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestEventReaderBounds(t *testing.T) {
	for name, stream := range map[string]string{
		"one line":   "data: " + strings.Repeat("x", 200) + "\n\n",
		"many lines": strings.Repeat("data: xxxxxxxx\n", 20) + "\n",
		"no end":     strings.Repeat("x", 200),
		"comment":    ":" + strings.Repeat("x", 200) + "\n",
	} {
		if got, err := readEvents(strings.NewReader("data: a\n\n"+stream), 100); !errors.Is(err, errTooLarge) || len(got) != 1 {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
}

func TestEventReaderSkips(t *testing.T) {
	large := strings.Repeat("x", 200)
	for name, stream := range map[string]string{
		"one line":   "data: " + large + "\n\n",
		"CR":         "data: " + large + "\r\r",
		"CRLF":       "data: " + large + "\r\n\r\n",
		"many lines": strings.Repeat("data: xxxxxxxx\n", 20) + "\n",
		"comment":    ":" + large + "\n\n",
		"more lines": "data: " + large + "\nid: 7\n\n",
	} {
		for way, in := range map[string]io.Reader{
			"at once":       strings.NewReader("data: a\n\n" + stream + "data: b\n\n"),
			"byte for byte": iotest.OneByteReader(strings.NewReader("data: a\n\n" + stream + "data: b\n\n")),
		} {
			events := newEventReader(in, 100)
			first, _ := events.next()
			_, head, err := events.event()
			_, skipped := events.skip()
			second, _ := events.next()
			if string(first) != "a" || !errors.Is(err, errTooLarge) || skipped != nil || string(second) != "b" {
				t.Errorf("%s, %s: got %q, %v, %v, %q", name, way, first, err, skipped, second)
			}
			if name != "comment" && !strings.HasPrefix(string(head), "xxxxxxxx") {
				t.Errorf("%s, %s: begins %q", name, way, head)
			}
		}
	}
}

func TestEventReaderReportsBrokenStream(t *testing.T) {
	broken := io.MultiReader(strings.NewReader("data: a\n\ndata: b\n"), iotest.ErrReader(io.ErrUnexpectedEOF))
	got, err := readEvents(broken, 100)
	if !slices.Equal(got, []string{"a"}) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %q, %v", got, err)
	}
}

// The caller keeps what it is given.
func TestEventReaderGivesDataAway(t *testing.T) {
	events := newEventReader(strings.NewReader("data: aaaa\n\ndata: bbbb\n\ndata: cc\ndata: cc\n\n"), 100)
	first, _ := events.next()
	second, _ := events.next()
	third, _ := events.next()
	if string(first) != "aaaa" || string(second) != "bbbb" || string(third) != "cc\ncc" {
		t.Errorf("got %q, %q, %q", first, second, third)
	}
}

// standardEvents reads a stream as the standard says, word for word (WHATWG
// HTML, 9.2.5 and 9.2.6), but for what we leave out: decoding UTF-8, other
// types of events, and events with empty data.
func standardEvents(stream string) []string {
	stream = strings.TrimPrefix(stream, "\uFEFF")
	// An end of line is CRLF, or LF, or CR alone.
	stream = strings.ReplaceAll(strings.ReplaceAll(stream, "\r\n", "\n"), "\r", "\n")
	lines := strings.Split(stream, "\n")
	var dispatched []string
	var data, kind string
	for _, line := range lines[:len(lines)-1] { // what has no end is no line
		field, value, colon := strings.Cut(line, ":")
		switch {
		case line == "":
			if event := strings.TrimSuffix(data, "\n"); event != "" && (kind == "" || kind == "message") {
				dispatched = append(dispatched, event)
			}
			data, kind = "", ""
		case colon && field == "": // a comment
		case field == "event":
			kind = strings.TrimPrefix(value, " ")
		case field == "data":
			data += strings.TrimPrefix(value, " ") + "\n"
		}
	}
	return dispatched
}

// What was read of one stream is not changed by the next one in its buffer, and
// what was read ahead is not found there.
func TestEventReaderLeavesNothingBehind(t *testing.T) {
	for range 100 { // not every buffer that is given back is used again
		events := newEventReader(strings.NewReader("data: aaaa\n\ndata: left\n\n"), 100)
		first, _ := events.next()
		events.release()
		events = newEventReader(strings.NewReader("data: bbbb\n\n"), 100)
		second, _ := events.next()
		events.release()
		if string(first) != "aaaa" || string(second) != "bbbb" {
			t.Fatalf("got %q, %q", first, second)
		}
	}
}

// Whatever the stream, it is read as the standard says; reading it in other
// pieces gives the same events; and none of them is larger than the limit.
func FuzzEventReader(f *testing.F) {
	for _, seed := range []string{
		"data: a\n\n", "data: a\r\rdata:b\r\n\r\n", "\uFEFFevent: x\ndata: a\n\n", ":\n\n", "data\n\n", "\xEF\xBB", "data: \r\n\n\r",
		"event: message\ndata: a\ndata: b\n\ndata: c",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, stream string) {
		const limit = 64
		atOnce, err1 := readEvents(strings.NewReader(stream), limit)
		byBytes, err2 := readEvents(iotest.OneByteReader(strings.NewReader(stream)), limit)
		if !slices.Equal(atOnce, byBytes) || (err1 == nil) != (err2 == nil) {
			t.Errorf("got %q, %v at once and %q, %v byte for byte", atOnce, err1, byBytes, err2)
		}
		for _, data := range atOnce {
			if len(data) == 0 || len(data) > limit {
				t.Errorf("an event of %d bytes", len(data))
			}
		}
		want := standardEvents(stream)
		if whole, err := readEvents(strings.NewReader(stream), len(stream)); err != nil || !slices.Equal(whole, want) {
			t.Errorf("got %q, %v, the standard has %q", whole, err, want)
		}
		if !slices.Equal(atOnce, want[:min(len(atOnce), len(want))]) || err1 == nil && len(atOnce) != len(want) {
			t.Errorf("got %q, %v within the limit, the standard has %q", atOnce, err1, want)
		}
	})
}
