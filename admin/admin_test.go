package admin_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"

	"go.uber.org/goleak"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/admin"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
	"github.com/mcpool-dev/mcpool/rpc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(mcptest.Settled(m)) }

// server answers everything, and "block" only when the caller gives up, after
// saying on its channel that it is there.
type server chan struct{}

func (s server) Do(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
	switch call.Method {
	case "block":
		s <- struct{}{}
		<-ctx.Done()
		return rpc.Answer{}, ctx.Err()
	case "fail":
		return rpc.Answer{}, rpc.Errorf(rpc.CodeInternal, "no")
	}
	return rpc.Result(json.RawMessage("{}")), nil
}

func newPool(t *testing.T, name string, handler rpc.Handler) *mcpool.Pool {
	t.Helper()
	c := mcpool.DefaultConfig()
	p, err := mcpool.New(mcpool.Server{Name: name, Handler: handler}, &c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return p
}

// busyPool has answered a call, failed one, and has one in flight.
func busyPool(t *testing.T) *mcpool.Pool {
	t.Helper()
	s := make(server)
	p := newPool(t, "busy", s)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.Do(ctx, rpc.Call{Method: "block"})
	}()
	<-s
	t.Cleanup(func() { cancel(); <-done })
	if _, err := p.Do(ctx, rpc.Call{Method: "ping"}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Do(ctx, rpc.Call{Method: "fail"}); err == nil {
		t.Fatal("no error")
	}
	return p
}

func request(h http.Handler, method, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w
}

func TestPaths(t *testing.T) {
	h := admin.New(admin.Options{Version: "v1"})
	for _, test := range []struct {
		method, path string
		code         int
		body         string
	}{
		{"GET", "/healthz", 200, "ok\n"},
		{"HEAD", "/healthz", 200, "ok\n"}, // the server of net/http drops it
		{"GET", "/readyz", 200, "ready\n"},
		{"HEAD", "/status", 200, `"version": "v1"`},
		{"GET", "/status?pretty", 200, `"pools": []`},
		{"GET", "/metrics", 200, "go_goroutines"},
		{"HEAD", "/metrics", 200, "process_start_time_seconds"},
		{"POST", "/healthz", 405, "there are GET and HEAD"},
		{"DELETE", "/readyz", 405, "there are GET and HEAD"},
		{"PUT", "/status", 405, "there are GET and HEAD"},
		{"POST", "/metrics", 405, "there are GET and HEAD"},
		{"GET", "/", 200, "<!doctype html>"},
		{"GET", "/page.css", 200, "color-scheme"},
		{"HEAD", "/page.js", 200, "admin/v1/"},
		{"POST", "/", 405, "there are GET and HEAD"},
		{"GET", "/page", 404, "there are /, /healthz, /readyz, /status, /metrics, /admin/v1/"},
		{"POST", "/status/x", 404, "not found"},
	} {
		w := request(h, test.method, test.path)
		if w.Code != test.code || !strings.Contains(w.Body.String(), test.body) {
			t.Errorf("%s %s: %d %q, want %d %q", test.method, test.path, w.Code, w.Body, test.code, test.body)
		}
		if allow := w.Header().Get("Allow"); (allow == "GET, HEAD") != (test.code == 405) {
			t.Errorf("%s %s: Allow is %q", test.method, test.path, allow)
		}
		if cache := w.Header().Get("Cache-Control"); test.code == 200 && cache != "no-store" {
			t.Errorf("%s %s: Cache-Control is %q", test.method, test.path, cache)
		}
	}
}

func TestReadyzSaysWhenDraining(t *testing.T) {
	ready := true
	h := admin.New(admin.Options{Ready: func() bool { return ready }})
	if w := request(h, "GET", "/readyz"); w.Code != 200 || w.Body.String() != "ready\n" {
		t.Errorf("got %d %q", w.Code, w.Body)
	}
	ready = false
	if w := request(h, "GET", "/readyz"); w.Code != 503 || w.Body.String() != "draining\n" {
		t.Errorf("got %d %q", w.Code, w.Body)
	}
	if w := request(h, "GET", "/healthz"); w.Code != 200 {
		t.Errorf("healthz is %d while draining", w.Code)
	}
}

// page is /status as its readers see it.
type page struct {
	Version string
	Ready   bool
	Started time.Time
	Uptime  *float64 `json:"uptime_seconds"`
	Pools   []struct {
		Server      string
		Stats       map[string]any
		Connections []map[string]any
	}
}

func getStatus(t *testing.T, h http.Handler) page {
	t.Helper()
	w := request(h, "GET", "/status")
	if got := w.Header().Get("Content-Type"); w.Code != 200 || got != "application/json" {
		t.Fatalf("got %d, %s", w.Code, got)
	}
	var s page
	if err := json.Unmarshal(w.Body.Bytes(), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStatusHasEveryFieldOfStats(t *testing.T) {
	busy, unused := busyPool(t), newPool(t, "unused", make(server))
	before := time.Now().Add(-time.Second)
	h := admin.New(admin.Options{Version: "v1.2.3", Pools: func() []*mcpool.Pool { return []*mcpool.Pool{busy, unused} }})
	s := getStatus(t, h)
	if s.Version != "v1.2.3" || !s.Ready || s.Started.Before(before) || s.Uptime == nil || *s.Uptime < 0 || len(s.Pools) != 2 {
		t.Fatalf("got %+v", s)
	}
	for i, p := range []*mcpool.Pool{busy, unused} {
		if s.Pools[i].Server != p.Name() {
			t.Errorf("pool %d is %s, want %s", i, s.Pools[i].Server, p.Name())
		}
		compare(t, p.Name(), s.Pools[i].Stats, reflect.ValueOf(p.Stats()), "Server")
	}
	if stats := s.Pools[0].Stats; stats["calls"] != 3.0 || stats["errors"] != 1.0 || stats["calls_in_flight"] != 1.0 {
		t.Errorf("got %v", stats)
	}
}

// compare checks that an object of JSON is the struct want: its fields in
// snake case, durations in seconds.
func compare(t *testing.T, place string, got map[string]any, want reflect.Value, besides string) {
	t.Helper()
	for i := range want.NumField() {
		field, value := want.Type().Field(i).Name, want.Field(i)
		if field == besides {
			continue
		}
		name := snake(field)
		var expected any
		switch v := value.Interface().(type) {
		case time.Duration:
			name += "_seconds"
			expected = v.Seconds()
		case mcpool.Latency:
			object, _ := got[name].(map[string]any)
			compare(t, place+"."+name, object, value, "Buckets")
			continue
		case bool:
			expected = v
		case mcpool.Breaker:
			expected = string(v)
		default:
			if value.Kind() == reflect.Map { // counts by reason
				expected = reasons(value)
				break
			}
			expected = value.Convert(reflect.TypeFor[float64]()).Interface()
		}
		if !reflect.DeepEqual(got[name], expected) {
			t.Errorf("%s.%s is %v, want %v", place, name, got[name], expected)
		}
	}
}

// reasons are counts by reason as JSON has them.
func reasons(counts reflect.Value) map[string]any {
	object := make(map[string]any)
	for reason, count := range counts.Seq2() {
		object[reason.String()] = float64(count.Uint())
	}
	return object
}

// snake turns CallsInFlight into calls_in_flight, and ID into id.
func snake(name string) string {
	var out strings.Builder
	for i, c := range name {
		if unicode.IsUpper(c) && i > 0 && unicode.IsLower(rune(name[i-1])) {
			out.WriteByte('_')
		}
		out.WriteRune(unicode.ToLower(c))
	}
	return out.String()
}

func TestStatusHasEveryFactOfAConnection(t *testing.T) {
	p := busyPool(t)
	s := getStatus(t, admin.New(admin.Options{Pools: func() []*mcpool.Pool { return []*mcpool.Pool{p} }}))
	conns := p.Conns()
	if len(conns) != 1 || len(s.Pools[0].Connections) != 1 {
		t.Fatalf("got %v of %v", s.Pools[0].Connections, conns)
	}
	got, conn := s.Pools[0].Connections[0], reflect.ValueOf(conns[0])
	for i := range conn.NumMethod() {
		name := conn.Type().Method(i).Name
		key := snake(name)
		var want any
		switch v := conn.Method(i).Call(nil)[0].Interface().(type) {
		case time.Duration:
			key += "_seconds"
			want = v.Seconds()
		case time.Time:
			want = v.UTC().Format(time.RFC3339Nano)
		case string:
			want = v
		default:
			want = reflect.ValueOf(v).Convert(reflect.TypeFor[float64]()).Interface()
		}
		switch name {
		case "Age": // it goes on, and so does the last use while a call is in flight
			if age, ok := got[key].(float64); !ok || age <= 0 || age > want.(float64) {
				t.Errorf("%s is %v, want at most %v", key, got[key], want)
			}
		case "LastUse":
			used, err := time.Parse(time.RFC3339Nano, fmt.Sprint(got[key]))
			if err != nil || used.After(conns[0].LastUse()) || used.Before(conns[0].LastUse().Add(-time.Minute)) {
				t.Errorf("%s is %v, want a little before %v", key, got[key], want)
			}
		default:
			if got[key] != want {
				t.Errorf("%s is %v, want %v", key, got[key], want)
			}
		}
	}
}

func TestStatusWithoutConnectionsHasAnEmptyList(t *testing.T) {
	h := admin.New(admin.Options{Pools: func() []*mcpool.Pool { return []*mcpool.Pool{newPool(t, "unused", make(server))} }})
	if body := request(h, "GET", "/status").Body.String(); !strings.Contains(body, `"connections": []`) {
		t.Errorf("got %s", body)
	}
}
