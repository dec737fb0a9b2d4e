package transport

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
	"github.com/mcpool-dev/mcpool/rpc"
)

// A gate notes what comes with which Authorization, and answers 401 to those
// it does not let in.
type gate struct {
	shut func(authorization string) bool // nil for never

	mu   sync.Mutex
	came []string // what and Authorization
}

func (g *gate) fault(r *http.Request, method string, w http.ResponseWriter) bool {
	what := method
	if m, err := jsonrpc.Parse(peek(r)); err == nil && m.IsResponse() {
		what = "reply"
	} else if method == "" {
		what = r.Method
	}
	carried := r.Header.Get("Authorization")
	g.mu.Lock()
	g.came = append(g.came, what+" "+carried)
	g.mu.Unlock()
	if g.shut != nil && g.shut(carried) {
		http.Error(w, "not you, "+carried, http.StatusUnauthorized)
		return true
	}
	return false
}

// taken returns what has come since it was asked last.
func (g *gate) taken() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	came := g.came
	g.came = nil
	return came
}

// expect checks what has come since g was asked last.
func (g *gate) expect(t testing.TB, want ...string) {
	t.Helper()
	if got := g.taken(); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// carries returns an Authorize that numbers what it gives.
func carries(name string) Authorize {
	var mu sync.Mutex
	n := 0
	return func(context.Context, *Refusal) (*Authorization, error) {
		mu.Lock()
		defer mu.Unlock()
		n++
		return &Authorization{fmt.Sprintf("Bearer %s-%d", name, n)}, nil
	}
}

// TestEveryRequestIsAuthorizedForItself has two callers on one connection.
func TestEveryRequestIsAuthorizedForItself(t *testing.T) {
	g := &gate{}
	endpoint := inBubble(t, &mcptest.Server{Fault: g.fault})
	conn, err := endpoint.Open(t.Context(), Known{}, rpc.Capabilities{}, carries("house"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	g.expect(t, "server/discover Bearer house-1", "initialize Bearer house-2", "notifications/initialized Bearer house-3")

	asked := &events{ask: func(context.Context, string) (json.RawMessage, error) { return json.RawMessage(`{}`), nil }}
	ask := mcptest.CallTool("ask", args{"id": "a", "method": "elicitation/create"})
	ask.Events, ask.Caller = asked, able
	if _, err := conn.Call(t.Context(), ask, carries("ann")); err != nil {
		t.Fatal(err)
	}
	g.expect(t, "tools/call Bearer ann-1", "reply Bearer ann-2")

	if _, err := conn.Call(t.Context(), mcptest.CallTool("echo", args{"id": "a"}), carries("bob")); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Call(t.Context(), mcptest.CallTool("echo", args{"id": "a"}), nil); err != nil {
		t.Fatal(err)
	}
	g.expect(t, "tools/call Bearer bob-1", "tools/call ")

	ctx, cancel := context.WithCancel(t.Context())
	asked.ask = func(ctx context.Context, _ string) (json.RawMessage, error) {
		cancel()
		<-ctx.Done()
		return nil, ctx.Err()
	}
	_, err = conn.Call(ctx, ask, carries("cid"))
	<-wantFailure(t, err, MayHaveRun, false).Settled
	g.expect(t, "tools/call Bearer cid-1", "notifications/cancelled Bearer cid-2")

	if err := conn.Check(t.Context()); err != nil {
		t.Error(err)
	}
	conn.Close(t.Context())
	g.expect(t, "ping Bearer house-4", "DELETE Bearer house-5")
}

// TestRefusedRequestsAreMadeOnceMore refuses the first Authorization of each.
func TestRefusedRequestsAreMadeOnceMore(t *testing.T) {
	g := &gate{shut: func(carried string) bool { return carried != "Bearer second" }}
	server := &mcptest.Server{Fault: g.fault}
	authorize := func() Authorize {
		given := map[*Authorization]bool{}
		var mu sync.Mutex
		return func(_ context.Context, refused *Refusal) (*Authorization, error) {
			mu.Lock()
			defer mu.Unlock()
			if refused != nil && (!given[refused.Carried] || refused.Challenge.Token != "first" || refused.Challenge.Status != 401) {
				t.Errorf("refused was what never was: %v", refused)
			}
			a := &Authorization{"Bearer first"}
			if refused != nil {
				a.Value = "Bearer second"
			}
			given[a] = true
			return a, nil
		}
	}
	conn, err := inBubble(t, server).Open(t.Context(), Known{}, rpc.Capabilities{}, authorize())
	if err != nil {
		t.Fatal(err)
	}
	ask := mcptest.CallTool("ask", args{"id": "once", "method": "elicitation/create"})
	ask.Events, ask.Caller = &events{ask: accepts}, able
	if _, err := conn.Call(t.Context(), ask, authorize()); err != nil {
		t.Error(err)
	}
	if err := conn.Check(t.Context()); err != nil {
		t.Error(err)
	}
	conn.Close(t.Context())
	var want []string
	for _, what := range []string{"server/discover", "initialize", "notifications/initialized", "tools/call", "reply", "ping", "DELETE"} {
		want = append(want, what+" Bearer first", what+" Bearer second")
	}
	if got := g.taken(); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if server.Executions()["once"] != 1 || server.Open() != 0 {
		t.Errorf("ran %d times, %d sessions left", server.Executions()["once"], server.Open())
	}
}

func TestAuthorizationThatIsNotHelped(t *testing.T) {
	sourceFails := errors.New("the source fails")
	// gives answers the questions of one call in turn.
	type answer struct {
		value string // "" for no Authorization
		err   error
	}
	for name, test := range map[string]struct {
		gives []answer
		fate  Fate
		sent  int
		cause error
		none  bool // no StatusError
	}{
		"fails at once":        {gives: []answer{{err: sourceFails}}, fate: NotSent, cause: sourceFails, none: true},
		"fails when refused":   {gives: []answer{{value: "Bearer 1"}, {err: sourceFails}}, fate: Refused, sent: 1, cause: sourceFails},
		"the same again":       {gives: []answer{{value: "Bearer 1"}, {value: "Bearer 1"}}, fate: Refused, sent: 1},
		"another, refused too": {gives: []answer{{value: "Bearer 1"}, {value: "Bearer 2"}}, fate: Refused, sent: 2},
		"nothing":              {gives: []answer{{}, {}}, fate: Refused, sent: 1},
		"nothing any more":     {gives: []answer{{value: "Bearer 1"}, {}}, fate: Refused, sent: 1},
	} {
		t.Run(name, func(t *testing.T) {
			g := &gate{}
			conn := open(t, inBubble(t, &mcptest.Server{Fault: g.fault}), Legacy)
			g.taken()
			g.shut = func(string) bool { return true }
			_, err := conn.Call(t.Context(), mcptest.CallTool("echo", args{"id": "a"}), func(context.Context, *Refusal) (*Authorization, error) {
				if len(test.gives) == 0 {
					t.Fatal("asked once too often")
				}
				a := test.gives[0]
				test.gives = test.gives[1:]
				if a.err != nil || a.value == "" {
					return nil, a.err
				}
				return &Authorization{a.value}, nil
			})
			wantFailure(t, err, test.fate, false)
			var status *StatusError
			if errors.As(err, &status) == test.none || !test.none && status.Status != 401 || !errors.Is(err, test.cause) && test.cause != nil {
				t.Errorf("got %v", err)
			}
			if n := len(g.taken()); n != test.sent || len(test.gives) != 0 {
				t.Errorf("%d requests, %d questions not asked; want %d and 0", n, len(test.gives), test.sent)
			}
			g.shut = nil
			mustEcho(t, conn, "next")
		})
	}
}

// TestChallenges has a server refuse one request again and again, in
// different ways.
func TestChallenges(t *testing.T) {
	stepUp := `Bearer error="insufficient_scope", scope="x y"`
	type refusal struct {
		status    int
		challenge string
	}
	for name, test := range map[string]struct {
		refusals []refusal // of the first requests, the others are answered
		sent     int
		status   int // the call fails with; 0 if it does not
	}{
		"401":                           {[]refusal{{401, `Bearer resource_metadata="m"`}}, 2, 0},
		"403":                           {[]refusal{{403, stepUp}}, 2, 0},
		"401, then 403":                 {[]refusal{{401, ""}, {403, stepUp}}, 3, 0},
		"403, then 401":                 {[]refusal{{403, stepUp}, {401, ""}}, 3, 0},
		"401 twice":                     {[]refusal{{401, ""}, {401, ""}}, 2, 401},
		"403 twice":                     {[]refusal{{403, stepUp}, {403, `Bearer error="insufficient_scope", scope="z"`}}, 2, 403},
		"no end of it":                  {[]refusal{{401, ""}, {403, stepUp}, {401, ""}, {403, stepUp}}, 3, 401},
		"403 for another reason":        {[]refusal{{403, `Bearer error="invalid_token"`}}, 1, 403},
		"403 without a reason":          {[]refusal{{403, ""}}, 1, 403},
		"403 with a reason of others":   {[]refusal{{403, `DPoP error="insufficient_scope"`}}, 1, 403},
		"another status with challenge": {[]refusal{{400, stepUp}}, 1, 400},
		"challenge beyond all measure":  {[]refusal{{401, "Bearer scope=" + strings.Repeat("x", 9<<10)}}, 2, 0},
	} {
		t.Run(name, func(t *testing.T) {
			sent := 0
			server := &mcptest.Server{Fault: onMethod("tools/call", func(w http.ResponseWriter, r *http.Request) {
				if got, want := r.Header.Get("Authorization"), fmt.Sprint("Bearer ", sent); got != want {
					t.Errorf("request %d carried %q", sent, got)
				}
				if sent++; sent > len(test.refusals) {
					reply(200, "application/json", `{"jsonrpc":"2.0","id":ID,"result":{}}`)(w, r)
					return
				}
				w.Header().Set("WWW-Authenticate", test.refusals[sent-1].challenge)
				http.Error(w, "no", test.refusals[sent-1].status)
			})}
			conn := open(t, inBubble(t, server), Legacy)
			asked := 0
			_, err := conn.Call(t.Context(), mcptest.CallTool("echo", args{"id": "a"}), func(_ context.Context, refused *Refusal) (*Authorization, error) {
				if (refused == nil) != (asked == 0) {
					t.Errorf("question %d: %v", asked, refused)
				}
				if refused != nil {
					was := test.refusals[asked-1]
					want := rpc.Challenge{Status: was.status, WWWAuthenticate: []string{was.challenge}, Token: fmt.Sprint(asked - 1)}
					if len(was.challenge) > maxChallenges {
						want.WWWAuthenticate = nil
					}
					if !reflect.DeepEqual(refused.Challenge, want) {
						t.Errorf("question %d: got %+v, want %+v", asked, refused.Challenge, want)
					}
				}
				asked++
				return &Authorization{fmt.Sprint("Bearer ", asked-1)}, nil
			})
			var status *StatusError
			switch {
			case test.status == 0 && err != nil:
				t.Error(err)
			case test.status != 0:
				wantFailure(t, err, Refused, false)
				if !errors.As(err, &status) || status.Status != test.status {
					t.Errorf("got %v", err)
				}
			}
			if sent != test.sent {
				t.Errorf("sent %d times, want %d", sent, test.sent)
			}
		})
	}
}

// TestWaitForAnAuthorizationEndsWithItsCall cancels a call that waits, before
// anything is sent and after it was refused.
func TestWaitForAnAuthorizationEndsWithItsCall(t *testing.T) {
	for _, fate := range []Fate{NotSent, Refused} {
		g := &gate{}
		conn := open(t, inBubble(t, &mcptest.Server{Fault: g.fault}), Legacy)
		g.shut = func(string) bool { return true }
		why := errors.New("changed my mind")
		ctx, cancel := context.WithCancelCause(t.Context())
		_, err := conn.Call(ctx, mcptest.CallTool("echo", args{"id": "a"}), func(ctx context.Context, refused *Refusal) (*Authorization, error) {
			if fate == Refused && refused == nil {
				return &Authorization{"Bearer 1"}, nil
			}
			cancel(why)
			<-ctx.Done()
			return nil, context.Cause(ctx)
		})
		if failure := wantFailure(t, err, fate, false); failure.Err != why {
			t.Errorf("%v: got the cause %v", fate, failure.Err)
		}
		g.shut = nil
		mustEcho(t, conn, "next")
	}
}

// quotingTripper fails tools/call with an error that quotes the request, and
// does not say of a response what request it answers.
type quotingTripper struct{ next http.RoundTripper }

func (q quotingTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil && strings.Contains(string(peek(r)), "quote me") {
		return nil, fmt.Errorf("cannot send %v", r.Header)
	}
	response, err := q.next.RoundTrip(r)
	if err == nil {
		response.Request = nil
	}
	return response, err
}

func TestAuthorizationStaysOutOfErrors(t *testing.T) {
	server := &mcptest.Server{Fault: onMethod("tools/call", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		// The cut of what is quoted goes through the middle of it.
		_, _ = io.WriteString(w, strings.Repeat("x", excerptLength-20)+r.Header.Get("Authorization"))
	})}
	var log logbook
	endpoint := newHTTP(t, "http://server.test/mcp", HTTPOptions{
		Header:       http.Header{"Authorization": {"Bearer of the endpoint"}},
		RoundTripper: quotingTripper{mcptest.RoundTripper(server)},
		Log:          log.logger(),
	})
	conn := open(t, endpoint, Legacy)
	for _, id := range []string{"quote me", "refuse me"} {
		_, err := conn.Call(t.Context(), mcptest.CallTool("echo", args{"id": id}), carries("tops3cret-token"))
		if err == nil || !strings.Contains(err.Error(), "***") || strings.Contains(err.Error(), "tops3") || log.has("tops3") {
			t.Errorf("%s: got %v", id, err)
		}
	}
}
