package transport

import (
	"context"
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool/rpc"
)

// Acknowledgements of two filters may come in either order, and the one that
// says less may say the same as one that waits: what is heard last is of the
// newest filter, and says which that is.
func TestAcknowledgementsOfTwoFilters(t *testing.T) {
	const none = `{"notifications":{}}`
	for name, test := range map[string]struct {
		order []int
		want  []string // the URIs of the filters that are acknowledged
	}{
		"in order":    {[]int{0, 1}, []string{"a", "b"}},
		"overtaken":   {[]int{1, 0}, []string{"b"}},
		"only newest": {[]int{1}, []string{"b"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var calls []rpc.Call
				send := func(ctx context.Context, call rpc.Call) error {
					calls = append(calls, call)
					<-ctx.Done()
					return context.Cause(ctx)
				}
				filters := make(chan Filter)
				var heard Pending
				ctx, cancel := context.WithCancel(t.Context())
				over := make(chan error)
				go func() { over <- listenModern(ctx, filters, &heard, send) }()
				for _, uri := range []string{"a", "b"} {
					filters <- Filter{URIs: []string{uri}}
					synctest.Wait()
				}
				for _, i := range test.order {
					calls[i].Events.Notify(MethodAcknowledged, json.RawMessage(none))
					synctest.Wait()
				}
				got := heard.Take()
				for i, want := range test.want {
					if i >= len(got) || string(got[i].Params) != none || got[i].Asked.URIs[0] != want {
						t.Fatalf("heard %v, want %q acknowledged", got, test.want)
					}
				}
				if len(got) != len(test.want) {
					t.Errorf("heard %v, want %q acknowledged", got, test.want)
				}
				cancel()
				<-over
			})
		})
	}
}

// A connection that is closed ends its listening as closed, though what it hears
// by may end before that is told.
func TestListeningOfAClosedConnection(t *testing.T) {
	for range 1000 {
		l := newLife(nil)
		begun, over := make(chan struct{}), make(chan error, 1)
		go func() {
			over <- l.listening(t.Context(), new(Pending), func(context.Context) error {
				close(begun)
				<-l.ctx.Done()
				return &Failure{Fate: NotSent, Dead: true, Err: errStreamEnded}
			})
		}()
		<-begun
		l.close(t.Context(), func() {})
		if failure := wantFailure(t, <-over, MayHaveRun, true); failure.Err != errClosed {
			t.Fatalf("got %v", failure)
		}
	}
}

// What a server told on a subscription before it began the next one may arrive
// after that is acknowledged: the old one is read for a moment yet.
func TestSubscriptionsOverlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls []rpc.Call
		ended := make([]time.Duration, 2)
		began := time.Now()
		send := func(ctx context.Context, call rpc.Call) error {
			n := len(calls)
			calls = append(calls, call)
			<-ctx.Done()
			ended[n] = time.Since(began)
			return context.Cause(ctx)
		}
		filters := make(chan Filter)
		ctx, cancel := context.WithCancel(t.Context())
		over := make(chan error)
		go func() { over <- listenModern(ctx, filters, new(Pending), send) }()
		for range 2 {
			filters <- Filter{}
			synctest.Wait()
		}
		calls[1].Events.Notify(MethodAcknowledged, json.RawMessage(`{"notifications":{}}`))
		time.Sleep(time.Minute)
		cancel()
		<-over
		if ended[0] != overlap || ended[1] != time.Minute {
			t.Errorf("they ended after %v, want %v and a minute", ended, overlap)
		}
	})
}
