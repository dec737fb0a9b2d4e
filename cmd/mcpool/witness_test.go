package main

import (
	"encoding/json"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

// A witness sees child processes begin and end, whoever has started them: each
// is connected to it for as long as it lives.
type witness struct {
	addr   string
	starts atomic.Int64
	began  chan struct{} // gets one for each process that has begun
	gone   chan struct{} // gets one for each that has ended
}

func newWitness(t testing.TB) *witness {
	t.Helper()
	listener, err := net.Listen("tcp", somewhere)
	if err != nil {
		t.Fatal(err)
	}
	w := &witness{addr: listener.Addr().String(), began: make(chan struct{}, 100), gone: make(chan struct{}, 100)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			w.starts.Add(1)
			w.began <- struct{}{}
			go func() {
				_, _ = io.Copy(io.Discard, conn) // until the process ends
				conn.Close()
				w.gone <- struct{}{}
			}()
		}
	}()
	t.Cleanup(func() { listener.Close(); <-done })
	return w
}

// started is how many processes have begun.
func (w *witness) started() int { return int(w.starts.Load()) }

func (w *witness) awaitStart(t testing.TB) {
	t.Helper()
	await(t, w.began, "no process begins")
}

func (w *witness) awaitEnd(t testing.TB) {
	t.Helper()
	await(t, w.gone, "no process ends")
}

// child is the entry of mcpServers for a child that behaves as mode says (see
// mcptest.Child), in JSON.
func (w *witness) child(mode string) string {
	path, _, environ := mcptest.Child(mode)
	env := map[string]string{witnessed: w.addr}
	for _, variable := range environ[len(os.Environ()):] { // what makes it a child
		name, value, _ := strings.Cut(variable, "=")
		env[name] = value
	}
	entry, err := json.Marshal(map[string]any{"command": path, "env": env})
	if err != nil {
		panic(err)
	}
	return string(entry)
}
