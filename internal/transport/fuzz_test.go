package transport

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
)

// readLines returns the lines of a stream until its end, or what is wrong with
// it.
func readLines(stream io.Reader, size, limit int) ([]string, error) {
	in := bufio.NewReaderSize(stream, size)
	var all []string
	for {
		line, err := readLine(in, limit)
		if line.cut {
			return all, errTooLarge
		}
		all = append(all, string(line.text))
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
	}
}

// Whatever a child writes, its lines are what lies between the newlines, in
// whatever pieces it comes, and none is larger than the limit allows.
func FuzzReadLine(f *testing.F) {
	for _, seed := range []string{"", "\n", "a\nb", "a\r\n\r\nb\r\n", "\r\r\n", strings.Repeat("x", 64) + "\n", strings.Repeat("x", 66) + "\ny", strings.Repeat("ab\n", 30)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, stream string) {
		const limit = 64
		lines := strings.Split(stream, "\n")
		var want []string
		tooLarge := false
		for i, line := range lines {
			with := len(line) + 1 // its newline
			if i == len(lines)-1 {
				with--
			}
			if tooLarge = with > limit; tooLarge {
				break
			}
			want = append(want, strings.TrimRight(line, "\r"))
		}
		for name, in := range map[string]func(io.Reader) io.Reader{
			"at once":       func(r io.Reader) io.Reader { return r },
			"byte for byte": iotest.OneByteReader,
			"EOF with data": iotest.DataErrReader,
		} {
			for _, size := range []int{16, 4096} {
				got, err := readLines(in(strings.NewReader(stream)), size, limit)
				if !slices.Equal(got, want) || errors.Is(err, errTooLarge) != tooLarge || err != nil && !tooLarge {
					t.Errorf("%s, %d: got %q, %v, want %q, too large %v", name, size, got, err, want, tooLarge)
				}
			}
		}
	})
}

// What never ends is given up soon after the limit.
func TestReadersTakeInNoMoreThanTheyMust(t *testing.T) {
	const limit = 100_000
	for name, read := range map[string]func(stream io.Reader) error{
		"event":     func(s io.Reader) error { _, err := readEvents(s, limit); return err },
		"many data": func(s io.Reader) error { _, err := readEvents(s, limit); return err },
		"body": func(s io.Reader) error {
			_, err := readAll(&http.Response{Body: io.NopCloser(s), ContentLength: -1}, limit)
			return err
		},
	} {
		pattern := "data: xx"
		if name == "many data" {
			pattern += "\n"
		}
		stream := &endless{pattern: pattern}
		if err := read(stream); !errors.Is(err, errTooLarge) || stream.read > 4*limit+8192 {
			t.Errorf("%s: %v after %d bytes", name, err, stream.read)
		}
	}
}

// An endless is a pattern that repeats.
type endless struct {
	pattern string
	read    int
}

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = e.pattern[(e.read+i)%len(e.pattern)]
	}
	e.read += len(p)
	return len(p), nil
}

// A written is a message as a peer may write it: a frame, and what of the
// stream around it is up to the peer.
type written struct {
	frame []byte
	style byte
}

// messages makes messages of what the fuzzer has come up with: one for each
// byte of shape, with text in it.
func messages(text string, shape []byte) []written {
	quoted, _ := json.Marshal(text) // strings always marshal
	var all []written
	for i, b := range shape[:min(len(shape), 16)] {
		id, params := strconv.Itoa(i), `{"text":`+string(quoted)+`,"list":[1,{"a":null}]}`
		if b&4 != 0 {
			id = string(quoted)
		}
		var frame string
		switch b & 3 {
		case 0:
			frame = `{"jsonrpc":"2.0","id":` + id + `,"method":"tools/call","params":` + params + `}`
		case 1:
			frame = `{"jsonrpc":"2.0","method":"notifications/message","params":` + params + `}`
		case 2:
			frame = `{"jsonrpc":"2.0","id":` + id + `,"result":` + params + `}`
		case 3:
			frame = `{"jsonrpc":"2.0","id":` + id + `,"error":{"code":-32000,"message":` + string(quoted) + `}}`
		}
		all = append(all, written{[]byte(frame), b >> 3})
	}
	return all
}

func (w written) has(bit byte) bool { return w.style&(1<<bit) != 0 }

// asLine writes the message as a child does.
func (w written) asLine() string {
	line := string(w.frame)
	if w.has(0) {
		line = "\n" + line
	}
	if w.has(1) {
		line = " \t" + strings.Replace(line, ",", " , ", 1)
	}
	if w.has(2) {
		line += "\r"
	}
	return line + "\n"
}

// asEvent writes the message as a server does.
func (w written) asEvent() string {
	frame := w.frame
	if w.has(0) { // over several lines of data
		var indented bytes.Buffer
		_ = json.Indent(&indented, frame, "", " ") // it is JSON
		frame = indented.Bytes()
	}
	event := "data: " + strings.ReplaceAll(string(frame), "\n", "\ndata:") + "\n"
	if w.has(1) {
		event = ": a comment\nid: 7\n" + event
	}
	if w.has(2) {
		event = "event: message\n" + event + "retry: 10\n"
	}
	if event += "\n"; w.has(3) {
		event = strings.ReplaceAll(event, "\n", "\r\n")
	}
	return event
}

// agree checks that what we have read is what go-sdk has read, and what was
// written.
func agree(t *testing.T, wrote []written, ours [][]byte, theirs []sdk.Message) {
	t.Helper()
	if len(ours) != len(wrote) || len(theirs) != len(wrote) {
		t.Fatalf("of %d messages we have read %d, go-sdk %d", len(wrote), len(ours), len(theirs))
	}
	for i := range wrote {
		if _, err := jsonrpc.Parse(ours[i]); err != nil {
			t.Errorf("%s: %v", ours[i], err)
		}
		var compact bytes.Buffer
		if err := json.Compact(&compact, ours[i]); err != nil || !bytes.Equal(compact.Bytes(), wrote[i].frame) {
			t.Errorf("we have read %s, written was %s", ours[i], wrote[i].frame)
		}
		decoded, err := sdk.DecodeMessage(ours[i])
		if err != nil {
			t.Errorf("%s: go-sdk: %v", ours[i], err)
			continue
		}
		// Encoding takes out the spaces, which go-sdk trims from lines of data.
		mine, _ := sdk.EncodeMessage(decoded)
		if other, err := sdk.EncodeMessage(theirs[i]); err != nil || !bytes.Equal(mine, other) {
			t.Errorf("we have read %s, go-sdk %s; %v", mine, other, err)
		}
	}
}

func addMessages(f *testing.F) {
	for _, text := range []string{"", "hello", "line\nbreak \r\n\n", "data: é \u2028 \"\\", "<&>"} {
		f.Add(text, []byte{0, 1, 2, 3})
		f.Add(text, []byte("\xf8\xff\x0a\x13\x27\x44\x83"))
	}
}

// Both we and go-sdk read the same messages from a child.
func FuzzLinesAgainstSDK(f *testing.F) {
	addMessages(f)
	f.Fuzz(func(t *testing.T, text string, shape []byte) {
		wrote := messages(text, shape)
		var stream strings.Builder
		for _, w := range wrote {
			stream.WriteString(w.asLine())
		}
		lines, err := readLines(iotest.HalfReader(strings.NewReader(stream.String())), 16, DefaultMaxMessageBytes)
		if err != nil {
			t.Fatal(err)
		}
		var ours [][]byte
		for _, line := range lines {
			if strings.TrimSpace(line) != "" {
				ours = append(ours, []byte(line))
			}
		}
		transport := &mcp.IOTransport{Reader: io.NopCloser(strings.NewReader(stream.String())), Writer: nopWriter{}}
		conn, err := transport.Connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		agree(t, wrote, ours, readSDK(t, conn, len(wrote)))
		if m, err := conn.Read(t.Context()); !errors.Is(err, io.EOF) {
			t.Errorf("go-sdk has read %+v, %v as well", m, err)
		}
	})
}

// Both we and go-sdk read the same messages from a stream of events.
func FuzzEventsAgainstSDK(f *testing.F) {
	addMessages(f)
	f.Fuzz(func(t *testing.T, text string, shape []byte) {
		wrote := append(messages(text, shape), messages("the last", []byte{1})...)
		var stream string
		for _, w := range wrote {
			stream += w.asEvent()
		}
		var ours [][]byte
		events := newEventReader(strings.NewReader(stream), DefaultMaxMessageBytes)
		for {
			data, err := events.next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			ours = append(ours, data)
		}
		// go-sdk drops what comes in one piece with the first event, and at the
		// end of a stream it may drop what it has read: so that never comes.
		const endpoint = "event: endpoint\ndata: /messages\n\n"
		never, end := io.Pipe()
		defer end.Close()
		transport := &mcp.SSEClientTransport{Endpoint: "http://server.test/sse", HTTPClient: &http.Client{
			Transport: roundTripper(func(*http.Request) (*http.Response, error) {
				body := struct {
					io.Reader
					io.Closer
				}{io.MultiReader(strings.NewReader(endpoint), strings.NewReader(stream), never), never}
				return &http.Response{StatusCode: 200, Body: body}, nil
			}),
		}}
		conn, err := transport.Connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		theirs := readSDK(t, conn, len(wrote))
		agree(t, wrote, ours, theirs)
	})
}

// readSDK reads n messages.
func readSDK(t *testing.T, conn mcp.Connection, n int) []sdk.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	var all []sdk.Message
	for range n {
		m, err := conn.Read(ctx)
		if err != nil {
			t.Fatalf("go-sdk, behind %d of %d messages: %v", len(all), n, err)
		}
		all = append(all, m)
	}
	return all
}

// wait is how long a message that is there may take to be read.
const wait = 30 * time.Second

type nopWriter struct{}

func (nopWriter) Write(p []byte) (int, error) { return len(p), nil }
func (nopWriter) Close() error                { return nil }
