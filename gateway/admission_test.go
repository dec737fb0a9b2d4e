package gateway

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestStreamsAreOfWhomTheGatewayLetsInStill has all kinds of streams open while
// what the gateway says to their principals changes.
func TestStreamsAreOfWhomTheGatewayLetsInStill(t *testing.T) {
	t.Parallel()
	gone := func(*http.Request) (string, error) { return "", errors.New("the key is not known") }
	away := func(*http.Request) (string, error) {
		return "", &PrincipalError{Status: 503, Err: errors.New("the issuer is away")}
	}
	other := func(r *http.Request) (string, error) { return r.Header.Get("X-Principal") + "2", nil }
	for name, test := range map[string]struct {
		says   func(*http.Request) (string, error) // of ann; nil for as before
		serves bool                                // something to her
		ends   bool
	}{
		"nothing":            {nil, true, false},
		"a key is taken out": {gone, true, true},
		"it is another's":    {other, true, true},
		"nobody can tell":    {away, true, false},
		"rights are gone":    {nil, false, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			var changed atomic.Bool
			teller := newTeller(demo)
			g := newPlain(t, &Options{Principal: func(r *http.Request) (string, error) {
				if changed.Load() && test.says != nil && r.Header.Get("X-Principal") == "ann" {
					return test.says(r)
				}
				return byHeader(r)
			}}, one(teller))
			type streams struct{ stream, listen, talk *wire }
			open := func(who string) (s streams) {
				s.stream = openStream(t, g, initializeWith(t, g, "/mcp", `{}`, "X-Principal", who))
				s.listen = openListen(t, g, "7", `{"toolsListChanged":true}`, "X-Principal", who)
				s.talk, _ = openTalk(t, g, "X-Principal", who)
				if ack := s.listen.message(); ack.Method != notifyAcknowledged {
					t.Fatalf("%s: got %s", name, ack.Method)
				}
				return s
			}
			ann, bob := open("ann"), open("bob")
			synctest.Wait()
			changed.Store(true)
			if _, err := g.Change([]Server{one(teller)}, func(principal string) Rights {
				return Rights{Serves: func(string) bool { return test.serves || principal != "ann" }}
			}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * askAgain)
			synctest.Wait()
			if n, want := len(g.admitted.of), map[bool]int{true: 3, false: 6}[test.ends]; n != want {
				t.Errorf("%s: %d streams are open, want %d", name, n, want)
			} else if test.ends {
				// Those that a client comes back to end as if they were whole.
				if rest := ann.stream.rest(); !ann.stream.whole {
					t.Errorf("%s: the stream of the session is broken off after %q", name, rest)
				}
				if rest := strings.Join(ann.listen.rest(), "\n"); !ann.listen.whole || !strings.Contains(rest, `"id":7,"result":`) {
					t.Errorf("%s: the listening ends with %q", name, rest)
				}
				ann.talk.rest()
			}
			teller.tell(toolsChanged, "")
			synctest.Wait()
			bob.listen.want(toolsChanged)
			bob.stream.want(toolsChanged)
			for _, w := range []*wire{ann.stream, ann.listen, ann.talk, bob.stream, bob.listen, bob.talk} {
				w.leave()
				w.rest()
			}
			synctest.Wait()
			if len(g.admitted.of) != 0 || g.admitted.timer != nil {
				t.Errorf("%s: it is asked for streams that have ended", name)
			}
			closed(t, g)
		})
	}
}

// TestAProgramThatHasJoinedIsLetInStill: its connection is no HTTP any more.
func TestAProgramThatHasJoinedIsLetInStill(t *testing.T) {
	t.Parallel()
	var gone atomic.Bool
	g := newGateway(t, &Options{Principal: func(r *http.Request) (string, error) {
		if gone.Load() {
			return "", errors.New("the key is not known")
		}
		return "ann", nil
	}}, one(handler(demo)))
	server := httptest.NewServer(g)
	defer server.Close()
	joined, err := Join(t.Context(), address(server), "a key")
	if err != nil {
		t.Fatal(err)
	}
	defer joined.conn.Close()
	gone.Store(true)
	if err := joined.conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if line, err := joined.in.ReadString('\n'); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %q, %v; want the connection to end", line, err)
	}
	if _, err := Join(t.Context(), address(server), "a key"); !errors.Is(err, ErrNotAdmitted) {
		t.Errorf("joined again: %v", err)
	}
}
