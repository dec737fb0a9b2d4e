package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	tea "charm.land/bubbletea/v2"
)

func runTop(ctx context.Context, args []string, std stdio) error {
	f := newFlags(std, "top [flags]", `Watch the pools of a running gateway on a live screen, and steer them: ? lists
the keys. NO_COLOR in the environment has it do without colour.`)
	open := f.operator()
	if err := f.parse(args, 0); err != nil {
		return err
	}
	gateway, err := open()
	if err != nil {
		return err
	}
	if in, is := std.in.(io.Writer); !is || !isTerminal(in) || !isTerminal(std.out) {
		return hinted{errors.New("top wants a terminal"), "mcpool show pools --watch prints the same, line by line"}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m := newTop(gateway.base.String(), func(path ...string) error {
		_, err := gateway.ask(ctx, "POST", path...)
		return err
	})
	p := tea.NewProgram(m, tea.WithContext(ctx), tea.WithInput(std.in), tea.WithOutput(std.out), tea.WithEnvironment(os.Environ()), tea.WithoutSignalHandler())
	var feeding sync.WaitGroup
	defer feeding.Wait()
	defer cancel()
	feeding.Go(func() { gateway.feed(ctx, func(msg any) { p.Send(msg) }) })
	_, err = p.Run()
	if ctx.Err() != nil {
		return nil // told to stop
	}
	return err
}

const (
	// stillTime is how old an event is at least when nothing has happened since.
	stillTime = 2 * time.Second
	// sparks is how many seconds are kept of the calls of each pool.
	sparks = 40
)

// top is the model of the screen.
type top struct {
	url   string
	steer func(path ...string) error // asks the gateway for a verb, and waits

	width, height int
	now           time.Time

	state  *topState // the last that was told; nil before the first
	at     time.Time // when
	rates  map[string]rate
	recent map[string][]float64 // calls per second of the last seconds, by server

	away      error // why nothing is told; nil if the gateway is there
	awaySince time.Time

	server string // of which the connections are shown; "" for all pools
	// chosen are the names of the selected pool and connection. They stay
	// selected when the list changes around them.
	chosenPool, chosenConn string
	filter                 string
	typing                 bool // of the filter
	confirm                *steps
	help                   bool
	notice                 string
	failed                 bool // the notice is of a failure
}

// A rate is what happens in a second.
type rate struct{ calls, errors float64 }

// steps are a verb that is asked for.
type steps struct {
	path     []string
	question string
	doing    string
	done     string
}

type (
	tickMsg time.Time
	doneMsg struct {
		steps *steps
		err   error
	}
)

func newTop(url string, steer func(path ...string) error) *top {
	return &top{url: url, steer: steer, width: 80, height: 24, now: time.Now(), rates: map[string]rate{}, recent: map[string][]float64{}}
}

func (t *top) Init() tea.Cmd { return t.tick() }

func (t *top) tick() tea.Cmd {
	return tea.Tick(time.Second, func(now time.Time) tea.Msg { return tickMsg(now) })
}

func (t *top) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		t.width, t.height = msg.Width, msg.Height
	case tickMsg:
		t.now = time.Time(msg)
		t.sample()
		return t, t.tick()
	case stateMsg:
		t.take(msg)
	case awayMsg:
		if t.away == nil {
			t.awaySince = t.now
		}
		t.away = msg.err
		clear(t.rates)
	case doneMsg:
		t.failed = msg.err != nil
		t.notice = msg.steps.done
		if msg.err != nil {
			t.notice = msg.err.Error()
			if advised := (hinted{}); errors.As(msg.err, &advised) && advised.hint != "" {
				t.notice += "; " + advised.hint
			}
		}
	case tea.PasteMsg:
		if t.typing {
			t.filter += printable(msg.Content)
		}
	case tea.KeyPressMsg:
		return t, t.press(msg)
	}
	return t, nil
}

// take puts in place what the gateway has told.
func (t *top) take(msg stateMsg) {
	if t.away != nil {
		t.away = nil
		t.notice, t.failed = "the gateway is back", false
	}
	now := map[string]topPool{}
	for _, p := range msg.state.Pools {
		now[p.Server] = p
	}
	if t.state != nil {
		for _, before := range t.state.Pools {
			after, seconds := now[before.Server], msg.at.Sub(t.at).Seconds()
			if after.Calls < before.Calls || seconds <= 0 { // another gateway, which counts from 0
				delete(t.rates, before.Server)
				continue
			}
			t.rates[before.Server] = rate{float64(after.Calls-before.Calls) / seconds, float64(after.Errors-before.Errors) / seconds}
		}
	}
	t.state, t.at, t.now = &msg.state, msg.at, msg.at
	if _, there := now[t.server]; !there {
		t.server = ""
	}
}

// sample keeps what is done in this second.
func (t *top) sample() {
	if t.state == nil {
		return
	}
	if t.now.Sub(t.at) >= stillTime {
		clear(t.rates)
	}
	for _, p := range t.state.Pools {
		kept := append(t.recent[p.Server], t.rates[p.Server].calls)
		t.recent[p.Server] = kept[max(0, len(kept)-sparks):]
	}
}

// press does what a key is for.
func (t *top) press(key tea.KeyPressMsg) tea.Cmd {
	name := key.String()
	if name == "ctrl+c" {
		return tea.Quit
	}
	switch {
	case t.typing:
		t.typed(key)
		return nil
	case t.confirm != nil:
		asked := t.confirm
		t.confirm = nil
		if name == "y" {
			return t.do(asked)
		}
		t.notice, t.failed = "nothing was done", false
		return nil
	case t.help:
		t.help = false
		if name == "q" {
			return tea.Quit
		}
		return nil
	}
	t.notice, t.failed = "", false
	switch name {
	case "q":
		return tea.Quit
	case "?":
		t.help = true
	case "/":
		t.typing = true
	case "up", "k":
		t.move(-1)
	case "down", "j":
		t.move(1)
	case "pgup":
		t.move(-t.room())
	case "pgdown":
		t.move(t.room())
	case "home", "g":
		t.move(-1 << 20)
	case "end", "G":
		t.move(1 << 20)
	case "enter", "right", "l":
		if pool := t.pool(); pool != nil && t.server == "" {
			t.server, t.filter = pool.Server, ""
		}
	case "esc", "left", "h", "backspace":
		switch {
		case t.filter != "":
			t.filter = ""
		case t.server != "":
			t.server = ""
		}
	case "p":
		return t.ask("pause", "pausing %s: its calls in flight end first", "%s is paused", "")
	case "r":
		return t.ask("resume", "resuming %s", "%s is resumed", "")
	case "R":
		return t.ask("reset", "resetting %s", "%s is reset: its connections are replaced as they come free", "")
	case "d":
		return t.ask("drain", "draining %s: its calls in flight end first", "%s is drained: its connections are new", "Replace all connections of %s?")
	case "x":
		c := t.connection()
		if c == nil {
			t.notice, t.failed = "kill what? Select a connection: enter shows those of a pool", true
			return nil
		}
		t.confirm = &steps{[]string{"connections", c.ID, "kill"},
			fmt.Sprintf("Kill connection %s? Its calls in flight fail: now %d.", c.ID, c.CallsInFlight), "killing " + c.ID, c.ID + " is killed"}
	}
	return nil
}

// typed is a key of somebody who types a filter.
func (t *top) typed(key tea.KeyPressMsg) {
	switch key.String() {
	case "enter":
		t.typing = false
	case "esc":
		t.typing, t.filter = false, ""
	case "backspace":
		if text := []rune(t.filter); len(text) > 0 {
			t.filter = string(text[:len(text)-1])
		}
	default:
		t.filter += key.Text
	}
}

// ask begins a verb on the selected pool, with a question before it if there is
// one.
func (t *top) ask(verb, doing, done, question string) tea.Cmd {
	pool := t.pool()
	if pool == nil {
		return nil
	}
	s := &steps{path: []string{"pools", pool.Server, verb}, doing: fmt.Sprintf(doing, pool.Server), done: fmt.Sprintf(done, pool.Server)}
	if question == "" {
		return t.do(s)
	}
	s.question = fmt.Sprintf(question, pool.Server)
	t.confirm = s
	return nil
}

func (t *top) do(s *steps) tea.Cmd {
	t.notice, t.failed = s.doing, false
	return func() tea.Msg { return doneMsg{s, t.steer(s.path...)} }
}

// pools are those that the filter lets through.
func (t *top) pools() []topPool {
	if t.state == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(t.state.Pools), func(p topPool) bool { return t.server == "" && !t.fits(p.Server) })
}

// connections are those of the pool that is shown, the oldest first.
func (t *top) connections() []topConn {
	if t.state == nil {
		return nil
	}
	shown := slices.DeleteFunc(slices.Clone(t.state.Connections), func(c topConn) bool {
		return c.Server != t.server || !t.fits(c.ID, c.State, c.Group, c.Era)
	})
	slices.SortStableFunc(shown, func(a, b topConn) int { return cmp.Compare(b.Age, a.Age) })
	return shown
}

// fits reports whether one of the texts has the filter in it.
func (t *top) fits(texts ...string) bool {
	return slices.ContainsFunc(texts, func(text string) bool {
		return strings.Contains(strings.ToLower(text), strings.ToLower(t.filter))
	})
}

// pool is the selected one, or that whose connections are shown; nil for none.
func (t *top) pool() *topPool {
	pools, name := t.pools(), t.chosenPool
	if t.server != "" {
		name = t.server
	}
	at := slices.IndexFunc(pools, func(p topPool) bool { return p.Server == name })
	if at < 0 && len(pools) > 0 && t.server == "" {
		at = 0
	}
	if at < 0 {
		return nil
	}
	return &pools[at]
}

// connection is the selected one; nil for none.
func (t *top) connection() *topConn {
	all := t.connections()
	if len(all) == 0 {
		return nil
	}
	return &all[max(0, slices.IndexFunc(all, func(c topConn) bool { return c.ID == t.chosenConn }))]
}

// move moves the selection.
func (t *top) move(by int) {
	if t.server == "" {
		pools := t.pools()
		if p := t.pool(); p != nil {
			at := slices.IndexFunc(pools, func(q topPool) bool { return q.Server == p.Server })
			t.chosenPool = pools[min(max(0, at+by), len(pools)-1)].Server
		}
		return
	}
	all := t.connections()
	if c := t.connection(); c != nil {
		at := slices.IndexFunc(all, func(d topConn) bool { return d.ID == c.ID })
		t.chosenConn = all[min(max(0, at+by), len(all)-1)].ID
	}
}
