package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

const (
	// operations are those of TestNothingCrosses, all together.
	operations = 100_000
	lanes      = 3 // of a client: what it does at once
	able       = `{"roots":{},"sampling":{},"elicitation":{}}`
)

// populate has two principals join, each with two clients of either era that
// can be asked everything and one of either that cannot be asked anything.
func (w *world) populate() {
	for _, principal := range []string{"ann", "bob"} {
		for _, modern := range []bool{false, true} {
			for name, caps := range map[string]string{"1": able, "2": able, "unable": "{}"} {
				w.join(principal, name, modern, caps)
			}
		}
	}
	slices.SortFunc(w.clients, func(a, b *client) int { return strings.Compare(a.name, b.name) })
}

// level is the least severe log message that a legacy client wants.
func (w *world) level(c *client) string { return logLevels[slices.Index(w.clients, c)%len(logLevels)] }

var logLevels = []string{"debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"}

// An operation is something that a client does. It fails where what the client
// got is not its own. tag is used once; id, and the progress token that is the
// same, are those that other clients use at the same moment.
type operation func(w *world, c *client, id int, tag string, random *rand.Rand) error

// mixed are the operations, each as often as its share says.
var mixed = []struct {
	name  string
	share int
	do    operation
}{
	{"echo", 30, echo},
	{"progress", 15, progress},
	{"log", 10, logMessages},
	{"hold", 6, hold},
	{"ask", 8, ask},
	{"list", 8, list},
	{"walk", 3, walk},
	{"read", 10, read},
	{"foreign", 10, foreign},
}

// TestNothingCrosses has clients of two principals do everything at once over
// shared connections. Ids of requests and progress tokens are the same for all
// of them. Each operation checks that what its client got is its own.
func TestNothingCrosses(t *testing.T) {
	var done atomic.Int64
	for _, modern := range []bool{false, true} {
		for _, sharing := range sharings {
			t.Run(fmt.Sprintf("%s server, %s", eras[modern], sharing), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, modern, sharing)
				w.populate()
				share := operations / 2 * 2 / 5
				if sharing == mcpool.ShareSession { // most calls wait there, for who has the connection
					share = operations / 2 / 5
				}
				done.Add(w.mix(share))
				w.checkConnections()
				w.checkHeld()
			})
		}
	}
	t.Cleanup(func() {
		if n := done.Load(); n < operations-1000 && !t.Failed() {
			t.Errorf("%d operations were done, want %d", n, operations)
		}
		t.Logf("%d operations", done.Load())
	})
}

// mix has all clients do so many operations, all together.
func (w *world) mix(n int) int64 {
	for _, c := range w.clients {
		if !c.modern {
			if _, err := c.call(w.ended, 1, "logging/setLevel", `"level":"`+w.level(c)+`"`, exchange{}); err != nil {
				w.t.Errorf("%s: %v", c.name, err)
			}
		}
	}
	shares := 0
	for _, op := range mixed {
		shares += op.share
	}
	each := n / (len(w.clients) * lanes)
	var done atomic.Int64
	var working sync.WaitGroup
	for _, c := range w.clients {
		for lane := range lanes {
			working.Go(func() {
				random := rand.New(rand.NewPCG(uint64(lane), uint64(slices.Index(w.clients, c))))
				for i := range each {
					at, op := random.IntN(shares), 0
					for at >= mixed[op].share {
						at -= mixed[op].share
						op++
					}
					if err := mixed[op].do(w, c, lane, fmt.Sprintf("%s/%d.%d", c.name, lane, i), random); err != nil {
						w.t.Errorf("%s of %s: %v", mixed[op].name, c.name, err)
						return
					}
					done.Add(1)
				}
			})
		}
	}
	working.Wait()
	return done.Load()
}

// callTool calls a tool, with its id as its progress token, too.
func (w *world) callTool(c *client, id int, tool, tag, arguments string, x exchange) (json.RawMessage, error) {
	x.meta += fmt.Sprintf(`,"progressToken":%d`, id)
	result, err := c.call(w.ended, id, "tools/call", fmt.Sprintf(`"name":%q,"arguments":{"id":%q%s}`, tool, tag, arguments), x)
	if err != nil {
		return nil, err
	}
	structured, _ := jsonrpc.Get(result, "structuredContent")
	if got := jsonrpc.GetString(structured, "id"); got != tag {
		return nil, fmt.Errorf("call %s was answered as %s: %s", tag, got, result)
	}
	return structured, nil
}

// echo wants its text again.
func echo(w *world, c *client, id int, tag string, random *rand.Rand) error {
	said, err := w.callTool(c, id, "echo", tag, fmt.Sprintf(`,"text":%q,"ms":%d`, "for "+tag, random.IntN(3)), exchange{})
	if err == nil && jsonrpc.GetString(said, "text") != "for "+tag {
		err = fmt.Errorf("%s was told %s", tag, said)
	}
	return err
}

// progress wants to hear of its own, all of it.
func progress(w *world, c *client, id int, tag string, random *rand.Rand) error {
	var wrong error
	steps, heard := 1+random.IntN(4), 0
	_, err := w.callTool(c, id, "progress", tag, fmt.Sprintf(`,"text":%q,"steps":%d`, tag, steps), exchange{notified: func(method string, params json.RawMessage) {
		token, _ := jsonrpc.Get(params, "progressToken")
		switch {
		case method == "notifications/message":
			if !strings.Contains(string(params), `"`+tag+`"`) {
				wrong = fmt.Errorf("%s heard %s", tag, params)
			}
		case method != "notifications/progress" || jsonrpc.GetString(params, "message") != tag || string(token) != fmt.Sprint(id):
			wrong = fmt.Errorf("%s heard %s %s", tag, method, params)
		default:
			heard++
		}
	}})
	if err == nil && wrong == nil && heard != steps {
		wrong = fmt.Errorf("%s heard of %d steps of %d", tag, heard, steps)
	}
	return errors.Join(err, wrong)
}

// logMessages wants the messages of its own call, from the level on that the
// session or the request has asked for, whatever others have.
func logMessages(w *world, c *client, id int, tag string, random *rand.Rand) error {
	level, meta := w.level(c), ""
	if c.modern {
		if level = ""; random.IntN(4) > 0 {
			level = logLevels[random.IntN(len(logLevels))]
			meta = `,"io.modelcontextprotocol/logLevel":"` + level + `"`
		}
	}
	var want []string
	if level != "" {
		want = logLevels[slices.Index(logLevels, level):]
	}
	var got []string
	var wrong error
	_, err := w.callTool(c, id, "log", tag, "", exchange{meta: meta, notified: func(method string, params json.RawMessage) {
		if method != "notifications/message" || jsonrpc.GetString(params, "data") != tag {
			wrong = fmt.Errorf("%s heard %s %s", tag, method, params)
		}
		got = append(got, jsonrpc.GetString(params, "level"))
	}})
	if err == nil && wrong == nil && !slices.Equal(got, want) {
		wrong = fmt.Errorf("%s, who wants %q, heard %v", tag, level, got)
	}
	return errors.Join(err, wrong)
}

// hold cancels a call that would never end, while others have calls under way
// with its id.
func hold(w *world, c *client, id int, tag string, _ *rand.Rand) error {
	ctx, cancel := context.WithCancel(w.ended)
	defer cancel()
	var wrong error
	_, err := c.call(ctx, id, "tools/call", fmt.Sprintf(`"name":"hold","arguments":{"id":%q}`, tag), exchange{
		meta: fmt.Sprintf(`,"progressToken":%d`, id),
		notified: func(_ string, params json.RawMessage) {
			if jsonrpc.GetString(params, "message") != tag {
				wrong = fmt.Errorf("%s heard %s", tag, params)
			}
			w.mu.Lock()
			w.held[tag]++
			w.mu.Unlock()
			if c.modern {
				cancel()
			} else if err := c.tell(w.ended, fmt.Appendf(nil, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%d}}`, id)); err != nil {
				wrong = err
			}
		},
	})
	const cancelled = -32800
	if c.modern && !errors.Is(err, context.Canceled) || !c.modern && !fails(err, cancelled) {
		return errors.Join(wrong, fmt.Errorf("the end of %s: %w", tag, err))
	}
	return wrong
}

// checkHeld holds that the server was told of the end of those calls, and of no
// other's.
func (w *world) checkHeld() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.ended.Err() == nil { // it may still be on its way
		if maps.Equal(w.held, w.server.Withdrawn()) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	got := w.server.Withdrawn()
	w.t.Errorf("%d calls were cancelled, and at the server %d", len(w.held), len(got))
}

// ask has the server ask something of a client, which answers in its name.
// Others try to answer in its place.
func ask(w *world, c *client, id int, tag string, random *rand.Rand) error {
	method := []string{"elicitation/create", "sampling/createMessage", "roots/list"}[random.IntN(3)]
	forged, asked := random.IntN(3) == 0, 0
	var wrong error
	x := exchange{asked: func(id json.RawMessage, got string, params json.RawMessage) (json.RawMessage, error) {
		asked++
		if got != method || jsonrpc.GetString(params, "message") != tag {
			wrong = fmt.Errorf("%s was asked %s %s", tag, got, params)
		}
		if forged && id != nil {
			thief := w.other(c, false, random)
			wrong = errors.Join(wrong, thief.tell(w.ended, jsonrpc.AppendResult(nil, id, json.RawMessage(`{"by":"another"}`))))
		}
		return json.RawMessage(fmt.Sprintf(`{"by":%q}`, tag)), nil
	}}
	if forged && !w.server.Modern {
		x.parked = func(params json.RawMessage) error {
			return w.steal(w.other(c, true, random), params)
		}
	}
	if c.caps == "{}" {
		x.asked = nil
	}
	said, err := w.callTool(c, id, "ask", tag, fmt.Sprintf(`,"method":%q,"params":{"message":%q}`, method, tag), x)
	if c.caps == "{}" {
		const missingCapability = -32021
		if w.server.Modern && c.modern && fails(err, missingCapability) || w.server.Modern && !c.modern && err != nil {
			return nil
		}
		if reply, _ := jsonrpc.Get(said, "reply", "code"); string(reply) != "-32601" {
			return fmt.Errorf("%s cannot be asked, and was: %s, %w", tag, said, err)
		}
		return nil
	}
	if err == nil && (asked != 1 || jsonrpc.GetString(said, "reply", "by") != tag) {
		err = fmt.Errorf("%s was asked %d times, and the server was answered %s", tag, asked, said)
	}
	return errors.Join(err, wrong)
}

// other is a client of the other principal, of an era.
func (w *world) other(c *client, modern bool, random *rand.Rand) *client {
	for {
		other := w.clients[random.IntN(len(w.clients))]
		if other.principal != c.principal && other.modern == modern {
			return other
		}
	}
}

// steal goes on with a call that is another's.
func (w *world) steal(thief *client, params json.RawMessage) error {
	members := strings.TrimSuffix(strings.TrimPrefix(string(params), "{"), "}")
	result, err := thief.once(w.ended, 7, "tools/call", members, "", exchange{})
	if !fails(err, rpc.CodeInvalidParams) {
		return fmt.Errorf("%s went on with another's call: %s, %w", thief.name, result, err)
	}
	return nil
}

// list wants the tools that a session with the client's capabilities has.
func list(w *world, c *client, id int, tag string, _ *rand.Rand) error {
	result, err := c.call(w.ended, id, "tools/list", "", exchange{})
	if err != nil {
		return err
	}
	special := strings.Count(string(result), `"name":"ask-`)
	want := 0
	if c.caps == able && !w.server.Modern {
		want = 3
	}
	if special != want {
		return fmt.Errorf("%s was listed %d tools for who can be asked, want %d", tag, special, want)
	}
	return nil
}

// walk reads a list in pages, which are all of the same walk.
func walk(w *world, c *client, id int, tag string, _ *rand.Rand) error {
	var items []string
	for params := ""; ; {
		page, err := c.call(w.ended, id, "resources/list", params, exchange{})
		if err != nil {
			return err
		}
		list, _ := jsonrpc.Get(page, "resources")
		elements, err := jsonrpc.Elements(list)
		if err != nil {
			return err
		}
		for _, element := range elements {
			items = append(items, jsonrpc.GetString(element, "name"))
		}
		cursor := jsonrpc.GetString(page, "nextCursor")
		if cursor == "" {
			break
		}
		params = fmt.Sprintf(`"cursor":%q`, cursor)
	}
	const whole = 6
	of, _, _ := strings.Cut(items[0], "/")
	for i, item := range items {
		if item != fmt.Sprintf("%s/item-%d", of, i) || len(items) != whole {
			return fmt.Errorf("%s was listed %v", tag, items)
		}
	}
	return w.own(of, c.name)
}

// read reads a resource, whose text is a number that the server has not used
// before. A modern server's answer may be kept, and then for its principal.
func read(w *world, c *client, id int, tag string, random *rand.Rand) error {
	uri := fmt.Sprint("res://", []string{"private", "public"}[random.IntN(2)], "/", random.IntN(1000))
	result, err := c.call(w.ended, id, "resources/read", fmt.Sprintf(`"uri":%q`, uri), exchange{})
	if err != nil {
		return err
	}
	contents, _ := jsonrpc.Get(result, "contents")
	all, _ := jsonrpc.Elements(contents)
	if len(all) != 1 || jsonrpc.GetString(all[0], "uri") != uri {
		return fmt.Errorf("%s read %s: %s", tag, uri, result)
	}
	owner := tag
	if w.server.Modern {
		owner = uri + " for " + c.principal
		if strings.Contains(uri, "public") {
			owner = uri
		}
	}
	return w.own(jsonrpc.GetString(all[0], "text"), owner)
}

// own notes whose a number of the server's is. It is nobody else's.
func (w *world) own(number, owner string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if other, taken := w.numbers[number]; taken && other != owner {
		return fmt.Errorf("%s was given %s, which is %s's", owner, number, other)
	}
	w.numbers[number] = owner
	return nil
}

// foreign names the session of another principal, and one that is not sealed
// here.
func foreign(w *world, c *client, id int, _ string, random *rand.Rand) error {
	if c.modern {
		return nil
	}
	thief := *c
	thief.session = w.other(c, false, random).session
	if random.IntN(2) == 0 {
		at := random.IntN(len(c.session) - 1) // the last character has bits that say nothing
		other := byte('A')
		if c.session[at] == other {
			other = 'B'
		}
		thief.session = c.session[:at] + string(other) + c.session[at+1:]
	}
	verb := []string{http.MethodPost, http.MethodGet, http.MethodDelete}[random.IntN(3)]
	response, err := thief.send(w.ended, verb, fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%d,"method":"ping"}`, id), nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusNotFound {
		return fmt.Errorf("%s in a session that is not its own: HTTP %d", verb, response.StatusCode)
	}
	return nil
}
