package mcpool_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

// A limiter answers some requests with a status and a Retry-After, and notes
// when each came, since the beginning.
type limiter struct {
	server
	refuse func(method, id string, n int) (status int, after string)

	mu    sync.Mutex
	began time.Time
	n     map[string]int
	seen  map[string][]time.Duration // by the id of the call, or the method
}

func newLimiter(refuse func(method, id string, n int) (int, string)) *limiter {
	l := &limiter{refuse: refuse, began: time.Now(), n: map[string]int{}, seen: map[string][]time.Duration{}}
	l.Fault = func(r *http.Request, method string, w http.ResponseWriter) bool {
		what := jsonrpc.GetString(body(r), "params", "arguments", "id")
		if what == "" {
			what = method
		}
		l.mu.Lock()
		l.n[what]++
		l.seen[what] = append(l.seen[what], time.Since(l.began))
		status, after := l.refuse(method, what, l.n[what])
		l.mu.Unlock()
		if status == 0 {
			return false
		}
		w.Header().Set("Retry-After", after)
		http.Error(w, "slow down", status)
		return true
	}
	return l
}

func (l *limiter) times(what string) []time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen[what]
}

// roughly reports whether what was asked for at these times was, and at no
// others.
func roughly(got []time.Duration, want ...time.Duration) bool {
	if len(got) != len(want) {
		return false
	}
	for i := range got {
		if d := got[i] - want[i]; d < 0 || d > time.Second/2 {
			return false
		}
	}
	return true
}

var ann, bob = rpc.Caller{Principal: "ann"}, rpc.Caller{Principal: "bob"}

func TestServerIsLeftAloneAsItAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newLimiter(func(_, id string, n int) (int, string) {
			if id == "limited" && n == 1 {
				return http.StatusTooManyRequests, "5"
			}
			return 0, ""
		})
		p := s.pool(t, nil)
		defer closePool(t, p)
		var wg sync.WaitGroup
		make := func(who rpc.Caller, id string) {
			wg.Go(func() {
				if _, err := call(t.Context(), p, who, "write", id); err != nil {
					t.Error(err)
				}
			})
			time.Sleep(time.Second)
		}
		make(ann, "limited")
		make(ann, "hers")
		make(bob, "his")
		wg.Wait()
		if got := s.times("limited"); !roughly(got, 0, 5*time.Second) {
			t.Errorf("the call was sent at %v, want at once and after 5 s", got)
		}
		if got := s.times("hers"); !roughly(got, 5*time.Second) {
			t.Errorf("another call for the same principal was sent at %v, want after 5 s", got)
		}
		if got := s.times("his"); !roughly(got, 2*time.Second) {
			t.Errorf("a call for another principal was sent at %v, want at once", got)
		}
		if n := p.Stats().Retries[mcpool.RetriedLater]; n != 1 {
			t.Errorf("%d calls sent again later, want 1", n)
		}
	})
}

func TestServerThatWantsToBeLeftAloneForLong(t *testing.T) {
	for name, after := range map[string]func() string{
		"seconds": func() string { return "120" },
		"date":    func() string { return time.Now().Add(2 * time.Minute).UTC().Format(http.TimeFormat) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newLimiter(func(_, id string, n int) (int, string) {
					if id == "limited" {
						return http.StatusTooManyRequests, after()
					}
					return 0, ""
				})
				p := s.pool(t, nil)
				defer closePool(t, p)
				lease, err := p.Acquire(t.Context(), ann, mcpool.Slot)
				if err != nil {
					t.Fatal(err)
				}
				for _, id := range []string{"limited", "next"} {
					for what, h := range map[string]rpc.Handler{"pool": p, "lease": lease} {
						if id == "limited" && what == "lease" {
							continue
						}
						_, err := call(t.Context(), h, ann, "write", id)
						var e *mcpool.Error
						if !errors.As(err, &e) || !errors.Is(err, mcpool.ErrRefused) || e.MayHaveRun || !mcpool.SafeToRetry(err) {
							t.Fatalf("%s, %s: %v, want ErrRefused", id, what, err)
						}
						if e.RetryAfter < 119*time.Second || e.RetryAfter > 120*time.Second || !strings.Contains(err.Error(), "2m0s") {
							t.Errorf("%s, %s: to be tried again after %v: %v", id, what, e.RetryAfter, err)
						}
					}
				}
				if time.Since(s.began) > time.Second || len(s.times("next")) != 0 {
					t.Errorf("told after %v; the next call was sent at %v", time.Since(s.began), s.times("next"))
				}
				lease.Release()
				time.Sleep(2 * time.Minute)
				if _, err := call(t.Context(), p, ann, "write", "next"); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestOpeningHeedsRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newLimiter(func(method, _ string, n int) (int, string) {
			if method == "initialize" && n == 1 {
				return http.StatusServiceUnavailable, "7"
			}
			return 0, ""
		})
		p := s.pool(t, nil)
		defer closePool(t, p)
		if _, err := call(t.Context(), p, ann, "write", "1"); err != nil {
			t.Fatal(err)
		}
		if got := s.times("initialize"); !roughly(got, 0, 7*time.Second) {
			t.Errorf("tried at %v, want at once and after 7 s", got)
		}
	})
}

// Accounts whose connections are not opened for now, since they are limited,
// have no part of those of others: they are opened at once.
func TestLimitedAccountsHoldUpNobody(t *testing.T) {
	for name, test := range map[string]struct {
		after string // Retry-After
		other time.Duration
		fails bool
	}{
		"at once":        {"20", time.Second, false},
		"later":          {"20", 12 * time.Second, false},
		"for long":       {"120", time.Second, true},
		"for long still": {"120", 12 * time.Second, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &server{}
				until := time.Now().Add(20 * time.Second)
				s.Fault = func(r *http.Request, _ string, w http.ResponseWriter) bool {
					if !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer limited") || !time.Now().Before(until) {
						return false
					}
					w.Header().Set("Retry-After", test.after)
					http.Error(w, "slow down", http.StatusTooManyRequests)
					return true
				}
				s.network.Handler = &s.Server
				p, err := mcpool.New(mcpool.Server{
					Name: "test", URL: "http://server.test/mcp", RoundTripper: &s.network,
					Tokens: func(principal string) rpc.TokenSource {
						return oauth2.StaticTokenSource(&oauth2.Token{AccessToken: principal})
					},
				}, nil)
				if err != nil {
					t.Fatal(err)
				}
				defer closePool(t, p)
				var wg sync.WaitGroup
				for i := range 40 {
					wg.Go(func() {
						began := time.Now()
						_, err := call(t.Context(), p, rpc.Caller{Principal: fmt.Sprint("limited", i/2)}, "write", fmt.Sprint(i))
						if (err != nil) != test.fails || err != nil && time.Since(began) > time.Second {
							t.Errorf("a limited account: %v, after %v", err, time.Since(began))
						}
					})
				}
				time.Sleep(test.other)
				began := time.Now()
				if _, err := call(t.Context(), p, bob, "write", "his"); err != nil || time.Since(began) > time.Second {
					t.Errorf("another account: %v, after %v", err, time.Since(began))
				}
				wg.Wait()
			})
		})
	}
}

// What one server wants is nothing to the one that takes its place.
func TestLimitEndsWithItsServer(t *testing.T) {
	for _, late := range []time.Duration{0, 2 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			s := newLimiter(func(string, string, int) (int, string) { return http.StatusTooManyRequests, "20" })
			refuse := s.Fault
			s.Fault = func(r *http.Request, method string, w http.ResponseWriter) bool {
				time.Sleep(late)
				return refuse(r, method, w)
			}
			p := s.pool(t, nil)
			defer closePool(t, p)
			answered := make(chan error)
			began := time.Now()
			go func() {
				_, err := call(t.Context(), p, ann, "write", "1")
				answered <- err
			}()
			time.Sleep(time.Second)
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			if _, err := p.Acquire(ctx, ann, mcpool.Slot); late == 0 && (!errors.Is(err, mcpool.ErrAcquireTimeout) || time.Since(began) > 2*time.Second) {
				t.Errorf("who has 5 s was told %v, after %v", err, time.Since(began))
			}
			next := &server{}
			next.network.Handler = &next.Server
			if err := p.Reload(mcpool.Server{Name: "test", URL: "http://next.test/mcp", RoundTripper: &next.network}, nil); err != nil {
				t.Fatal(err)
			}
			if err := <-answered; err != nil || time.Since(began) > 7*time.Second {
				t.Errorf("%v, after %v", err, time.Since(began))
			}
		})
	}
}

// A server in trouble is so for all, also where it says until when.
func TestServerInTroubleForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newLimiter(func(string, string, int) (int, string) { return http.StatusServiceUnavailable, "1" })
		p := s.pool(t, nil)
		defer closePool(t, p)
		go func() { _, _ = call(t.Context(), p, ann, "write", "1") }()
		time.Sleep(12 * time.Second)
		began := time.Now()
		if _, err := call(t.Context(), p, bob, "write", "2"); !errors.Is(err, mcpool.ErrUnavailable) || time.Since(began) > 2*time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		time.Sleep(time.Minute)
	})
}

// Who waits for a limit to end waits ConnectionTimeout at most, all in all, and
// a limit that is longer is not made shorter by another.
func TestLimitsAreWaitedForWithinReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newLimiter(func(method, id string, n int) (int, string) {
			switch {
			case id == "again":
				return http.StatusTooManyRequests, "20"
			case id == "long":
				return http.StatusTooManyRequests, "1000"
			case id == "short":
				return http.StatusTooManyRequests, "1"
			}
			return 0, ""
		})
		refuse := s.Fault
		s.Fault = func(r *http.Request, method string, w http.ResponseWriter) bool {
			if bytes.Contains(body(r), []byte(`"short"`)) {
				time.Sleep(2 * time.Second)
			}
			return refuse(r, method, w)
		}
		p := s.pool(t, nil)
		defer closePool(t, p)
		_, err := call(t.Context(), p, ann, "write", "again")
		if got := s.times("again"); !errors.Is(err, mcpool.ErrRefused) || !roughly(got, 0, 20*time.Second) || !roughly([]time.Duration{time.Since(s.began)}, 20*time.Second) {
			t.Errorf("sent at %v, and told after %v: %v", got, time.Since(s.began), err)
		}
		lease, err := p.Acquire(t.Context(), bob, mcpool.Whole)
		if err != nil {
			t.Fatal(err)
		}
		defer lease.Release()
		var e *mcpool.Error
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = call(t.Context(), lease, bob, "write", "short") })
		time.Sleep(time.Second)
		if _, err := call(t.Context(), lease, bob, "write", "long"); !errors.As(err, &e) || e.RetryAfter != 1000*time.Second {
			t.Errorf("a lease was told %v", err)
		}
		wg.Wait()
		time.Sleep(10 * time.Second)
		if _, err := call(t.Context(), lease, bob, "write", "next"); !errors.As(err, &e) || e.RetryAfter < 900*time.Second {
			t.Errorf("the next call was answered with %v", err)
		}
	})
}

// A server that wants to be left alone is not checked either.
func TestChecksHeedRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newLimiter(func(_, id string, _ int) (int, string) {
			if id == "limited" {
				return http.StatusTooManyRequests, "1800"
			}
			return 0, ""
		})
		p := s.pool(t, func(c *mcpool.Config) { c.IdleTimeout = 0 })
		defer closePool(t, p)
		if _, err := call(t.Context(), p, ann, "write", "limited"); !errors.Is(err, mcpool.ErrRefused) {
			t.Fatal(err)
		}
		time.Sleep(25 * time.Minute)
		if n := len(s.times("ping")); n != 0 {
			t.Errorf("%d checks while the server wants to be left alone", n)
		}
		time.Sleep(15 * time.Minute)
		if n := len(s.times("ping")); n == 0 {
			t.Error("no check ever since")
		}
	})
}
