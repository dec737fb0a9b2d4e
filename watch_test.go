package mcpool_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
	"github.com/mcpool-dev/mcpool/rpc"
)

// Log messages outside of calls are told where it is certain whose they are.
func TestLogMessagesOutsideOfCallsAreOfTheirSession(t *testing.T) {
	for sharing, want := range map[mcpool.Sharing]string{
		mcpool.ShareSession:   `message {"level":"info"}; message {"level":"info"}`,
		mcpool.SharePrincipal: "",
		mcpool.ShareAll:       "",
	} {
		t.Run(string(sharing), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, s := &announcer{heeds: heedsAll}, &server{}
				p := s.poolOver(t, a, func(c *mcpool.Config) { c.Sharing = sharing })
				defer closePool(t, p)
				who := rpc.Caller{Session: "one"}
				if _, err := p.Do(t.Context(), rpc.Call{Method: "tools/call", Params: json.RawMessage(`{"name":"x"}`), Caller: who}); err != nil {
					t.Fatal(err)
				}
				e := listenTo(t, p, who, mcpool.Filter{Tools: true})
				e.heard()
				for range 2 { // the same is not the same message
					a.announce("notifications/message", `{"level":"info"}`)
				}
				if got := e.heard(); got != want {
					t.Errorf("heard %q, want %q", got, want)
				}
			})
		})
	}
}

func TestWatchersHearWhatTheyAskFor(t *testing.T) {
	bothEras(t, nil, func(t *testing.T, a *announcer, p *mcpool.Pool) {
		if _, err := p.CallTool(t.Context(), "x", nil); err != nil {
			t.Fatal(err)
		}
		if open, _, _ := a.state(); open != 0 {
			t.Error("a stream was opened before anybody watched")
		}
		tools := listenTo(t, p, nobody, mcpool.Filter{Tools: true})
		if got := tools.heard(); got != `subscriptions/acknowledged {"notifications":{"toolsListChanged":true}}` {
			t.Errorf("tools heard %s", got)
		}
		some := listenTo(t, p, nobody, mcpool.Filter{Prompts: true, Resources: true, URIs: []string{"a", "b"}})
		if got := some.heard(); got != `subscriptions/acknowledged {"notifications":{"promptsListChanged":true,"resourcesListChanged":true,"resourceSubscriptions":["a","b"]}}` {
			t.Errorf("the other heard %s", got)
		}
		more := listenTo(t, p, nobody, mcpool.Filter{Tools: true, URIs: []string{"a"}}) // nothing new to the server
		if got := more.heard(); got != `subscriptions/acknowledged {"notifications":{"toolsListChanged":true,"resourceSubscriptions":["a"]}}` {
			t.Errorf("the third heard %s", got)
		}
		time.Sleep(time.Second) // one that was replaced goes on for a moment
		if open, _, subscribed := a.state(); open != 1 || subscribed != "a b" {
			t.Errorf("%d streams are open and %q subscribed to, want one for all", open, subscribed)
		}
		for _, note := range [][2]string{
			{"notifications/tools/list_changed", `{}`}, {"notifications/prompts/list_changed", `{}`}, {"notifications/resources/list_changed", `{}`},
			{"notifications/resources/updated", `{"uri":"a"}`}, {"notifications/resources/updated", `{"uri":"b/part"}`}, {"notifications/resources/updated", `{"uri":"c"}`},
			{"notifications/message", `{"level":"info"}`},
		} {
			a.announce(note[0], note[1])
		}
		for name, test := range map[string]struct {
			ear  *ear
			want []string
		}{
			"tools": {tools, []string{"tools/list_changed"}},
			"some":  {some, []string{"prompts/list_changed", "resources/list_changed", "resources/updated a", "resources/updated b/part"}},
			"more":  {more, []string{"resources/updated a", "tools/list_changed"}},
		} {
			var got []string
			for _, note := range strings.Split(test.ear.heard(), "; ") {
				method, params, _ := strings.Cut(note, " ")
				got = append(got, strings.TrimSpace(method+" "+jsonrpc.GetString([]byte(params), "uri")))
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("%s heard %q, want %q", name, got, test.want)
			}
		}
		some.leave()
		<-some.err
		time.Sleep(time.Second)
		if open, _, subscribed := a.state(); open != 1 || subscribed != "a" {
			t.Errorf("after one has left %d streams are open and %q subscribed to, want 1 and a", open, subscribed)
		}
		tools.leave()
		more.leave()
		<-tools.err
		<-more.err
		synctest.Wait()
		if open, _, _ := a.state(); open != 0 {
			t.Errorf("%d streams are open and nobody watches", open)
		}
		if _, err := p.CallTool(t.Context(), "x", nil); err != nil {
			t.Error(err)
		}
	})
}

// subscriptions/listen is Watch as a call, one for all with those who watch.
func TestWatchAsACall(t *testing.T) {
	bothEras(t, nil, func(t *testing.T, a *announcer, p *mcpool.Pool) {
		watcher := listenTo(t, p, nobody, mcpool.Filter{Tools: true, URIs: []string{"a"}})
		caller := subscribe(t, p, `{"notifications":{"toolsListChanged":true,"resourceSubscriptions":["a"]}}`)
		for _, e := range []*ear{watcher, caller} {
			if got := e.heard(); got != `subscriptions/acknowledged {"notifications":{"toolsListChanged":true,"resourceSubscriptions":["a"]}}` {
				t.Errorf("heard %s", got)
			}
		}
		if open, _, _ := a.state(); open != 1 {
			t.Errorf("%d streams are open, want one for both", open)
		}
		a.announce("notifications/resources/updated", `{"uri":"a"}`)
		a.announce("notifications/prompts/list_changed", `{}`)
		if got := caller.heard(); got != updatedA {
			t.Errorf("heard %s", got)
		}
		caller.leave()
		if err := <-caller.err; !errors.Is(err, context.Canceled) {
			t.Errorf("left: %v", err)
		}
		for _, params := range []string{``, `[]`, `{"notifications":[]}`, `{"notifications":{"resourceSubscriptions":"a"}}`} {
			refused := (*rpc.Error)(nil)
			if err := <-subscribe(t, p, params).err; !errors.As(err, &refused) || refused.Code != rpc.CodeInvalidParams {
				t.Errorf("%q: %v", params, err)
			}
		}
		deaf := make(chan error)
		go func() {
			_, err := p.Do(t.Context(), rpc.Call{Method: "subscriptions/listen", Params: json.RawMessage(`{"notifications":{}}`)})
			deaf <- err
		}()
		synctest.Wait()
		if n := p.Stats(); n.Calls != 0 || n.CallsInFlight != 0 {
			t.Errorf("%d calls, %d in flight", n.Calls, n.CallsInFlight)
		}
		closePool(t, p)
		for _, err := range []error{<-deaf, <-watcher.err} {
			if !errors.Is(err, mcpool.ErrPoolClosed) {
				t.Errorf("after Close: %v", err)
			}
		}
	})
}

// A handler in process is listened to as a modern server is, and takes no slot.
func TestHandlerIsWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var listening atomic.Int32
		knows := true
		changes := make(chan string)
		p, err := mcpool.New(mcpool.Server{Name: "here", Handler: handlerFunc(func(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
			switch {
			case call.Method == "server/discover":
				return rpc.Result(json.RawMessage(`{"here":1}`)), nil
			case call.Method != "subscriptions/listen" || !knows:
				return rpc.Answer{}, rpc.Errorf(rpc.CodeMethodNotFound, "no")
			}
			listening.Add(1)
			defer listening.Add(-1)
			call.Events.Notify("notifications/subscriptions/acknowledged", call.Params)
			for {
				select {
				case method := <-changes:
					call.Events.Notify(method, json.RawMessage(`{}`))
				case <-ctx.Done():
					return rpc.Answer{}, ctx.Err()
				}
			}
		})}, nil)
		if err != nil {
			t.Fatal(err)
		}
		const all = `{"notifications":{"toolsListChanged":true,"promptsListChanged":true}}`
		one, other := subscribe(t, p, `{"notifications":{"toolsListChanged":true}}`), subscribe(t, p, all)
		if got := one.heard(); got != `subscriptions/acknowledged {"notifications":{"toolsListChanged":true}}` {
			t.Errorf("one heard %s", got)
		}
		time.Sleep(time.Second) // one that was replaced goes on for a moment
		if got := other.heard(); got != "subscriptions/acknowledged "+all || listening.Load() != 1 {
			t.Errorf("the other heard %s; the handler is listened to by %d", got, listening.Load())
		}
		changes <- "notifications/tools/list_changed"
		changes <- "notifications/prompts/list_changed"
		if a, b := one.heard(), other.heard(); a != "tools/list_changed {}" || b != "prompts/list_changed {}; tools/list_changed {}" {
			t.Errorf("one heard %s, the other %s", a, b)
		}
		if n := p.Stats().CallsInFlight; n != 0 {
			t.Errorf("%d slots are taken", n)
		}
		if answer, err := p.Do(t.Context(), rpc.Call{Method: "server/discover"}); err != nil || string(answer.Bytes()) != `{"here":1}` {
			t.Errorf("server/discover: %s, %v", answer.Bytes(), err)
		}
		one.leave()
		other.leave()
		<-one.err
		<-other.err
		synctest.Wait()
		knows = false
		last := subscribe(t, p, all)
		if got := last.heard(); got != `subscriptions/acknowledged {"notifications":{}}` || listening.Load() != 0 {
			t.Errorf("of a handler that does not know the method %s was heard; %d listen", got, listening.Load())
		}
		closePool(t, p)
		if err := <-last.err; !errors.Is(err, mcpool.ErrPoolClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}

// A stream that ends is opened again, calls do not notice, and whoever watches
// is told of all that may have changed.
func TestWatchIsBegunAgain(t *testing.T) {
	for _, sessions := range []bool{false, true} {
		bothEras(t, nil, func(t *testing.T, a *announcer, p *mcpool.Pool) {
			e := listenTo(t, p, nobody, mcpool.Filter{Tools: true, URIs: []string{"a"}})
			e.heard()
			first := ask(t, p, nobody, "tools/list", "")
			a.drop(sessions)
			time.Sleep(4 * time.Second) // a second, and two more where the session turns out to be lost
			if got := e.heard(); got != updatedA+"; tools/list_changed " {
				t.Errorf("heard %q after the stream had ended, want that all may have changed", got)
			}
			if open, _, subscribed := a.state(); open != 1 || subscribed != "a" {
				t.Errorf("%d streams are open, %q is subscribed to", open, subscribed)
			}
			if second := ask(t, p, nobody, "tools/list", ""); second == first {
				t.Error("the list is that from before")
			}
			a.announce("notifications/resources/updated", `{"uri":"a"}`)
			if got := e.heard(); got != updatedA {
				t.Errorf("heard %q", got)
			}
			other := listenTo(t, p, nobody, mcpool.Filter{Prompts: true})
			if got := other.heard(); !strings.Contains(got, "promptsListChanged") {
				t.Errorf("another heard %q", got)
			}
			if got := e.heard(); got != "" {
				t.Errorf("heard %q again when another came", got)
			}
			for _, e := range []*ear{e, other} {
				e.leave()
				<-e.err
			}
		})
	}
}

// A change that is told drops what is kept of the lists.
func TestWatchKeepsAnswersFresh(t *testing.T) {
	watched(t, true, nil, func(t *testing.T, a *announcer, p *mcpool.Pool) {
		e := listenTo(t, p, nobody, mcpool.Filter{Tools: true})
		e.heard()
		first, second := ask(t, p, nobody, "tools/list", ""), ask(t, p, nobody, "tools/list", "")
		a.announce("notifications/tools/list_changed", `{}`)
		e.heard()
		if third := ask(t, p, nobody, "tools/list", ""); first != second || third == second {
			t.Errorf("requests %s, %s and %s", first, second, third)
		}
		e.leave()
		<-e.err
	})
}

// Servers that have no stream, or one that begins with its first event, or that
// heed less than they are asked for, are watched as far as that goes.
func TestServersThatTellLittle(t *testing.T) {
	for name, test := range map[string]struct {
		change      func(*announcer)
		after       time.Duration
		first, then string
	}{
		"silent":        {func(a *announcer) { a.silent = true }, 3 * time.Second, `subscriptions/acknowledged {"notifications":{"toolsListChanged":true,"resourceSubscriptions":["a"]}}`, "tools/list_changed {}"},
		"heeds nothing": {func(a *announcer) { a.heeds = `{}` }, 0, `subscriptions/acknowledged {"notifications":{}}`, "tools/list_changed {}"},
		"no resource":   {func(a *announcer) { a.heeds = `{"tools":{"listChanged":true},"resources":{}}` }, 0, `subscriptions/acknowledged {"notifications":{"toolsListChanged":true}}`, "tools/list_changed {}"},
		"no stream":     {func(a *announcer) { a.noStream = true }, 0, `subscriptions/acknowledged {"notifications":{}}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			watched(t, false, test.change, func(t *testing.T, a *announcer, p *mcpool.Pool) {
				e := listenTo(t, p, nobody, mcpool.Filter{Tools: true, URIs: []string{"a", "none"}})
				time.Sleep(test.after)
				if got := e.heard(); got != test.first {
					t.Errorf("heard %q, want %q", got, test.first)
				}
				if _, err := p.CallTool(t.Context(), "x", nil); err != nil {
					t.Error(err)
				}
				a.announce("notifications/tools/list_changed", `{}`)
				if got := e.heard(); got != test.then {
					t.Errorf("heard %q, want %q", got, test.then)
				}
				time.Sleep(time.Hour)
				if n := p.Stats(); n.Closed[mcpool.ClosedLost]+n.Closed[mcpool.ClosedUnhealthy] != 0 {
					t.Errorf("connections closed: %v", n.Closed)
				}
				e.leave()
				<-e.err
			})
		})
	}
}

// A connection that is listened to is in use, but is replaced like any other.
func TestWatchedConnectionsAreKeptAndReplaced(t *testing.T) {
	bothEras(t, nil, func(t *testing.T, a *announcer, p *mcpool.Pool) {
		e := listenTo(t, p, nobody, mcpool.Filter{Tools: true})
		e.heard()
		time.Sleep(time.Hour)
		if _, opened, _ := a.state(); opened != 1 || e.heard() != "" {
			t.Errorf("%d streams in an hour without use, want 1", opened)
		}
		p.Reset()
		time.Sleep(5 * time.Second)
		if open, opened, _ := a.state(); open != 1 || opened != 2 || e.heard() != "tools/list_changed " {
			t.Errorf("after a reset %d streams are open, %d were opened", open, opened)
		}
		e.leave()
		<-e.err
	})
}

// What one principal hears another does not, and each stream is authorized
// for its own.
func TestPrincipalsWatchApart(t *testing.T) {
	bothEras(t, nil, func(t *testing.T, a *announcer, p *mcpool.Pool) {
		hers, his := listenTo(t, p, ann, mcpool.Filter{URIs: []string{"a"}}), listenTo(t, p, bob, mcpool.Filter{URIs: []string{"a"}})
		hers.heard()
		his.heard()
		a.mu.Lock()
		if len(a.streams) != 2 {
			t.Errorf("%d streams for two principals", len(a.streams))
		}
		one := slices.Collect(maps.Keys(a.streams))[0]
		with := json.RawMessage(`{"uri":"a"}`)
		one.send <- string(jsonrpc.AppendRequest(nil, nil, "notifications/resources/updated", with))
		a.mu.Unlock()
		if got := hers.heard() + his.heard(); got != updatedA {
			t.Errorf("one stream was told, and %q was heard", got)
		}
		for _, e := range []*ear{hers, his} {
			e.leave()
			<-e.err
		}
	})
}

// Who shared a watch before a Reload shares it no longer than that allows.
func TestReloadPartsWatchers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &announcer{heeds: heedsAll}
		s := &server{}
		config := mcpool.DefaultConfig()
		config.Sharing = mcpool.ShareAll
		p := s.poolOver(t, a, func(c *mcpool.Config) { *c = config })
		hers, his := listenTo(t, p, ann, mcpool.Filter{Tools: true}), listenTo(t, p, bob, mcpool.Filter{Tools: true})
		hers.heard()
		his.heard()
		if open, _, _ := a.state(); open != 1 {
			t.Errorf("%d streams where all share", open)
		}
		config.Sharing = mcpool.SharePrincipal
		if err := p.Reload(mcpool.Server{Name: "test", URL: "http://server.test/mcp", RoundTripper: &s.network}, &config); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		if open, _, _ := a.state(); open != 2 {
			t.Errorf("%d streams for two principals", open)
		}
		if h, b := hers.heard(), his.heard(); h != "tools/list_changed " || b != h {
			t.Errorf("heard %q and %q, want that all may have changed", h, b)
		}
		hers.leave()
		<-hers.err
		closePool(t, p)
		if err := <-his.err; !errors.Is(err, mcpool.ErrPoolClosed) {
			t.Errorf("Watch ended with %v", err)
		}
		if err := p.Watch(t.Context(), ann, mcpool.Filter{}, nil); !errors.Is(err, mcpool.ErrPoolClosed) {
			t.Errorf("Watch of a closed pool: %v", err)
		}
	})
}

// Who comes while the server is being asked is told of all that it heeds, not
// of what it was asked for before.
func TestWatchersThatComeWhileTheServerIsAsked(t *testing.T) {
	bothEras(t, func(a *announcer) { a.slow = time.Second }, func(t *testing.T, a *announcer, p *mcpool.Pool) {
		first := listenTo(t, p, nobody, mcpool.Filter{Tools: true})
		time.Sleep(time.Second / 2)
		second := listenTo(t, p, nobody, mcpool.Filter{Prompts: true})
		time.Sleep(3 * time.Second / 4) // the first filter is heeded, or both
		third := listenTo(t, p, nobody, mcpool.Filter{Prompts: true})
		time.Sleep(10 * time.Second)
		a.hurry()
		for want, e := range map[string]*ear{"tools": first, "prompts": second, " prompts": third} {
			if got := e.heard(); got != `subscriptions/acknowledged {"notifications":{"`+strings.TrimSpace(want)+`ListChanged":true}}` {
				t.Errorf("who wants %s heard %s", want, got)
			}
			e.leave()
			<-e.err
		}
	})
}

// A server whose streams end as soon as they have begun is asked less and less
// often, and so is everybody who watches.
func TestStreamsThatEndAtOnce(t *testing.T) {
	bothEras(t, func(a *announcer) { a.brief = true }, func(t *testing.T, a *announcer, p *mcpool.Pool) {
		e := listenTo(t, p, nobody, mcpool.Filter{Tools: true})
		time.Sleep(time.Hour)
		if _, opened, _ := a.state(); opened < 100 || opened > 130 {
			t.Errorf("%d streams in an hour, want one in 30 s", opened)
		}
		a.hurry()
		time.Sleep(time.Minute)
		_, before, _ := a.state()
		a.drop(false)
		time.Sleep(2 * time.Second)
		if _, opened, _ := a.state(); opened != before+1 {
			t.Errorf("%d streams 2 s after one has ended that was there for half a minute, want 1", opened-before)
		}
		e.leave()
		<-e.err
	})
}

// A server that wants to be left alone is, also by who listens.
func TestWatchLeavesAServerAlone(t *testing.T) {
	bothEras(t, func(a *announcer) { a.busy = "90" }, func(t *testing.T, a *announcer, p *mcpool.Pool) {
		e := listenTo(t, p, nobody, mcpool.Filter{Tools: true})
		time.Sleep(80 * time.Second)
		if _, opened, _ := a.state(); opened != 0 {
			t.Errorf("%d streams before it may be asked", opened)
		}
		if _, err := p.CallTool(t.Context(), "x", nil); err != nil {
			t.Error(err)
		}
		time.Sleep(20 * time.Second)
		if open, _, _ := a.state(); open != 1 {
			t.Errorf("%d streams after that", open)
		}
		e.leave()
		<-e.err
	})
}

// Who is told that a list may have changed, and asks for it, gets the new one.
func TestWhoHearsOfAChangeFindsNothingOld(t *testing.T) {
	watched(t, true, nil, func(t *testing.T, a *announcer, p *mcpool.Pool) {
		var uris []string
		for i := range 1000 {
			uris = append(uris, fmt.Sprint(i))
		}
		first := ask(t, p, nobody, "tools/list", "")
		ctx, leave := context.WithCancel(t.Context())
		var err error
		var told, old int
		var watching sync.WaitGroup
		watching.Go(func() {
			err = p.Watch(ctx, nobody, mcpool.Filter{Tools: true, URIs: uris}, func(method string, _ json.RawMessage) {
				if method == "notifications/tools/list_changed" {
					told++
					if now := ask(t, p, nobody, "tools/list", ""); now == first {
						old++
					}
				}
				first = ask(t, p, nobody, "tools/list", "")
			})
		})
		synctest.Wait()
		for range 20 {
			a.drop(false)
			time.Sleep(time.Minute)
		}
		leave()
		watching.Wait()
		if told != 20 || old != 0 || !errors.Is(err, context.Canceled) {
			t.Errorf("told %d times, and %d times the list was old; %v", told, old, err)
		}
	})
}

// A child whose era shows only when it is started has no sessions to wait for
// if it is modern.
func TestSessionOfAModernChildIsWatched(t *testing.T) {
	path, argv, env := mcptest.Child(mcptest.Modern)
	ended := make(chan struct{}, 100)
	config := mcpool.DefaultConfig()
	config.Logger = slog.New(logged(func(message string) {
		if message == "listening ended" { // it knows no such method
			ended <- struct{}{}
		}
	}))
	p, err := mcpool.New(mcpool.Server{Name: "child", Command: path, Args: argv, Env: env}, &config)
	if err != nil {
		t.Fatal(err)
	}
	defer closePool(t, p)
	e := listenTo(t, p, rpc.Caller{Session: "a"}, mcpool.Filter{Tools: true})
	defer e.leave()
	for p.Stats().Opened == 0 {
		if _, err := call(t.Context(), p, rpc.Caller{Session: "b"}, "echo", "1"); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("nobody listens to the child")
	}
}

// logged is told the message of each record.
type logged func(message string)

func (logged) Enabled(context.Context, slog.Level) bool        { return true }
func (l logged) WithAttrs([]slog.Attr) slog.Handler            { return l }
func (l logged) WithGroup(string) slog.Handler                 { return l }
func (l logged) Handle(_ context.Context, r slog.Record) error { l(r.Message); return nil }
