package admin_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/mcpool-dev/mcpool/admin"
	"github.com/mcpool-dev/mcpool/gateway"
	"github.com/mcpool-dev/mcpool/rpc"
)

// lister has one tool. It lists it unless it is told to fail, and a call of it
// says that it is there and waits.
type lister struct {
	fail    error
	arrived chan struct{}
	free    chan struct{}
}

func (l *lister) Do(_ context.Context, call rpc.Call) (rpc.Answer, error) {
	switch call.Method {
	case "tools/list":
		if l.fail != nil {
			return rpc.Answer{}, l.fail
		}
		return rpc.Result(json.RawMessage(`{"tools":[{"name":"t"}]}`)), nil
	case "tools/call":
		l.arrived <- struct{}{}
		<-l.free
	}
	return rpc.Result(json.RawMessage(`{"content":[]}`)), nil
}

func TestStatusHasTheGateway(t *testing.T) {
	up, down := &lister{arrived: make(chan struct{}), free: make(chan struct{})}, &lister{}
	g, err := gateway.New([]gateway.Server{{Name: "up", Handler: up}, {Name: "down", Handler: down}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	h := admin.New(admin.Options{Gateway: g})
	post := func(method, params string) string {
		meta := `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}`
		r := httptest.NewRequest("POST", "http://localhost/mcp", strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"`+method+`","params":{`+params+meta+`}}`))
		r.Header = http.Header{"Content-Type": {"application/json"}, "Mcp-Protocol-Version": {"2026-07-28"}, "Mcp-Method": {method}, "Mcp-Name": {"up__t"}}
		w := httptest.NewRecorder()
		g.ServeHTTP(w, r)
		return w.Body.String()
	}
	type server struct {
		Server        string
		CallsInFlight int `json:"calls_in_flight"`
		ListFault     *struct {
			Since time.Time
			Error string
		} `json:"list_fault"`
	}
	show := func() (total int, servers []server) {
		t.Helper()
		var s struct {
			Gateway struct {
				CallsInFlight int `json:"calls_in_flight"`
				Servers       []server
			}
		}
		if err := json.Unmarshal(request(h, "GET", "/status").Body.Bytes(), &s); err != nil {
			t.Fatal(err)
		}
		if len(s.Gateway.Servers) != 2 || s.Gateway.Servers[0].Server != "up" || s.Gateway.Servers[1].Server != "down" {
			t.Fatalf("got %+v", s)
		}
		return s.Gateway.CallsInFlight, s.Gateway.Servers
	}

	if got := post("tools/list", ""); strings.Count(got, `"name":`) < 2 {
		t.Fatalf("listed %s", got)
	}
	if n, s := show(); n != 0 || s[0].ListFault != nil || s[1].ListFault != nil {
		t.Errorf("at first: %d, %+v", n, s)
	}
	before := time.Now()
	down.fail = errors.New("down is down")
	if got := post("tools/list", ""); !strings.Contains(got, `"down__t"`) {
		t.Errorf("its last list is not shown: %s", got)
	}
	if _, s := show(); s[0].ListFault != nil || s[1].ListFault == nil || s[1].ListFault.Error != "down is down" || s[1].ListFault.Since.Before(before) {
		t.Errorf("with a server down: %+v", s)
	}
	down.fail = nil
	post("tools/list", "")
	if _, s := show(); s[1].ListFault != nil {
		t.Errorf("with it up again: %+v", s)
	}

	answered := make(chan string)
	go func() { answered <- post("tools/call", `"name":"up__t",`) }()
	<-up.arrived
	if n, s := show(); n != 1 || s[0].CallsInFlight != 1 || s[1].CallsInFlight != 0 {
		t.Errorf("with a call in flight: %d, %+v", n, s)
	}
	close(up.free)
	<-answered
	if n, s := show(); n != 0 || s[0].CallsInFlight != 0 {
		t.Errorf("after it: %d, %+v", n, s)
	}
	if err := g.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
