package mcpool_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
	"github.com/mcpool-dev/mcpool/rpc"
)

// An issuer gives tokens to principals, and guards a server with them: it
// answers 401 to whoever has none that is valid, and notes a token that comes
// in the session, or with the call, of another principal.
type issuer struct {
	t        testing.TB
	server   *server
	lifetime time.Duration // of a token; 0 for no end
	takes    time.Duration // to give one

	mu       sync.Mutex // guards what follows
	asked    map[string]int
	valid    map[string]grant // by token
	sessions map[string]string
	carried  []string // the tokens of tools/call, in order
	fail     error
	reissue  bool // give the last token again
}

type grant struct {
	principal string
	until     time.Time // zero for no end
}

func newIssuer(t testing.TB, s *server) *issuer {
	i := &issuer{t: t, server: s, asked: map[string]int{}, valid: map[string]grant{}, sessions: map[string]string{}}
	s.Fault = i.guard
	return i
}

// A source gives the tokens of one principal.
type source struct {
	*issuer
	principal string
}

func (i *issuer) tokens(principal string) rpc.TokenSource { return &source{i, principal} }

func (s *source) Token() (*oauth2.Token, error) {
	s.mu.Lock()
	s.asked[s.principal]++
	n, takes := s.asked[s.principal], s.takes
	if s.reissue {
		n = 1
	}
	s.mu.Unlock()
	if takes > 0 {
		time.Sleep(takes)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return nil, s.fail
	}
	token := &oauth2.Token{AccessToken: fmt.Sprintf("%s-secret-%d", s.principal, n)}
	if s.lifetime > 0 {
		token.Expiry = time.Now().Add(s.lifetime)
	}
	if !s.reissue {
		s.valid[token.AccessToken] = grant{s.principal, token.Expiry}
	}
	return token, nil
}

func (i *issuer) set(change func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	change()
}

// revoke makes all tokens invalid that were given until now.
func (i *issuer) revoke() { i.set(func() { clear(i.valid) }) }

func (i *issuer) times(principal string) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.asked[principal]
}

func (i *issuer) guard(r *http.Request, method string, w http.ResponseWriter) bool {
	sent := body(r)
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	i.mu.Lock()
	defer i.mu.Unlock()
	holder, known := i.valid[token]
	if !known || !holder.until.IsZero() && time.Now().After(holder.until) {
		http.Error(w, "who is "+token, http.StatusUnauthorized)
		return true
	}
	if session := r.Header.Get("Mcp-Session-Id"); session != "" {
		if i.sessions[session] == "" {
			i.sessions[session] = holder.principal
		}
		if i.sessions[session] != holder.principal {
			i.t.Errorf("%q came with a token of %s in a session of %s", method, holder.principal, i.sessions[session])
		}
	}
	if method == "tools/call" {
		i.carried = append(i.carried, token)
		m, _ := jsonrpc.Parse(sent)
		if of, _, ok := strings.Cut(jsonrpc.GetString(m.Params, "arguments", "id"), "/"); ok && of != holder.principal {
			i.t.Errorf("a call of %s came with a token of %s", of, holder.principal)
		}
	}
	return false
}

// pool makes a pool with the issuer's tokens, and with the defaults changed by
// change.
func (i *issuer) pool(change func(*mcpool.Config, *mcpool.Server)) *mcpool.Pool {
	i.t.Helper()
	config := mcpool.DefaultConfig()
	i.server.network.Handler = &i.server.Server
	to := mcpool.Server{Name: "test", URL: "http://server.test/mcp", Tokens: i.tokens, RoundTripper: &i.server.network}
	if change != nil {
		change(&config, &to)
	}
	p, err := mcpool.New(to, &config)
	if err != nil {
		i.t.Fatal(err)
	}
	return p
}

// inBubble runs a test with an issuer before a server.
func inBubble(t *testing.T, test func(t *testing.T, s *server, i *issuer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		test(t, s, newIssuer(t, s))
	})
}

// TestRotatingTokenKeepsConnectionAndSession has a token live for a minute, and
// a session for fifteen: with calls, with nothing but a health check, and at its
// end.
func TestRotatingTokenKeepsConnectionAndSession(t *testing.T) {
	inBubble(t, func(t *testing.T, s *server, i *issuer) {
		i.lifetime = time.Minute
		p := i.pool(nil)
		for n := range 10 {
			if _, err := call(t.Context(), p, nobody, "write", fmt.Sprint("local/", n)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(51 * time.Second) // the token has less than 10 s left
		}
		for n, token := range i.carried {
			if want := fmt.Sprintf("local-secret-%d", n+1); token != want {
				t.Errorf("call %d carried %s, want %s", n, token, want)
			}
		}
		time.Sleep(301 * time.Second)
		if n := s.Requests("ping"); n != 1 || p.Stats().HealthFailures != 0 {
			t.Errorf("%d health checks, %d failed; want one with a token of its time", n, p.Stats().HealthFailures)
		}
		time.Sleep(100 * time.Second) // that token has expired as well
		stats := p.Stats()
		closePool(t, p)
		if s.Sessions() != 1 || stats.Opened != 1 || stats.ClosedTotal() != 0 || stats.RetriesTotal() != 0 {
			t.Errorf("%d sessions, %+v; want the one session untouched", s.Sessions(), stats)
		}
		if s.Deletes() != 1 || s.Open() != 0 {
			t.Errorf("%d DELETEs, %d sessions left: the end came without a valid token", s.Deletes(), s.Open())
		}
	})
}

func TestTokensOfTwoPrincipalsNeverMeet(t *testing.T) {
	for _, modern := range []bool{false, true} {
		inBubble(t, func(t *testing.T, s *server, i *issuer) {
			s.Modern = modern
			s.CallDelay = 100 * time.Millisecond
			i.lifetime, i.takes = 11*time.Second, 50*time.Millisecond // renewed each second
			p := i.pool(nil)
			var all sync.WaitGroup
			for n := range 200 {
				who := rpc.Caller{Principal: string("abcd"[n%4])}
				all.Go(func() {
					time.Sleep(time.Duration(n) * 17 * time.Millisecond)
					if _, err := call(t.Context(), p, who, "write", fmt.Sprint(who.Principal, "/", n)); err != nil {
						t.Error(err)
					}
					if n%7 == 0 {
						i.revoke()
					}
				})
			}
			all.Wait()
			if n := len(s.Executions()); n != 200 {
				t.Errorf("%d calls ran, want 200", n)
			}
			for id, n := range s.Executions() {
				if n != 1 {
					t.Errorf("%s ran %d times", id, n)
				}
			}
			closePool(t, p)
		})
	}
}

func TestExpiredTokenIsRenewedOnceForAll(t *testing.T) {
	inBubble(t, func(t *testing.T, s *server, i *issuer) {
		i.lifetime, i.takes = time.Minute, time.Second
		p := i.pool(nil)
		for round := range 3 {
			var all sync.WaitGroup
			for n := range 100 {
				all.Go(func() {
					if _, err := call(t.Context(), p, nobody, "write", fmt.Sprint("local/", round, "-", n)); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			if n := i.times("local"); n != round+1 {
				t.Errorf("100 callers asked the source %d times in %d rounds", n, round+1)
			}
			time.Sleep(time.Minute)
		}
		closePool(t, p)
	})
}

// TestRefusedTokenIsRenewedOnce revokes a token under calls that must not run
// twice, in a pool that sends nothing again.
func TestRefusedTokenIsRenewedOnce(t *testing.T) {
	for _, modern := range []bool{false, true} {
		inBubble(t, func(t *testing.T, s *server, i *issuer) {
			s.Modern = modern
			s.CallDelay = time.Second
			p := i.pool(func(c *mcpool.Config, _ *mcpool.Server) { c.RetryAttempts = 1 })
			if _, err := call(t.Context(), p, nobody, "write", "first"); err != nil {
				t.Fatal(err)
			}
			i.revoke()
			i.set(func() { i.takes = time.Second })
			var came atomic.Int64
			s.Fault = func(r *http.Request, method string, w http.ResponseWriter) bool {
				// All eight are sent before the first is refused, and some are
				// refused when the others have another token already.
				if n := came.Add(1); n <= 8 {
					time.Sleep(time.Duration(n) * 300 * time.Millisecond)
				}
				return i.guard(r, method, w)
			}
			var all sync.WaitGroup
			for n := range 8 {
				all.Go(func() {
					if _, err := call(t.Context(), p, nobody, "write", fmt.Sprint("local/", n)); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			for id, n := range s.Executions() {
				if n != 1 {
					t.Errorf("%s ran %d times", id, n)
				}
			}
			if n := i.times("local"); n != 2 {
				t.Errorf("the source was asked %d times, want once more for all", n)
			}
			if n := s.Requests("tools/call"); n != 1+2*8 {
				t.Errorf("%d requests, want each of the eight sent twice", n)
			}
			if stats := p.Stats(); stats.Opened != 1 || stats.RetriesTotal() != 0 || stats.Errors != 0 {
				t.Errorf("%+v", stats)
			}
			closePool(t, p)
		})
	}
}

func TestTokenThatIsRefusedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, s *server, i *issuer) {
		p := i.pool(nil)
		if _, err := call(t.Context(), p, nobody, "write", "first"); err != nil {
			t.Fatal(err)
		}
		check := func(name string, asked, sent int) {
			t.Helper()
			before, requests := i.times("local"), s.Requests("tools/call")
			_, err := call(t.Context(), p, nobody, "write", name)
			if !errors.Is(err, mcpool.ErrRefused) || !mcpool.SafeToRetry(err) || !strings.Contains(err.Error(), "HTTP 401") {
				t.Errorf("%s: %v", name, err)
			}
			if n, m := i.times("local")-before, s.Requests("tools/call")-requests; n != asked || m != sent {
				t.Errorf("%s: the source was asked %d times for %d requests; want %d and %d", name, n, m, asked, sent)
			}
		}
		i.revoke()
		i.set(func() { i.reissue = true })
		check("the same again", 1, 1)
		check("and again", 1, 1)
		i.set(func() { i.reissue = false })
		refuse := s.Fault
		s.Fault = func(r *http.Request, method string, w http.ResponseWriter) bool {
			i.revoke() // before it is looked at
			return refuse(r, method, w)
		}
		check("another, and that too", 1, 2)
		s.Fault = refuse
		if _, err := call(t.Context(), p, nobody, "write", "last"); err != nil {
			t.Errorf("with a valid token again: %v", err)
		}
		if s.Sessions() != 1 || p.Stats().Opened != 1 {
			t.Errorf("%d sessions, want one all along", s.Sessions())
		}
		closePool(t, p)
	})
}

func TestRefusedTokenAtOpening(t *testing.T) {
	inBubble(t, func(t *testing.T, s *server, i *issuer) {
		i.lifetime = time.Hour
		p := i.pool(func(c *mcpool.Config, _ *mcpool.Server) { c.MinConnections = 0; c.IdleTimeout = time.Minute })
		if _, err := call(t.Context(), p, nobody, "write", "1"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute) // the connection is closed, the token is not forgotten
		i.revoke()
		if _, err := call(t.Context(), p, nobody, "write", "2"); err != nil {
			t.Errorf("the opening was not made again with another token: %v", err)
		}
		if s.Sessions() != 2 || i.times("local") != 2 {
			t.Errorf("%d sessions, the source was asked %d times; want 2 and 2", s.Sessions(), i.times("local"))
		}
		time.Sleep(2 * time.Minute)
		i.revoke()
		i.set(func() { i.reissue = true })
		began := time.Now()
		_, err := call(t.Context(), p, nobody, "write", "3")
		if !errors.Is(err, mcpool.ErrUnavailable) || !strings.Contains(err.Error(), "HTTP 401") || !mcpool.SafeToRetry(err) || time.Since(began) != 0 {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		if n := i.times("local"); n != 3 {
			t.Errorf("the source was asked %d times, want once more", n)
		}
		closePool(t, p)
	})
}

func TestSlowTokenSource(t *testing.T) {
	inBubble(t, func(t *testing.T, s *server, i *issuer) {
		i.takes = time.Minute
		p := i.pool(nil)
		began := time.Now()
		var all sync.WaitGroup
		for n := range 10 {
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(n+1)*time.Second)
				defer cancel()
				_, err := call(ctx, p, nobody, "write", fmt.Sprint(n))
				if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || !mcpool.SafeToRetry(err) || took != time.Duration(n+1)*time.Second {
					t.Errorf("after %v: %v", took, err)
				}
			})
		}
		_, err := call(t.Context(), p, nobody, "write", "in no hurry")
		if took := time.Since(began); !errors.Is(err, mcpool.ErrCredentials) || !mcpool.SafeToRetry(err) || took != 30*time.Second {
			t.Errorf("after %v: %v", took, err)
		}
		all.Wait()
		if stats := p.Stats(); i.times("local") != 1 || s.Sessions() != 0 || stats.Opens[mcpool.OpenedForWaiters] != 0 || stats.Waiting != 0 {
			t.Errorf("the source was asked %d times; %+v; want once, and no connection", i.times("local"), stats)
		}
		time.Sleep(30 * time.Second)
		if _, err := call(t.Context(), p, nobody, "write", "when it came"); err != nil || i.times("local") != 1 {
			t.Errorf("%v; the source was asked %d times", err, i.times("local"))
		}
		closePool(t, p)
	})
}

func TestFailingTokenSource(t *testing.T) {
	inBubble(t, func(t *testing.T, s *server, i *issuer) {
		cause := errors.New("the vault is sealed")
		i.lifetime, i.fail = time.Minute, cause
		p := i.pool(nil)
		refused := func(name string) {
			t.Helper()
			_, err := call(t.Context(), p, nobody, "write", name)
			var failed *mcpool.Error
			if !errors.Is(err, mcpool.ErrCredentials) || !errors.Is(err, cause) || !errors.As(err, &failed) ||
				failed.Attempts != 0 || !mcpool.SafeToRetry(err) || !strings.Contains(err.Error(), "sealed") {
				t.Errorf("%s: %v", name, err)
			}
			_, err = p.Acquire(t.Context(), nobody, mcpool.Slot)
			if !errors.Is(err, mcpool.ErrCredentials) || !mcpool.SafeToRetry(err) {
				t.Errorf("%s: Acquire: %v", name, err)
			}
		}
		refused("before the first connection")
		if stats := p.Stats(); stats.OpenFailuresTotal() != 0 || s.Sessions() != 0 {
			t.Errorf("it cost connections: %+v", stats)
		}
		i.set(func() { i.fail = nil })
		if _, err := call(t.Context(), p, nobody, "write", "1"); err != nil {
			t.Fatal(err)
		}
		lease, err := p.Acquire(t.Context(), nobody, mcpool.Slot)
		if err != nil {
			t.Fatal(err)
		}
		i.set(func() { i.fail = cause })
		time.Sleep(time.Minute)
		refused("beside a connection")
		_, err = call(t.Context(), lease, nobody, "write", "leased")
		if !errors.Is(err, mcpool.ErrCredentials) || errors.Is(err, mcpool.ErrConnectionLost) || !mcpool.SafeToRetry(err) {
			t.Errorf("on a lease: %v", err)
		}
		lease.Release()
		time.Sleep(9 * time.Minute) // past a health check
		if stats := p.Stats(); stats.Connections != 1 || stats.HealthChecks == 0 || stats.HealthFailures != 0 {
			t.Errorf("the connection has suffered: %+v", stats)
		}
		i.set(func() { i.fail = nil })
		if _, err := call(t.Context(), p, nobody, "write", "2"); err != nil || s.Sessions() != 1 {
			t.Errorf("%v, %d sessions", err, s.Sessions())
		}
		i.revoke()
		i.set(func() { i.fail = cause })
		_, err = call(t.Context(), p, nobody, "write", "3")
		if !errors.Is(err, mcpool.ErrRefused) || !errors.Is(err, cause) || !mcpool.SafeToRetry(err) || !strings.Contains(err.Error(), "HTTP 401") {
			t.Errorf("refused, and no other: %v", err)
		}
		refused("a refused token is not sent again")
		closePool(t, p)
	})
}

// TestTokenThatExpiresInTheQueue has a caller come with a valid token, wait for
// a slot until that has expired, and get no other.
func TestTokenThatExpiresInTheQueue(t *testing.T) {
	inBubble(t, func(t *testing.T, s *server, i *issuer) {
		i.lifetime = time.Minute
		p := i.pool(func(c *mcpool.Config, _ *mcpool.Server) {
			c.MaxConnections, c.CallsPerConnection, c.ConnectionTimeout = 1, 1, time.Hour
		})
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := call(t.Context(), p, nobody, "sleep", "local/1", "ms", 120_000); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(time.Second)
		i.set(func() { i.fail = errors.New("the vault is sealed") })
		_, err := call(t.Context(), p, nobody, "write", "local/2")
		var failed *mcpool.Error
		if !errors.Is(err, mcpool.ErrCredentials) || !errors.As(err, &failed) || failed.Attempts != 0 || !mcpool.SafeToRetry(err) {
			t.Errorf("got %v", err)
		}
		all.Wait()
		if stats := p.Stats(); stats.ClosedTotal() != 0 || stats.Connections != 1 || stats.RetriesTotal() != 0 {
			t.Errorf("the connection has suffered: %+v", stats)
		}
		closePool(t, p)
	})
}

// funcSource is a source that cannot be compared.
type funcSource func() (*oauth2.Token, error)

func (f funcSource) Token() (*oauth2.Token, error) { return f() }

func TestCallersOwnTokenSource(t *testing.T) {
	inBubble(t, func(t *testing.T, s *server, i *issuer) {
		p := i.pool(func(_ *mcpool.Config, s *mcpool.Server) { s.Tokens = nil })
		// Both are sources of one account, and its calls share a connection.
		of := func(name string) rpc.TokenSource {
			return funcSource(func() (*oauth2.Token, error) {
				i.set(func() { i.asked[name]++; i.valid[name] = grant{principal: "ann"} })
				return &oauth2.Token{AccessToken: name}, nil
			})
		}
		phone, laptop := of("phone"), of("laptop")
		kept := &struct{ rpc.TokenSource }{of("kept")} // by its address
		var all sync.WaitGroup
		for n := range 30 {
			who := rpc.Caller{Principal: "ann", Token: []rpc.TokenSource{phone, laptop, kept}[n%3]}
			all.Go(func() {
				time.Sleep(time.Duration(n) * time.Millisecond)
				if _, err := call(t.Context(), p, who, "write", fmt.Sprint("ann/", n)); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		for n, token := range i.carried {
			if want := []string{"phone", "laptop", "kept"}[n%3]; token != want {
				t.Errorf("call %d carried the token of %s, want %s", n, token, want)
			}
		}
		if len(i.carried) != 30 || s.Sessions() != 1 {
			t.Errorf("%d calls in %d sessions", len(i.carried), s.Sessions())
		}
		if i.times("phone") != 10 || i.times("laptop") != 10 || i.times("kept") != 1 {
			t.Errorf("asked %d, %d and %d times; want once for each call, and once", i.times("phone"), i.times("laptop"), i.times("kept"))
		}

		lease, err := p.Acquire(t.Context(), rpc.Caller{Principal: "ann", Token: phone}, mcpool.Whole)
		if err != nil {
			t.Fatal(err)
		}
		for n := range 3 {
			if _, err := call(t.Context(), lease, nobody, "write", fmt.Sprint("ann/leased ", n)); err != nil {
				t.Error(err)
			}
		}
		lease.Release()
		if got := i.carried[30:]; fmt.Sprint(got) != "[phone phone phone]" || i.times("phone") != 11 {
			t.Errorf("the calls of a lease carried %v, asked %d times more", got, i.times("phone")-10)
		}

		i.set(func() { delete(i.valid, "phone") })
		_, err = call(t.Context(), p, rpc.Caller{Principal: "ann"}, "write", "without a source")
		if !errors.Is(err, mcpool.ErrRefused) {
			t.Errorf("a call without a source: %v", err)
		}
		closePool(t, p)
	})
}

func TestSharedSessionTakesNoTokenOfACaller(t *testing.T) {
	inBubble(t, func(t *testing.T, s *server, i *issuer) {
		p := i.pool(func(c *mcpool.Config, _ *mcpool.Server) { c.Sharing = mcpool.ShareAll })
		who := rpc.Caller{Principal: "ann", Token: i.tokens("ann")}
		_, err := call(t.Context(), p, who, "write", "1")
		if !errors.Is(err, mcpool.ErrCredentials) || !mcpool.SafeToRetry(err) || !strings.Contains(err.Error(), "Sharing") {
			t.Errorf("a call: %v", err)
		}
		if _, err := p.Acquire(t.Context(), who, mcpool.Slot); !errors.Is(err, mcpool.ErrCredentials) {
			t.Errorf("Acquire: %v", err)
		}
		if i.times("ann") != 0 || s.Sessions() != 0 {
			t.Error("something was sent")
		}
		for _, who := range []rpc.Caller{{Principal: "ann"}, {Principal: "bob", Revision: "2"}} {
			if _, err := call(t.Context(), p, who, "write", "local/"+who.Principal); err != nil {
				t.Error(err)
			}
		}
		if s.Sessions() != 1 || i.times("local") != 1 {
			t.Errorf("%d sessions, asked %d times for the pool's own token; want 1 and 1", s.Sessions(), i.times("local"))
		}
		closePool(t, p)

		var got rpc.Caller
		inside, err := mcpool.New(mcpool.Server{Name: "inside", Handler: handlerFunc(func(_ context.Context, call rpc.Call) (rpc.Answer, error) {
			got = call.Caller
			return rpc.Result(json.RawMessage(`{}`)), nil
		})}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := inside.Do(t.Context(), rpc.Call{Method: "tools/list", Caller: who}); err != nil || got != who {
			t.Errorf("in process: %v, %+v", err, got)
		}
		closePool(t, inside)
	})
}

func TestRevisionSplitsGroups(t *testing.T) {
	for _, sharing := range []mcpool.Sharing{mcpool.SharePrincipal, mcpool.ShareSession} {
		inBubble(t, func(t *testing.T, s *server, i *issuer) {
			p := i.pool(func(c *mcpool.Config, _ *mcpool.Server) { c.Sharing, c.MinConnections = sharing, 0 })
			groups := map[string]bool{}
			for n, revision := range []string{"1", "2", "1", "2"} {
				who := rpc.Caller{Principal: "ann", Session: "s", Revision: revision}
				if _, err := call(t.Context(), p, who, "write", fmt.Sprint("ann/", n)); err != nil {
					t.Error(err)
				}
			}
			for _, c := range p.Conns() {
				groups[c.Group()] = true
			}
			if s.Sessions() != 2 || len(groups) != 2 || i.times("ann") != 2 {
				t.Errorf("%s: %d sessions, groups %v, asked %d times; want two of each", sharing, s.Sessions(), groups, i.times("ann"))
			}
			p.EndSession(rpc.Caller{Principal: "ann", Session: "s", Revision: "2"})
			synctest.Wait()
			if want := map[mcpool.Sharing]int{mcpool.SharePrincipal: 2}[sharing]; s.Open() != want {
				t.Errorf("%s: %d connections after the end of the session, want %d", sharing, s.Open(), want)
			}
			closePool(t, p)
		})
	}
}

// TestTokensStayOutOfLogsAndErrors has a server repeat what it was sent.
func TestTokensStayOutOfLogsAndErrors(t *testing.T) {
	for name, answer := range map[string]func(w http.ResponseWriter, r *http.Request, said string){
		"403": func(w http.ResponseWriter, _ *http.Request, said string) { http.Error(w, said, http.StatusForbidden) },
		"401": func(w http.ResponseWriter, _ *http.Request, said string) {
			http.Error(w, said, http.StatusUnauthorized)
		},
		"500":       func(w http.ResponseWriter, _ *http.Request, said string) { http.Error(w, said, 500) },
		"page":      func(w http.ResponseWriter, _ *http.Request, said string) { fmt.Fprint(w, "<html>", said) },
		"no answer": func(w http.ResponseWriter, _ *http.Request, said string) { jsonReply(w, `{"`+said+`":1}`) },
		"stream": func(w http.ResponseWriter, _ *http.Request, said string) {
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprintf(w, "data: {%q\n\n", said)
		},
		"no version": func(w http.ResponseWriter, r *http.Request, said string) {
			jsonReply(w, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"said":%q}}`, mcptest.ID(r), said))
		},
		"refused": func(w http.ResponseWriter, r *http.Request, said string) {
			jsonReply(w, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32000,"message":%q}}`, mcptest.ID(r), said))
		},
	} {
		for _, at := range []string{"server/discover", "initialize", "notifications/initialized", "tools/call", "ping", ""} {
			inBubble(t, func(t *testing.T, s *server, i *issuer) {
				if (name == "refused" || name == "no version") && at == "tools/call" {
					return // that is an answer, and passes as it is
				}
				var log bytes.Buffer
				s.Fault = func(r *http.Request, method string, w http.ResponseWriter) bool {
					if method == at {
						// So near the end of what is quoted that a cut would leave half of it.
						answer(w, r, strings.Repeat("x", 160)+r.Header.Get("Authorization"))
					}
					return method == at
				}
				p := i.pool(func(c *mcpool.Config, _ *mcpool.Server) {
					c.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
					c.ConnectionTimeout, c.HealthCheckInterval = time.Second, time.Minute
				})
				_, err := call(t.Context(), p, rpc.Caller{Principal: "averylongname"}, "write", "1")
				if err == nil && at == "tools/call" {
					t.Errorf("%s at %s: no error", name, at)
				}
				time.Sleep(3 * time.Minute)
				closePool(t, p)
				for _, text := range []string{fmt.Sprint(err), log.String()} {
					if strings.Contains(text, "averylong") {
						t.Errorf("%s at %q tells: %s", name, at, text)
					}
				}
			})
		}
	}
}

func jsonReply(w http.ResponseWriter, body string) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, body)
}

// TestTokenEndpointIsNotQuoted gives an error of package oauth2, which quotes a
// whole page.
func TestTokenEndpointIsNotQuoted(t *testing.T) {
	inBubble(t, func(t *testing.T, s *server, i *issuer) {
		p := i.pool(nil)
		answered := &http.Response{Status: "500 Internal Server Error"}
		for want, fail := range map[string]error{
			"500 Internal":  &oauth2.RetrieveError{Response: answered, Body: []byte("refresh_token=tops3cret")},
			"invalid_grant": &oauth2.RetrieveError{Response: answered, Body: []byte("tops3cret"), ErrorCode: "invalid_grant", ErrorDescription: strings.Repeat("x", 1000)},
			"no token":      &oauth2.RetrieveError{Body: []byte("tops3cret")},
		} {
			i.set(func() { i.fail = fail })
			_, err := call(t.Context(), p, nobody, "write", "1")
			var said *oauth2.RetrieveError
			if !errors.As(err, &said) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "tops3cret") || len(err.Error()) > 400 {
				t.Errorf("want %s: %v", want, err)
			}
		}
		closePool(t, p)
	})
}

// TestTokensThatAreNone has sources that give nothing to send.
func TestTokensThatAreNone(t *testing.T) {
	inBubble(t, func(t *testing.T, s *server, i *issuer) {
		p := i.pool(func(_ *mcpool.Config, s *mcpool.Server) {
			s.Tokens = func(principal string) rpc.TokenSource {
				if principal == "nobody" {
					return nil
				}
				return funcSource(func() (*oauth2.Token, error) {
					switch principal {
					case "nil":
						return nil, nil
					case "empty":
						return &oauth2.Token{}, nil
					}
					return &oauth2.Token{AccessToken: "se\r\ncret"}, nil
				})
			}
		})
		for _, principal := range []string{"nil", "empty", "two lines"} {
			_, err := call(t.Context(), p, rpc.Caller{Principal: principal}, "write", "1")
			if !errors.Is(err, mcpool.ErrCredentials) || !mcpool.SafeToRetry(err) || strings.Contains(err.Error(), "cret") {
				t.Errorf("%s: %v", principal, err)
			}
		}
		if n := s.Requests("server/discover"); n != 0 {
			t.Errorf("%d requests", n)
		}
		s.Fault = func(r *http.Request, _ string, _ http.ResponseWriter) bool {
			if r.Header["Authorization"] != nil {
				t.Errorf("carried %q", r.Header["Authorization"])
			}
			return false
		}
		if _, err := call(t.Context(), p, rpc.Caller{Principal: "nobody"}, "write", "1"); err != nil {
			t.Errorf("no source: %v", err)
		}
		closePool(t, p)
	})
}

func TestCloseWithAHangingTokenSource(t *testing.T) {
	inBubble(t, func(t *testing.T, s *server, i *issuer) {
		i.takes = time.Hour
		p := i.pool(nil)
		waited := make(chan error, 1)
		go func() {
			_, err := call(t.Context(), p, nobody, "write", "1")
			waited <- err
		}()
		time.Sleep(time.Second)
		for range 2 {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			began := time.Now()
			err := p.Close(ctx)
			if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took != 5*time.Second || !strings.Contains(err.Error(), "1 token source") {
				t.Errorf("after %v: %v", took, err)
			}
			cancel()
		}
		if err := <-waited; !errors.Is(err, mcpool.ErrPoolClosed) || !mcpool.SafeToRetry(err) {
			t.Errorf("who waited for the token: %v", err)
		}
		if err := p.Close(t.Context()); err != nil { // an hour later
			t.Error(err)
		}
		if _, err := call(t.Context(), p, nobody, "write", "2"); !errors.Is(err, mcpool.ErrPoolClosed) || i.times("local") != 1 {
			t.Errorf("after Close: %v, asked %d times", err, i.times("local"))
		}
	})
}

// TestReloadTakesNoTokenToAnotherServer has a call wait while the server is
// replaced.
func TestReloadTakesNoTokenToAnotherServer(t *testing.T) {
	inBubble(t, func(t *testing.T, s *server, i *issuer) {
		p := i.pool(nil)
		if err := p.Pause(t.Context()); err != nil {
			t.Fatal(err)
		}
		waited := make(chan error, 1)
		go func() {
			_, err := call(t.Context(), p, nobody, "write", "1")
			waited <- err
		}()
		synctest.Wait()
		other := &server{}
		other.network.Handler = &other.Server
		other.Fault = func(r *http.Request, method string, w http.ResponseWriter) bool {
			if got := r.Header.Get("Authorization"); got != "Bearer for the other" {
				t.Errorf("%s came with %q", method, got)
			}
			return false
		}
		err := p.Reload(mcpool.Server{Name: "test", URL: "http://other.test/mcp", RoundTripper: &other.network,
			Tokens: func(string) rpc.TokenSource {
				return oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "for the other"})
			}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		p.Resume()
		if err := <-waited; err != nil || i.times("local") != 1 || other.Requests("tools/call") != 1 || s.Sessions() != 0 {
			t.Errorf("%v; %d sessions, %d calls at the other", err, s.Sessions(), other.Requests("tools/call"))
		}
		closePool(t, p)
	})
}

// TestAccountsAreBounded has more principals, and more sources of one, than a
// pool remembers.
func TestAccountsAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, s *server, i *issuer) {
		i.fail = errors.New("nothing to be had")
		var made atomic.Int64
		p := i.pool(func(_ *mcpool.Config, s *mcpool.Server) {
			s.Tokens = func(principal string) rpc.TokenSource { made.Add(1); return i.tokens(principal) }
		})
		try := func(n int) { _, _ = call(t.Context(), p, rpc.Caller{Principal: fmt.Sprint(n)}, "write", "1") }
		for n := range 10_000 {
			try(n)
		}
		try(0)
		if n := made.Load(); n != 10_000 {
			t.Fatalf("%d sources made for 10,000 principals", n)
		}
		try(10_000)
		try(0)
		if n := made.Load(); n != 10_001 {
			t.Errorf("%d sources made: the account used last was forgotten", n)
		}
		try(1)
		if n := made.Load(); n != 10_002 {
			t.Errorf("%d sources made: more than 10,000 accounts are remembered", n)
		}

		i.set(func() { i.fail = nil })
		var of []rpc.TokenSource
		for n := range 9 {
			of = append(of, i.tokens(fmt.Sprint("source ", n)))
		}
		for _, n := range []int{0, 1, 2, 3, 4, 5, 6, 7, 0, 8, 0, 1} {
			who := rpc.Caller{Principal: "ann", Token: of[n]}
			i.set(func() { clear(i.sessions) }) // all are of one account here
			if _, err := call(t.Context(), p, who, "write", "1"); err != nil {
				t.Error(err)
			}
		}
		if i.times("source 0") != 1 || i.times("source 1") != 2 {
			t.Errorf("asked %d and %d times; want the one unused longest to be forgotten", i.times("source 0"), i.times("source 1"))
		}
		i.set(func() { clear(i.sessions) })
		closePool(t, p)
	})
}

func TestNewRefusesTwoAuthorizations(t *testing.T) {
	none := func(string) rpc.TokenSource { return nil }
	for name, test := range map[string]struct {
		server mcpool.Server
		want   string
	}{
		"a header":         {mcpool.Server{URL: "http://a", Header: http.Header{"Authorization": {"x"}}}, "Authorization"},
		"a header, small":  {mcpool.Server{URL: "http://a", Header: http.Header{"authorization": {"x"}}}, "Authorization"},
		"user information": {mcpool.Server{URL: "http://ann:pass@a"}, "Authorization"},
		"no URL":           {mcpool.Server{Command: "true"}, "go with a URL"},
		"another header":   {mcpool.Server{URL: "http://a", Header: http.Header{"X-Tenant": {"x"}}}, ""},
	} {
		test.server.Name, test.server.Tokens = "x", none
		p, err := mcpool.New(test.server, nil)
		if (err == nil) != (test.want == "") || err != nil && (!strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "pass")) {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			closePool(t, p)
		}
	}
}
