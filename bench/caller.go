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
	took    []float64 // nanoseconds of each call of the last run, if they are timed
	timed   bool
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
	l := &load{tripper: &http.Transport{MaxIdleConnsPerHost: 256}, timed: callers == 1, breaks: breaks}
	for i := range callers {
		l.callers = append(l.callers, l.newCaller(url, era, tool, result, i))
	}
	return l
}

func (l *load) newCaller(url string, era transport.Era, tool string, result []byte, i int) *caller {
	c := &caller{url: url, header: http.Header{
		"Content-Type": {"application/json"},
		"Accept":       {"application/json, text/event-stream"},
	}}
	meta := ""
	if era == transport.Modern {
		c.header["Mcp-Protocol-Version"] = []string{"2026-07-28"}
		c.header["Mcp-Method"] = []string{callMethod}
		c.header["Mcp-Name"] = []string{tool}
		meta = `,"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"bench","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}`
	} else {
		c.body = []byte(`{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}`)
		_, header := l.exchange(c)
		c.header[headerSession] = header[headerSession]
		c.header["Mcp-Protocol-Version"] = []string{"2025-11-25"}
		c.body = []byte(`{"jsonrpc":"2.0","method":"notifications/initialized"}`)
		l.exchange(c)
	}
	id := strconv.Itoa(1000 + i) // as long as any other's
	c.body = fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"method":%q,"params":{"name":%q,"arguments":{"query":"select 42"}%s}}`,
		id, callMethod, tool, meta)
	answer, _ := l.exchange(c)
	c.length = len(answer)
	if !bytes.HasPrefix(answer, []byte("{")) { // an event stream
		_, answer, _ = bytes.Cut(answer, []byte("data: "))
	}
	m, err := jsonrpc.Parse(bytes.TrimSpace(answer))
	must(err)
	mustBe(string(m.ID) == id && sameContent(m.Result, result))
	return c
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
	l.took = l.took[:0]
	l.calls.Add(int64(times))
	var left atomic.Int64
	left.Store(int64(times))
	var all sync.WaitGroup
	for _, c := range l.callers {
		all.Go(func() {
			buffer := make([]byte, 256<<10)
			for left.Add(-1) >= 0 {
				start := time.Now()
				l.call(c, buffer)
				if l.timed {
					l.took = append(l.took, float64(time.Since(start)))
				}
			}
		})
	}
	all.Wait()
}

// trial makes the load one of a subject, which uses what usage says.
func (l *load) trial(subject string, usage func() usage) trial {
	t := trial{subject: subject, unit: 1, run: l.run, stop: l.tripper.CloseIdleConnections, usage: usage}
	if l.timed {
		t.took = &l.took
	}
	return t
}
