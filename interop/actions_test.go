package interop

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// An action is something that a client does with a server like that of
// [serveFeatures], and what has to come of it. The notes and names are those
// that clients are given.
type action struct {
	name string
	want string
}

var actions = []action{
	{"list", "ask cancelled count echo log update wait"},
	{"call", "text"},
	{"progress", "1/3 2/3 3/3 counted"},
	{"cancel", "cancelled"},
	{"elicit", "accept Ada"},
	{"subscribe", "updated"},
	{"resources", "note://first note://{name} the note NAME"},
	{"prompt", "greet Greet Ada"},
	{"complete", "Ada Alan"},
	{"log", "warning"},
}

// acknowledged tells a modern client that its subscription is heeded.
const acknowledged = "notifications/subscriptions/acknowledged"

// actionTime is how long a client of a program in this folder tries an action.
const actionTime = 20 * time.Second

// A doing does an action, and returns what came of it.
type doing func(context.Context) (string, error)

// act has a client in Go do all that it can and prints what came of it, by the
// names of the actions.
func act(protocol string, can ...map[string]doing) error {
	came := map[string]string{"protocol": protocol}
	for _, a := range actions {
		for _, do := range can {
			if do[a.name] == nil {
				continue
			}
			ctx, cancel := context.WithTimeout(context.Background(), actionTime)
			got, err := do[a.name](ctx)
			if err != nil {
				got = fmt.Sprint("failed: ", err)
			}
			cancel()
			came[a.name] = got
		}
	}
	return json.NewEncoder(os.Stdout).Encode(came)
}

// A hearing is what a client was told outside of answers.
type hearing struct {
	counted, begun, loud, heeded, updated chan struct{} // closed when heard

	mu     sync.Mutex // guards what follows, and the closing of those
	steps  []string   // of progress
	levels []string   // of log messages
}

func newHearing() *hearing {
	return &hearing{
		counted: make(chan struct{}), begun: make(chan struct{}), loud: make(chan struct{}),
		heeded: make(chan struct{}), updated: make(chan struct{}),
	}
}

func (h *hearing) progress(done, total float64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch total {
	case 3: // the tool count
		if h.steps = append(h.steps, fmt.Sprintf("%g/%g", done, total)); done == total {
			closeLocked(h.counted)
		}
	case 2: // the tool wait
		closeLocked(h.begun)
	}
}

func (h *hearing) message(level string, data any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.levels = append(h.levels, level); data == "loud" {
		closeLocked(h.loud)
	}
}

// once is told of what is heard once.
func (h *hearing) once(heard chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	closeLocked(heard)
}

// closeLocked closes what may be closed already.
func closeLocked(heard chan struct{}) {
	select {
	case <-heard:
	default:
		close(heard)
	}
}

func (h *hearing) said(words *[]string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(*words, " ")
}

// await waits for something to be heard.
func await(ctx context.Context, heard <-chan struct{}) error {
	select {
	case <-heard:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// doing are the actions that are calls alone. call is a call of a tool that asks
// for progress, and returns the text of its answer.
func (h *hearing) doing(name string, call func(ctx context.Context, tool string, arguments map[string]any) (string, error)) map[string]doing {
	return map[string]doing{
		"call": func(ctx context.Context) (string, error) {
			return call(ctx, "echo", map[string]any{"text": "text"})
		},
		"progress": func(ctx context.Context) (string, error) {
			answer, err := call(ctx, "count", map[string]any{"to": 3})
			if err != nil {
				return "", err
			}
			if err := await(ctx, h.counted); err != nil {
				return "", err
			}
			return h.said(&h.steps) + " " + answer, nil
		},
		"cancel": func(ctx context.Context) (string, error) {
			waiting, cancel := context.WithCancel(ctx)
			ended := make(chan struct{})
			go func() {
				_, _ = call(waiting, "wait", map[string]any{"name": name})
				close(ended)
			}()
			err := await(ctx, h.begun)
			cancel()
			<-ended
			if err != nil {
				return "", err
			}
			return call(ctx, "cancelled", map[string]any{"name": name})
		},
		"elicit": func(ctx context.Context) (string, error) { return call(ctx, "ask", nil) },
	}
}
