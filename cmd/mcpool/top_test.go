package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

var update = flag.Bool("update", false, "write the golden files again")

// golden compares text with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", filepath.FromSlash(name))
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != strings.ReplaceAll(string(want), "\r\n", "\n") {
		t.Errorf("%s: got\n%s\nwant\n%s", path, got, want)
	}
}

var topStart = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

// topAfter is what a gateway tells so many seconds after the start.
func topAfter(seconds int) stateMsg {
	n := uint64(seconds)
	sales := topPool{Server: "sales", Breaker: "closed", Connections: 2, InUse: 1, Idle: 1, CallsInFlight: 8, Waiting: 3, OldestWait: 1.25,
		Calls: 120_000 + 250*n, Errors: 3 + 2*n, ReuseRatio: 0.9999, AvoidedTime: 4000}
	sales.Call.P99 = 0.34
	return stateMsg{topState{
		Pools: []topPool{sales,
			{Server: "a-server-with-a-long-name-that-is-cut", Paused: true, Breaker: "closed"},
			{Server: "gone", Breaker: "open", Calls: 8, Errors: 8, Opening: 1},
		},
		Connections: []topConn{
			{Server: "sales", ID: "sales-2", State: "ready", Era: "modern", Group: "ac8f33a2be056a30", Age: 5, LastUse: topStart.Add(-90 * time.Second), OpenTook: 0.021, Slots: 8, Calls: 40},
			{Server: "sales", ID: "sales-1", State: "busy", Era: "legacy", Group: "ac8f33a2be056a30", Age: 4000, OpenTook: 2.1, Slots: 8, CallsInFlight: 8, Calls: 119_960, Errors: 3},
		},
		Waits: []topWait{{"sales", "alice", 3, 1.25}},
	}, topStart.Add(time.Duration(seconds) * time.Second)}
}

// keyed is the press of a key.
func keyed(name string) tea.KeyPressMsg {
	special := map[string]rune{"enter": tea.KeyEnter, "esc": tea.KeyEscape, "down": tea.KeyDown, "up": tea.KeyUp, "backspace": tea.KeyBackspace}
	if code, is := special[name]; is {
		return tea.KeyPressMsg{Code: code}
	}
	return tea.KeyPressMsg{Code: []rune(name)[0], Text: name}
}

// A screen is a top without a terminal, whose verbs succeed.
type screen struct {
	*top
	asked []string // the verbs
	fails error
}

func newScreen(width, height int) *screen {
	s := &screen{}
	s.top = newTop("http://127.0.0.1:7432", func(path ...string) error {
		s.asked = append(s.asked, strings.Join(path, " "))
		return s.fails
	})
	s.now = topStart
	s.Update(tea.WindowSizeMsg{Width: width, Height: height})
	return s
}

// press presses keys, and lets the verbs that they begin end.
func (s *screen) press(names ...string) {
	for _, name := range names {
		if _, cmd := s.Update(keyed(name)); cmd != nil {
			s.Update(cmd())
		}
	}
}

func (s *screen) seconds(from, to int) {
	for n := from; n <= to; n++ {
		state := topAfter(n)
		s.Update(state)
		s.Update(tickMsg(state.at))
	}
}

func (s *screen) String() string {
	var lines []string
	for line := range strings.SplitSeq(ansi.Strip(s.View().Content), "\n") {
		lines = append(lines, strings.TrimRight(line, " "))
	}
	return strings.Join(lines, "\n") + "\n"
}

func TestTopScreens(t *testing.T) {
	for name, show := range map[string]func(s *screen){
		"connecting": func(*screen) {},
		"pools":      func(s *screen) { s.seconds(0, 3) },
		"connections": func(s *screen) {
			s.seconds(0, 3)
			s.press("enter", "j")
		},
		"filter": func(s *screen) {
			s.seconds(0, 3)
			s.press("/", "G", "o", "x", "backspace", "n")
		},
		"filtered": func(s *screen) {
			s.seconds(0, 3)
			s.press("/", "x", "y", "enter")
		},
		"drain": func(s *screen) {
			s.seconds(0, 3)
			s.press("d")
		},
		"kill": func(s *screen) {
			s.seconds(0, 3)
			s.press("enter", "x")
		},
		"refused": func(s *screen) {
			s.seconds(0, 3)
			s.fails = hinted{errors.New("one pool only"), "resume it first"}
			s.press("p")
		},
		"help": func(s *screen) {
			s.seconds(0, 3)
			s.press("?")
		},
		"away": func(s *screen) {
			s.seconds(0, 3)
			s.Update(awayMsg{errors.New("connection refused")})
			s.Update(tickMsg(topStart.Add(12 * time.Second)))
		},
		"back": func(s *screen) {
			s.seconds(0, 3)
			s.Update(awayMsg{errors.New("connection refused")})
			again := topAfter(9)
			again.state.Pools[0].Calls = 1 // it has begun anew
			s.Update(again)
		},
		"still": func(s *screen) { // nothing has happened for a while: no rates, longer waits
			s.seconds(0, 3)
			s.Update(tickMsg(topStart.Add(6 * time.Second)))
		},
	} {
		sizes := [][2]int{{80, 24}, {200, 12}}
		if slices.Contains([]string{"pools", "connections", "away"}, name) {
			sizes = append(sizes, [2]int{60, 8}, [2]int{40, 10}, [2]int{20, 5})
		}
		for _, at := range sizes {
			s, size := newScreen(at[0], at[1]), fmt.Sprintf("%dx%d", at[0], at[1])
			t.Run(name+"/"+size, func(t *testing.T) {
				show(s)
				got := s.String()
				lines := strings.Split(strings.TrimSuffix(got, "\n"), "\n")
				if len(lines) != s.height {
					t.Errorf("%d lines, want %d", len(lines), s.height)
				}
				for _, line := range lines {
					if w := ansi.StringWidth(line); w > s.width {
						t.Errorf("a line of %d columns in %d: %q", w, s.width, line)
					}
				}
				golden(t, "top/"+name+"-"+size+".txt", got)
			})
		}
	}
}

// TestTopSelectionStays holds that what is selected is a pool, and not a row.
func TestTopSelectionStays(t *testing.T) {
	s := newScreen(80, 24)
	s.seconds(0, 1)
	s.press("j", "j", "j", "j") // the last
	state := topAfter(2)
	state.state.Pools = append([]topPool{{Server: "new", Breaker: "closed"}}, state.state.Pools...)
	s.Update(state)
	s.press("p")
	if got := fmt.Sprint(s.asked); got != "[pools gone pause]" {
		t.Errorf("asked for %s", got)
	}
}

func TestTopVerbs(t *testing.T) {
	for keys, want := range map[string]string{
		"p":           "[pools sales pause]",
		"r":           "[pools sales resume]",
		"R":           "[pools sales reset]",
		"d":           "[]",
		"d n":         "[]",
		"d q":         "[]", // no answer to a question but y does it
		"d y":         "[pools sales drain]",
		"x y":         "[]", // no connection is selected
		"enter x":     "[]",
		"enter x n":   "[]",
		"enter x y":   "[connections sales-1 kill]",
		"enter j x y": "[connections sales-2 kill]",
		"/ p enter p": "[]", // typed, and then no pool is left
		"enter esc p": "[pools sales pause]",
	} {
		s := newScreen(80, 24)
		s.seconds(0, 1)
		s.press(strings.Fields(keys)...)
		if got := fmt.Sprint(s.asked); got != want {
			t.Errorf("%s asks for %s, want %s", keys, got, want)
		}
	}
}

// TestTopFollowsAGateway has a screen follow a gateway that is used, steered by
// it, and ended.
func TestTopFollowsAGateway(t *testing.T) {
	p := serve(t, "--config", behind(t, upstream(t, &mcptest.Server{})))
	f := newFlags(stdio{}, "top", "")
	open := f.operator()
	if err := f.parse([]string{"--url", p.url}, 0); err != nil {
		t.Fatal(err)
	}
	gateway, err := open()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	told := make(chan any)
	var feeding sync.WaitGroup
	defer feeding.Wait()
	defer cancel()
	feeding.Go(func() {
		gateway.feed(ctx, func(msg any) {
			select {
			case told <- msg:
			case <-ctx.Done():
			}
		})
	})
	s := newTop(p.url, func(path ...string) error {
		_, err := gateway.ask(ctx, "POST", path...)
		return err
	})
	until := func(what string, holds func() bool) {
		t.Helper()
		deadline := time.After(patience)
		for !holds() {
			select {
			case msg := <-told:
				s.Update(msg)
			case <-deadline:
				t.Fatalf("it never shows %s, but\n%s", what, ansi.Strip(s.View().Content))
			}
		}
	}
	shows := func(text string) func() bool {
		return func() bool { return strings.Contains(ansi.Strip(s.View().Content), text) }
	}
	until("the pool", shows("> one"))
	if status, _, err := finish(t, "call", "echo", "--url", p.url); status != 0 {
		t.Fatal(err)
	}
	until("its connection", shows("1 connection "))
	_, cmd := s.Update(keyed("p"))
	s.Update(cmd())
	until("that it is paused", shows("paused"))
	_, cmd = s.Update(keyed("r"))
	s.Update(cmd())
	until("that it is resumed", func() bool { return !s.state.Pools[0].Paused })
	p.stop()
	until("that it is away", func() bool { return s.away != nil })
}

func TestTopWantsATerminal(t *testing.T) {
	status, _, said := finish(t, "top")
	if status != 1 || said != "mcpool: error: top wants a terminal\nhint: mcpool show pools --watch prints the same, line by line\n" {
		t.Errorf("status %d: %s", status, said)
	}
}
