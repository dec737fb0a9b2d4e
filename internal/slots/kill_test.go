package slots

import (
	"testing"
	"testing/synctest"
	"time"
)

func numbered(id int) func(*link) bool { return func(l *link) bool { return l.id == id } }

func TestKillClosesUnderCallsAndMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{slots: 2, delay: time.Second}
		p := start(t, s, Options[string, *link]{Total: 1})
		held := []Lease[string, *link]{s.get(a(1, 2)), s.get(a(1, 2))}
		served := make(chan time.Time)
		go func() {
			l := s.get(a(1, 2))
			served <- time.Now()
			l.Release()
		}()
		time.Sleep(time.Minute / 2)
		if lent, found := p.Kill(numbered(2)); found || lent != 0 {
			t.Errorf("killed what is not there: %d, %v", lent, found)
		}
		began := time.Now()
		if lent, found := p.Kill(numbered(1)); !found || lent != 2 {
			t.Errorf("killed %d leases, %v; want both", lent, found)
		}
		if at := <-served; at.Sub(began) != time.Second {
			t.Errorf("who waits was served after %v, want an opening", at.Sub(began))
		}
		s.wantClosed("1 killed")
		if got := p.Stats(); got.InFlight != 0 || got.Ready != 1 || got.Acquired != 3 || got.Released != 3 {
			t.Errorf("got %+v", got)
		}
		for _, l := range held { // by those whose calls have failed
			l.Release()
			l.Lost()
		}
		if got := p.Stats(); got.InFlight != 0 || got.Ready != 1 || got.Acquired != 3 || got.Released != 3 || got.Closed[Killed] != 1 {
			t.Errorf("after late releases: %+v", got)
		}
		s.end()
	})
}

func TestKillEndsAPauseThatWaitsForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{slots: 1}
		p := start(t, s, Options[string, *link]{})
		l := s.get(a(1, 1))
		paused := make(chan error, 1)
		go func() { paused <- p.Pause(t.Context()) }()
		synctest.Wait()
		p.Kill(numbered(1))
		if err := <-paused; err != nil {
			t.Error(err)
		}
		l.Release()
		p.Resume()
		s.end()
	})
}

func TestKillOfWhatIsRetiredAlready(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{slots: 1}
		p := start(t, s, Options[string, *link]{Total: 2})
		l := s.get(a(2, 1))
		p.Reset()
		v, found := p.Find(numbered(1))
		if !found || v.Retired != Reset || v.Left.IsZero() {
			t.Errorf("found %+v, %v", v, found)
		}
		if lent, found := p.Kill(numbered(1)); !found || lent != 1 {
			t.Errorf("killed %d, %v", lent, found)
		}
		s.wantClosed("1 reset")
		if _, found := p.Find(numbered(1)); found {
			t.Error("it is still there")
		}
		l.Release()
		s.end()
	})
}
