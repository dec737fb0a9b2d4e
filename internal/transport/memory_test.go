package transport

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
	"github.com/mcpool-dev/mcpool/rpc"
)

// Answers of any size come as they were sent, whoever gives memory back
// meanwhile.
func TestLargeAnswersShareNoMemory(t *testing.T) {
	for _, server := range []*mcptest.Server{{}, {SSE: true}, {Modern: true}, {Modern: true, SSE: true}} {
		t.Run(fmt.Sprintf("modern %v, SSE %v", server.Modern, server.SSE), func(t *testing.T) {
			era := Legacy
			if server.Modern {
				era = Modern
			}
			conn := open(t, onSockets(t, server), era)
			sizes := []int{100, leastMemory / 2, leastMemory, 3 * leastMemory, jsonrpc.Large, 200_000}
			var all sync.WaitGroup
			for i := range 4 {
				all.Go(func() {
					for round := range sizes {
						text := strings.Repeat(string(rune('a'+i)), sizes[(round+i)%len(sizes)])
						answer, err := conn.Call(t.Context(), mcptest.CallTool("echo", args{"id": "x", "text": text}), nil)
						if err != nil {
							t.Errorf("%d bytes: %v", len(text), err)
							return
						}
						if answer.Legacy() != (era == Legacy) || answer.Modern() != (era == Modern) {
							t.Errorf("the answer is of another era: legacy %v, modern %v", answer.Legacy(), answer.Modern())
						}
						if got := jsonrpc.GetString(answer.Bytes(), "structuredContent", "text"); got != text {
							t.Errorf("%d bytes became %d, %.20s", len(text), len(got), got)
						}
						answer.Free()
					}
				})
			}
			all.Wait()
		})
	}
}

// Memory that was given back is used for the next answer, and no memory
// that was not.
func TestMemoryIsUsedAgain(t *testing.T) {
	seen := map[*byte]bool{}
	again := false
	for range 100 { // the pool may forget at any time
		m := newMemory(100_000)
		again = again || seen[&m[0]]
		seen[&m[0]] = true
		if len(m) != 100_000 || cap(m) != 128<<10 {
			t.Fatalf("%d of %d bytes", len(m), cap(m))
		}
		other := newMemory(100_000)
		if &other[0] == &m[0] {
			t.Fatal("two have the same memory")
		}
		freeMemory(m)
	}
	if !again {
		t.Error("nothing is used again")
	}
	for size, want := range map[int]int{0: 0, leastMemory - 1: leastMemory - 1, leastMemory: leastMemory,
		leastMemory + 1: 2 * leastMemory, mostMemory: mostMemory, mostMemory + 1: mostMemory + 1} {
		m := newMemory(size)
		if len(m) != size || cap(m) != want {
			t.Errorf("asked for %d bytes, got %d of %d", size, len(m), cap(m))
		}
		freeMemory(m)
	}
}

// Of a body that lasts until its connection ends nobody knows whether that was
// the end, so it has to be looked through: this one looks whole at both ends.
func TestLargeAnswerThatWasCut(t *testing.T) {
	row := `{"a":{"b":1}},`
	frame := `{"jsonrpc":"2.0","id":ID,"result":{"rows":[` + strings.Repeat(row, jsonrpc.Large/len(row)) + `{"a":{"b":1}}`
	server := httptest.NewServer(&mcptest.Server{Fault: onMethod("tools/list", func(w http.ResponseWriter, r *http.Request) {
		socket, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(socket, respond("application/json", "Connection: close", strings.ReplaceAll(frame, "ID", string(mcptest.ID(r))), 0).raw)
		_ = socket.Close()
	})})
	t.Cleanup(server.Close)
	conn := open(t, newHTTP(t, server.URL, HTTPOptions{}), Legacy)
	_, err := conn.Call(t.Context(), rpc.Call{Method: "tools/list"}, nil)
	wantFailure(t, err, MayHaveRun, false)
}
