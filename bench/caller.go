package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/internal/transport"
)

// A load is calls of one tool at one URL, by callers that each wait for their
// answer. It is as cheap as net/http allows: the body is made once, and of an
// answer all that is looked at is how long it is, once the first has been
// checked.
type load struct {
	callers []*caller
	tripper *http.Transport
	took    []float64 // nanoseconds of each call of the last run, of one caller alone
	// breaks says that answers may break off, which is counted.
	breaks        bool
	calls, broken atomic.Int64
}

// A caller is one client of an era.
type caller struct {
	url    string
	header http.Header
	body   []byte
	length int // of an answer
}

// newLoad has so many callers call a tool, whose result they expect.
func newLoad(url string, era transport.Era, tool string, result []byte, callers int, breaks bool) *load {
	l := &load{tripper: &http.Transport{MaxIdleConnsPerHost: 256}, breaks: breaks}
	for i := range callers {
		l.callers = append(l.callers, l.newCaller(url, era, tool, result, i))
	}
	return l
}

func (l *load) newCaller(url string, era transport.Era, tool string, result []byte, i int) *caller {
	c := &caller{url: url, header: jsonHeader()}
	meta := ""
	if era == transport.Modern {
		c.header["Mcp-Protocol-Version"] = []string{"2026-07-28"}
		c.header["Mcp-Method"] = []string{callMethod}
		c.header["Mcp-Name"] = []string{tool}
		meta = `,"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"bench","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}`
	} else {
		l.openSession(c)
	}
	id := strconv.Itoa(1000 + i) // as long as any other's
	c.body = fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"method":%q,"params":{"name":%q,"arguments":{"query":"select 42"}%s}}`,
		id, callMethod, tool, meta)
	answer, _ := l.exchange(c)
	c.length = len(answer)
	m, err := parseAnswer(answer)
	must(err)
	mustBe(string(m.ID) == id && sameContent(m.Result, result))
	return c
}

// parseAnswer reads the body of a response: JSON, or an event stream that has
// nothing but the answer.
func parseAnswer(body []byte) (jsonrpc.Message, error) {
	if !bytes.HasPrefix(body, []byte("{")) {
		_, body, _ = bytes.Cut(body, []byte("data: "))
	}
	return jsonrpc.Parse(bytes.TrimSpace(body))
}

// jsonHeader is what each request over HTTP says.
func jsonHeader() http.Header {
	return http.Header{
		"Content-Type": {"application/json"},
		"Accept":       {"application/json, text/event-stream"},
	}
}

// openSession opens a session with a legacy server, for what the caller sends
// from now on.
func (l *load) openSession(c *caller) {
	c.body = []byte(`{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}`)
	_, header := l.exchange(c)
	if id := header[headerSession]; id != nil { // some servers have none
		c.header[headerSession] = id
	}
	c.header["Mcp-Protocol-Version"] = []string{"2025-11-25"}
	c.body = []byte(`{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	l.exchange(c)
}

// sameContent reports whether two results say the same: what an era wants
// around it may differ.
func sameContent(a, b json.RawMessage) bool {
	for _, name := range []string{"content", "structuredContent"} {
		one, _ := jsonrpc.Get(a, name)
		other, _ := jsonrpc.Get(b, name)
		if !bytes.Equal(one, other) {
			return false
		}
	}
	return true
}

// exchange makes a request of the caller and returns the answer, the first one
// that does not break off.
func (l *load) exchange(c *caller) ([]byte, http.Header) {
	for {
		response := l.send(c)
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil && l.breaks {
			continue
		}
		must(err)
		return body, response.Header
	}
}

func (l *load) send(c *caller) *http.Response {
	request, err := http.NewRequestWithContext(context.Background(), http.MethodPost, c.url, bytes.NewReader(c.body))
	must(err)
	request.Header = c.header
	response, err := l.tripper.RoundTrip(request)
	must(err)
	mustBe(response.StatusCode/100 == 2)
	return response
}

// call makes one call and reads the answer into a buffer.
func (l *load) call(c *caller, buffer []byte) {
	response := l.send(c)
	length := 0
	for {
		n, err := response.Body.Read(buffer)
		length += n
		if err == io.EOF {
			break
		}
		if err != nil && l.breaks {
			l.broken.Add(1)
			_ = response.Body.Close()
			return
		}
		must(err)
	}
	must(response.Body.Close())
	mustBe(length == c.length)
}

// run makes so many calls in all.
func (l *load) run(times int) {
	l.calls.Add(int64(times))
	calls := make([]func(), len(l.callers))
	for i, c := range l.callers {
		buffer := make([]byte, 256<<10)
		calls[i] = func() { l.call(c, buffer) }
	}
	l.took = share(times, calls)
}

// share has callers make so many calls in all, each one after the other. If
// there is one caller alone it returns the nanoseconds of each call.
func share(times int, callers []func()) (took []float64) {
	var left atomic.Int64
	left.Store(int64(times))
	var all sync.WaitGroup
	for _, call := range callers {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				start := time.Now()
				call()
				if len(callers) == 1 {
					took = append(took, float64(time.Since(start)))
				}
			}
		})
	}
	all.Wait()
	return took
}

// trial makes the load one of a subject, which uses what usage says.
func (l *load) trial(subject string, usage func() usage) trial {
	t := trial{subject: subject, unit: 1, run: l.run, stop: l.tripper.CloseIdleConnections, usage: usage}
	if len(l.callers) == 1 {
		t.took = &l.took
	}
	return t
}
