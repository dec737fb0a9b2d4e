package main

import (
	"io"
	"net/http"
	"strings"
)

// openNetHTTP makes the same request again and again with the standard library
// alone, and reads the response without looking at it: what no client over
// HTTP can do without.
func openNetHTTP(to address) client {
	const frame = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read_data","arguments":{"query":"select 42"}}}`
	connect := func() session {
		call := func() {
			request, err := http.NewRequest(http.MethodPost, to.url, strings.NewReader(frame))
			must(err)
			request.Header.Set("Content-Type", "application/json")
			request.Header.Set("Accept", "application/json, text/event-stream")
			request.Header.Set(headerSession, "0123456789abcdef0123456789abcdef")
			response, err := to.tripper.RoundTrip(request)
			must(err)
			body, err := io.ReadAll(response.Body)
			must(err)
			must(response.Body.Close())
			mustBe(strings.Contains(string(body), string(peerResult)))
		}
		return session{call: call, close: func() {}}
	}
	return client{connect: connect, close: func() {}}
}
