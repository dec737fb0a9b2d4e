package mcpool_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
	"github.com/mcpool-dev/mcpool/rpc"
)

// A library is a server whose answers to everything but calls of tools say how
// fresh they are, and the number of the request. A call of the tool "write" is
// told, before its answer, what stands in its text.
type library struct {
	server
	hint string // members of each result

	mu    sync.Mutex
	n     int
	while func() // what happens before the answer
}

func newLibrary(hint string) *library {
	l := &library{hint: hint}
	l.Modern = true
	l.Fault = func(r *http.Request, method string, w http.ResponseWriter) bool {
		id := mcptest.ID(r)
		if method == "tools/call" {
			note := jsonrpc.GetString(body(r), "params", "arguments", "text")
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprintf(w, "data: %s\n\ndata: {\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{}}\n\n", note, id)
			return true
		}
		if method == "server/discover" || method == "initialize" || method == "notifications/initialized" {
			return false
		}
		l.mu.Lock()
		l.n++
		n := l.n
		l.mu.Unlock()
		if l.while != nil {
			l.while()
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"n":%d,"big":9007199254740993%s}}`, id, n, l.hint))
		return true
	}
	return l
}

// ask returns the number of the request that the answer comes from.
func ask(t *testing.T, p rpc.Handler, who rpc.Caller, method, params string) string {
	t.Helper()
	c := rpc.Call{Method: method, Caller: who}
	if params != "" {
		c.Params = json.RawMessage(params)
	}
	answer, err := p.Do(t.Context(), c)
	if err != nil {
		t.Fatalf("%s: %v", method, err)
	}
	if !strings.Contains(string(answer.Bytes()), "9007199254740993") {
		t.Errorf("%s was answered with %s", method, answer.Bytes())
	}
	n, _ := jsonrpc.Get(answer.Bytes(), "n")
	return string(n)
}

// tell has the server send a notification.
func tell(t *testing.T, p *mcpool.Pool, note string) {
	t.Helper()
	if _, err := p.CallTool(t.Context(), "write", map[string]string{"text": note}); err != nil {
		t.Fatal(err)
	}
}

func TestFreshAnswersAreKept(t *testing.T) {
	for name, test := range map[string]struct {
		hint   string
		legacy bool
		want   string // the requests behind ann's, ann's, bob's and ann's third question
	}{
		"private":      {`,"ttlMs":60000,"cacheScope":"private"`, false, "1 1 2 1"},
		"public":       {`,"ttlMs":60000,"cacheScope":"public"`, false, "1 1 1 1"},
		"no scope":     {`,"ttlMs":60000`, false, "1 1 2 1"},
		"other scope":  {`,"ttlMs":60000,"cacheScope":"x"`, false, "1 1 2 1"},
		"stale":        {`,"ttlMs":0,"cacheScope":"public"`, false, "1 2 3 4"},
		"no word":      {``, false, "1 2 3 4"},
		"negative":     {`,"ttlMs":-5,"cacheScope":"public"`, false, "1 2 3 4"},
		"no number":    {`,"ttlMs":"60000","cacheScope":"public"`, false, "1 2 3 4"},
		"not a number": {`,"ttlMs":null,"cacheScope":"public"`, false, "1 2 3 4"},
		"legacy":       {`,"ttlMs":60000,"cacheScope":"public"`, true, "1 2 3 4"},
		"a question":   {`,"ttlMs":60000,"cacheScope":"public","resultType":"input_required"`, false, "1 2 3 4"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLibrary(test.hint)
				l.Modern = !test.legacy
				p := l.pool(t, nil)
				defer closePool(t, p)
				if _, err := p.CallTool(t.Context(), "write", nil); err != nil { // so that the era is known
					t.Fatal(err)
				}
				got := strings.Join([]string{
					ask(t, p, ann, "tools/list", ""), ask(t, p, ann, "tools/list", "{}"), ask(t, p, bob, "tools/list", ""),
					ask(t, p, ann, "tools/list", `{"_meta":{"progressToken":1}}`),
				}, " ")
				if got != test.want {
					t.Errorf("requests %s, want %s", got, test.want)
				}
				if hits := p.Stats().CacheHits; hits != uint64(4-l.n) {
					t.Errorf("%d hits, %d requests", hits, l.n)
				}
			})
		})
	}
}

func TestAnswersAreKeptForWhatWasAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLibrary(`,"ttlMs":60000,"cacheScope":"private"`)
		p := l.pool(t, nil)
		defer closePool(t, p)
		if got := ask(t, p, ann, "tools/list", ""); got != "1" { // the first finds out that the server is modern
			t.Fatal(got)
		}
		for i, question := range []struct {
			who            rpc.Caller
			method, params string
		}{
			{ann, "tools/list", ""}, {ann, "tools/list", `{"cursor":"2"}`}, {ann, "prompts/list", ""},
			{ann, "resources/list", ""}, {ann, "resources/templates/list", ""},
			{ann, "resources/read", `{"uri":"a"}`}, {ann, "resources/read", `{"uri":"b"}`},
			{rpc.Caller{Principal: "ann", Revision: "2"}, "tools/list", ""}, {bob, "tools/list", ""},
			{rpc.Caller{Principal: "ann", Capabilities: rpc.Capabilities{Roots: true}}, "tools/list", ""},
		} {
			first, second := ask(t, p, question.who, question.method, question.params), ask(t, p, question.who, question.method, question.params)
			if want := fmt.Sprint(i + 2); first != want || second != want {
				t.Errorf("%v: requests %s and %s, want %s", question, first, second, want)
			}
		}
		for _, never := range []string{"prompts/get", "completion/complete", "x/list"} {
			if first, second := ask(t, p, ann, never, ""), ask(t, p, ann, never, ""); first == second {
				t.Errorf("%s was answered without a request", never)
			}
		}
		for _, round := range []string{`{"uri":"a","inputResponses":{}}`, `{"uri":"a","requestState":"s"}`} {
			if first, second := ask(t, p, ann, "resources/read", round), ask(t, p, ann, "resources/read", round); first == second {
				t.Errorf("a round of an exchange was answered without a request: %s", round)
			}
		}
	})
}

func TestKeptAnswersGrowStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLibrary(`,"ttlMs":60000,"cacheScope":"public"`)
		p := l.pool(t, nil)
		ask(t, p, ann, "tools/list", "")
		ask(t, p, ann, "tools/list", "")
		time.Sleep(40 * time.Second)
		answer, err := p.Do(t.Context(), rpc.Call{Method: "tools/list"})
		left, _ := jsonrpc.Get(answer.Bytes(), "ttlMs")
		if n, _ := jsonrpc.Get(answer.Bytes(), "n"); err != nil || string(left) != "20000" || string(n) != "2" {
			t.Errorf("after 40 of 60 s: %s, %v", answer.Bytes(), err)
		}
		time.Sleep(20 * time.Second)
		if got := ask(t, p, ann, "tools/list", ""); got != "3" {
			t.Errorf("after 60 s the answer is that of request %s", got)
		}
		closePool(t, p)
		if _, err := p.Do(t.Context(), rpc.Call{Method: "tools/list"}); !errors.Is(err, mcpool.ErrPoolClosed) {
			t.Errorf("a closed pool answers with %v", err)
		}
	})
}

func TestChangesMakeKeptAnswersStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLibrary(`,"ttlMs":60000,"cacheScope":"private"`)
		p := l.pool(t, nil)
		defer closePool(t, p)
		questions := [][2]string{
			{"tools/list", ""}, {"prompts/list", ""}, {"resources/list", ""}, {"resources/templates/list", ""},
			{"resources/read", `{"uri":"a"}`}, {"resources/read", `{"uri":"b"}`}, {"resources/read", `{"uri":"b/"}`}, {"resources/read", `{"uri":"b/c"}`},
		}
		tell(t, p, `{"jsonrpc":"2.0","method":"notifications/message"}`)
		for _, test := range []struct {
			note, stale string // by index
		}{
			{`{"jsonrpc":"2.0","method":"notifications/message","params":{}}`, ""},
			{`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`, "0"},
			{`{"jsonrpc":"2.0","method":"notifications/prompts/list_changed","params":{}}`, "1"},
			{`{"jsonrpc":"2.0","method":"notifications/resources/list_changed"}`, "23"},
			{`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"b"}}`, "5"},
			{`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"b/d"}}`, "56"},
			{`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"c"}}`, ""},
		} {
			var before []string
			for _, q := range questions {
				before = append(before, ask(t, p, ann, q[0], q[1]))
			}
			tell(t, p, test.note)
			stale := ""
			for i, q := range questions {
				if ask(t, p, ann, q[0], q[1]) != before[i] {
					stale += fmt.Sprint(i)
				}
			}
			if stale != test.stale {
				t.Errorf("%s: %q are stale, want %q", test.note, stale, test.stale)
			}
		}
	})
}

// An answer that was under way when something changed may be from before.
func TestChangeOvertakesAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLibrary(`,"ttlMs":60000,"cacheScope":"public"`)
		p := l.pool(t, nil)
		defer closePool(t, p)
		tell(t, p, `{"jsonrpc":"2.0","method":"notifications/message"}`)
		l.while = func() { tell(t, p, `{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`) }
		first := ask(t, p, ann, "tools/list", "")
		l.while = nil
		if second := ask(t, p, ann, "tools/list", ""); second == first {
			t.Error("an answer from before the change was kept")
		}
	})
}

func TestKeptAnswersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLibrary(`,"ttlMs":60000,"cacheScope":"public"`)
		p := l.pool(t, nil)
		defer closePool(t, p)
		read := func(i int) string { return ask(t, p, ann, "resources/read", fmt.Sprintf(`{"uri":"%d"}`, i)) }
		ask(t, p, ann, "tools/list", "")
		for i := range 1000 {
			read(i)
		}
		before := l.n
		read(0)
		if l.n != before {
			t.Error("one of a thousand answers is gone")
		}
		read(1000)
		if read(0); l.n != before+1 {
			t.Error("the answer used last is gone")
		}
		if read(1); l.n != before+2 {
			t.Error("the answer unused longest is still there")
		}

		l.hint += `,"long":"` + strings.Repeat("x", 1<<20) + `"`
		if first, second := read(5000), read(5000); first == second {
			t.Error("an answer of more than a megabyte was kept")
		}
		l.hint = strings.Replace(l.hint, strings.Repeat("x", 1<<19), "", 1)
		for i := range 40 {
			read(6000 + i)
		}
		before = l.n
		if read(6039); l.n != before {
			t.Error("the last answer is gone")
		}
		if read(6000); l.n != before+1 {
			t.Error("40 answers of half a megabyte are kept")
		}
	})
}
