package gateway

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestASilentServerIsWaitedForOnce holds that of many clients that begin the
// first alone waits for a server that says nothing.
func TestASilentServerIsWaitedForOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		good, mute := &shop{name: "good", tools: []string{"x"}}, &shop{name: "mute", tools: []string{"y"}}
		g := newPlain(t, nil, Server{Name: "good", Handler: good}, Server{Name: "mute", Handler: mute})
		begin := func(takes time.Duration) {
			t.Helper()
			began := time.Now()
			initialize(t, g, "/mcp")
			if took := time.Since(began); took != takes {
				t.Errorf("a client began after %v, want %v", took, takes)
			}
		}
		mute.set(errHangs)
		begin(helloWait)
		begin(0)
		time.Sleep(silence)
		begin(helloWait)
		begin(0)
		// One that answers anything is asked again.
		mute.set(nil)
		if r := callModern(g, "/mcp", "mute__y", ""); r.said(t) != "mute" {
			t.Errorf("got %s", r)
		}
		mute.set(errHangs)
		begin(helloWait)
		closed(t, g)
	})
}
