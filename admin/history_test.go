package admin_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/admin"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
	"github.com/mcpool-dev/mcpool/rpc"
)

// slow takes as long as the name of a method says, and fails where that is none.
type slow struct{}

func (slow) Do(_ context.Context, call rpc.Call) (rpc.Answer, error) {
	d, err := time.ParseDuration(call.Method)
	if err != nil {
		return rpc.Answer{}, rpc.Errorf(rpc.CodeInternal, "no")
	}
	time.Sleep(d)
	return rpc.Result(json.RawMessage("{}")), nil
}

// running has an admin run in a bubble, and ends it with the pools.
func running(t *testing.T, test func(t *testing.T, a *admin.Admin, one, two *mcpool.Pool)) {
	synctest.Test(t, func(t *testing.T) {
		config := mcpool.DefaultConfig()
		config.MaxConnections, config.CallsPerConnection = 1, 2
		pools := make([]*mcpool.Pool, 2)
		for i, name := range []string{"one", "two"} {
			p, err := mcpool.New(mcpool.Server{Name: name, Handler: slow{}}, &config)
			if err != nil {
				t.Fatal(err)
			}
			pools[i] = p
		}
		a := admin.New(admin.Options{Pools: func() []*mcpool.Pool { return pools }, Local: true})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); a.Run(ctx) }()
		synctest.Wait()
		test(t, a, pools[0], pools[1])
		stop()
		<-ended
		for _, p := range pools {
			if err := p.Close(context.Background()); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestHandshakesAvoidedAreOfCallsThatHadAConnection: those who wait in vain would
// not have had one of their own either.
func TestHandshakesAvoidedAreOfCallsThatHadAConnection(t *testing.T) {
	running(t, func(t *testing.T, a *admin.Admin, one, two *mcpool.Pool) {
		var calls sync.WaitGroup
		for range 5 { // of which two have a slot
			calls.Go(func() { one.Do(t.Context(), rpc.Call{Method: "1h"}) })
		}
		calls.Wait()
		var said struct {
			Pools []struct {
				Calls   int
				Avoided int     `json:"handshakes_avoided"`
				Reuse   float64 `json:"reuse_ratio"`
			}
		}
		w := access(a, "GET", "/admin/v1/pools")
		if err := json.Unmarshal(w.Body.Bytes(), &said); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(said.Pools); got != "[{5 1 0.5} {0 0 0}]" {
			t.Errorf("got %s", got)
		}
	})
}

type past struct {
	Step   float64 `json:"step_seconds"`
	Series struct {
		Calls, Errors, Waiting, Connections []int
		P99                                 []float64 `json:"p99_seconds"`
	}
}

func historyOf(t *testing.T, a *admin.Admin, query string) past {
	t.Helper()
	w := access(a, "GET", "/admin/v1/history"+query)
	var h past
	if err := json.Unmarshal(w.Body.Bytes(), &h); err != nil || w.Code != 200 {
		t.Fatalf("%d %v: %s", w.Code, err, w.Body)
	}
	return h
}

func TestHistoryIsOfEachStep(t *testing.T) {
	running(t, func(t *testing.T, a *admin.Admin, one, two *mcpool.Pool) {
		if h := historyOf(t, a, ""); h.Step != 5 || h.Series.Calls == nil || len(h.Series.Calls) != 0 {
			t.Errorf("at first: %+v", h)
		}
		for range 98 {
			one.Do(t.Context(), rpc.Call{Method: "10ms"})
		}
		one.Do(t.Context(), rpc.Call{Method: "nonsense"})
		two.Do(t.Context(), rpc.Call{Method: "100ms"})
		for range 3 { // of which one waits
			go two.Do(t.Context(), rpc.Call{Method: "6s"})
		}
		time.Sleep(4 * time.Second) // the first step is over
		synctest.Wait()
		time.Sleep(5 * time.Second)
		got := fmt.Sprintf("%+v", historyOf(t, a, "?server=one").Series)
		h := historyOf(t, a, "?server=one").Series
		if fmt.Sprint(h.Calls, h.Errors, h.Waiting, h.Connections) != "[99 0] [1 0] [0 0] [1 1]" || h.P99[0] < .008 || h.P99[0] > .017 || h.P99[1] != 0 {
			t.Errorf("one: %s", got)
		}
		h = historyOf(t, a, "?server=two").Series
		if fmt.Sprint(h.Calls, h.Errors, h.Waiting, h.Connections) != "[4 0] [0 0] [1 0] [1 1]" || h.P99[0] < .06 || h.P99[0] > .14 || h.P99[1] < 4 || h.P99[1] > 9 {
			t.Errorf("two: %+v", h)
		}
		h = historyOf(t, a, "").Series
		if fmt.Sprint(h.Calls, h.Errors, h.Waiting, h.Connections) != "[103 0] [1 0] [1 0] [2 2]" {
			t.Errorf("all: %+v", h)
		}
		if h := historyOf(t, a, "?server=*&seconds=5").Series; fmt.Sprint(h.Calls, h.Connections) != "[0] [2]" {
			t.Errorf("the last step: %+v", h)
		}
		time.Sleep(time.Minute)
	})
}

func TestHistoryIsOfAnHour(t *testing.T) {
	running(t, func(t *testing.T, a *admin.Admin, one, two *mcpool.Pool) {
		for range admin.HistoryMost {
			one.Do(t.Context(), rpc.Call{Method: "1ms"})
			time.Sleep(5 * time.Second)
		}
		h := historyOf(t, a, "?server=one").Series
		if len(h.Calls) != 720 || h.Calls[0] != 1 {
			t.Errorf("%d samples, %v", len(h.Calls), h.Calls)
		}
		time.Sleep(5 * 10 * time.Second)
		h = historyOf(t, a, "?server=one").Series
		if len(h.Calls) != 720 || h.Calls[709] != 1 || h.Calls[719] != 0 || len(h.P99) != 720 {
			t.Errorf("%d samples, the last %v", len(h.Calls), h.Calls[705:])
		}
		if h := historyOf(t, a, "?server=one&seconds=120").Series; len(h.Calls) != 24 || h.Calls[13] != 1 || h.Calls[14] != 0 {
			t.Errorf("of two minutes: %v", h.Calls)
		}
	})
}

// here is a client on this machine, without sockets.
func here(a *admin.Admin) *http.Client {
	return &http.Client{Transport: mcptest.RoundTripper(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.RemoteAddr = "127.0.0.1:50000"
		a.ServeHTTP(w, r)
	}))}
}

func TestEventsComeWithChanges(t *testing.T) {
	running(t, func(t *testing.T, a *admin.Admin, one, two *mcpool.Pool) {
		began := time.Now()
		client := here(a)
		ctx, leave := context.WithCancel(t.Context())
		r, _ := http.NewRequestWithContext(ctx, "GET", "http://127.0.0.1:7432/admin/v1/events", nil)
		answer, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		type told struct {
			at    time.Duration
			Pools []struct{ Calls, Waiting int }
			Waits []struct {
				Principal string
				Waiting   int
			}
			Connections []struct{ Server string }
		}
		events := make(chan told, 10)
		go func() {
			defer close(events)
			lines := bufio.NewScanner(answer.Body)
			for lines.Scan() {
				if data, is := strings.CutPrefix(lines.Text(), "data: "); is {
					e := told{at: time.Since(began)}
					if err := json.Unmarshal([]byte(data), &e); err != nil {
						t.Error(err)
					}
					events <- e
				}
			}
		}()
		expect := func(when string, want ...time.Duration) (last told) {
			t.Helper()
			synctest.Wait()
			var at []time.Duration
			for range len(events) {
				last = <-events
				at = append(at, last.at)
			}
			if fmt.Sprint(at) != fmt.Sprint(want) {
				t.Errorf("%s: events after %v, want %v", when, at, want)
			}
			return last
		}
		const s = time.Second
		time.Sleep(11*s + s/2)
		expect("while nothing happens", 0, 5*s, 10*s)
		one.Do(t.Context(), rpc.Call{Method: "1ms"}) // at 11.5 s
		time.Sleep(5*s - time.Millisecond)
		expect("with a call", 12*s)
		for range 3 { // at 16.5 s
			go two.Do(t.Context(), rpc.Call{Method: "3s"})
		}
		time.Sleep(s)
		last := expect("with three", 17*s)
		if len(last.Waits) != 1 || last.Waits[0].Waiting != 1 || last.Waits[0].Principal != "local" || last.Pools[1].Waiting != 1 || len(last.Connections) != 2 {
			t.Errorf("got %+v", last)
		}
		time.Sleep(6 * s)
		expect("and when they end", 20*s, 23*s)
		leave()
		for range events {
		}
	})
}

func TestEventsEndWithTheAdmin(t *testing.T) {
	for name, end := range map[string]func(ready, known *atomic.Bool, stop func()){
		"when new clients are sent away":     func(ready, _ *atomic.Bool, _ func()) { ready.Store(false) },
		"when Run ends":                      func(_, _ *atomic.Bool, stop func()) { stop() },
		"when who looks may not do so again": func(_, known *atomic.Bool, _ func()) { known.Store(false) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var ready, known atomic.Bool
				ready.Store(true)
				known.Store(true)
				a := admin.New(admin.Options{Ready: ready.Load, Authorize: func(*http.Request) (string, error) {
					if known.Load() {
						return "", nil
					}
					return "", errors.New("nobody that is known")
				}})
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				go a.Run(ctx)
				client := here(a)
				answer, err := client.Get("http://127.0.0.1:7432/admin/v1/events")
				if err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				began := time.Now()
				end(&ready, &known, stop)
				if _, err := io.ReadAll(answer.Body); err != nil || time.Since(began) > time.Second {
					t.Errorf("after %v: %v", time.Since(began), err)
				}
			})
		})
	}
}

func TestStreamsOfEventsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := admin.New(admin.Options{Local: true})
		ctx, leave := context.WithCancel(t.Context())
		client := here(a)
		get := func() int {
			r, _ := http.NewRequestWithContext(ctx, "GET", "http://127.0.0.1:7432/admin/v1/events", nil)
			answer, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			return answer.StatusCode
		}
		for range 64 {
			if status := get(); status != 200 {
				t.Fatalf("status %d", status)
			}
		}
		if status := get(); status != 503 {
			t.Errorf("status %d for one too many", status)
		}
		leave()
		synctest.Wait()
		ctx, leave = context.WithCancel(t.Context())
		defer leave()
		if status := get(); status != 200 {
			t.Errorf("status %d when there is room again", status)
		}
	})
}
