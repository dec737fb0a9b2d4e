package mcpool

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpool-dev/mcpool/internal/slots"
	"github.com/mcpool-dev/mcpool/rpc"
)

const (
	// storyLong is the most that is kept of one connection between its opening
	// and its end: what came last.
	storyLong = 60
	// storyStretch is the time for which calls are one event.
	storyStretch = 10 * time.Second
	// storyDetail bounds the text of an error, in bytes.
	storyDetail = 200
	// pastLong is how long a connection is remembered that is closed, and
	// pastMost how many of a pool are.
	pastLong = time.Hour
	pastMost = 256
)

// An Event is a step in the story of a connection.
type Event struct {
	At time.Time
	// Event is "opened"; "calls", for all that were sent in 10 s; "error", for a
	// call that got no answer, or an error of the protocol; "retired", when the
	// connection left the pool; or "closed".
	Event string
	// Detail is how long the opening took, how many calls there were, what the
	// error was (of the server's own its code alone), or why the connection left
	// or was closed, as a [CloseReason].
	Detail string
}

// Story returns a connection that is open, or was in the last hour, by its ID,
// and what has happened to it, oldest first: the opening, at most the last 60
// events after it, and the end. Of connections that are closed the last 256
// are remembered. It reports false for any other ID.
func (p *Pool) Story(id string) (*Conn, []Event, bool) {
	if v, open := p.slots.Find(func(l *link) bool { return l.name == id }); open {
		c := newConn(v)
		return c, c.events(), true
	}
	if c := p.past.find(id); c != nil {
		return c, c.events(), true
	}
	return nil, nil, false
}

// story is what has happened to a connection. A call that is answered costs it
// a look at a number, and every ten seconds a lock.
type story struct {
	begun atomic.Int64 // when the stretch of calls began, counted from the opening and one more; 0 for never

	mu            sync.Mutex // guards what follows
	calls, errors uint64     // before the stretch
	kept          []happening
	next          int // which of kept is the oldest, once there are storyLong
}

// A happening is an event that came several times in a row.
type happening struct {
	Event
	times int
}

// called notes that a call begins, the nth.
func (l *link) called(at time.Time, nth uint64) {
	since := max(1, 1+int64(at.Sub(l.opened)))
	begun := l.story.begun.Load()
	if begun != 0 && since-begun < int64(storyStretch) {
		return
	}
	s := &l.story
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.begun.CompareAndSwap(begun, since) {
		return // another call has begun the stretch
	}
	failed := l.errors.Load()
	if e, any := l.stretchLocked(begun, nth-1, failed); any {
		s.addLocked(e)
	}
	s.calls, s.errors = max(s.calls, nth-1), failed
}

// stretchLocked is the event of the calls of a stretch, until there were so
// many.
func (l *link) stretchLocked(begun int64, calls, failed uint64) (Event, bool) {
	if begun == 0 || calls <= l.story.calls {
		return Event{}, false
	}
	detail := fmt.Sprint(calls - l.story.calls)
	if failed > l.story.errors {
		detail += fmt.Sprintf(", %d failed", failed-l.story.errors)
	}
	return Event{l.opened.Add(time.Duration(begun - 1)), "calls", detail}, true
}

// failed notes that a call has failed.
func (s *story) failed(err error) {
	detail := ""
	if answer := (*rpc.Error)(nil); errors.As(err, &answer) {
		detail = fmt.Sprintf("the server answered with error %d", answer.Code)
	} else if detail = err.Error(); len(detail) > storyDetail {
		detail = strings.ToValidUTF8(detail[:storyDetail], "") + "…"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addLocked(Event{time.Now(), "error", detail})
}

func (s *story) addLocked(e Event) {
	if n := len(s.kept); n > 0 {
		last := &s.kept[(s.next+n-1)%n]
		if last.Event.Event == e.Event && last.Detail == e.Detail && e.Event == "error" {
			last.times++
			return
		}
	}
	if len(s.kept) < storyLong {
		s.kept = append(s.kept, happening{e, 1})
		return
	}
	s.kept[s.next] = happening{e, 1}
	s.next = (s.next + 1) % storyLong
}

// events are the story so far.
func (c *Conn) events() []Event {
	events := []Event{{c.opened, "opened", "in " + c.openTook.Round(time.Microsecond).String()}}
	s := &c.story
	s.mu.Lock()
	for _, h := range slices.Concat(s.kept[s.next:], s.kept[:s.next]) {
		if h.times > 1 {
			h.Detail += fmt.Sprintf(" (%d times in a row)", h.times)
		}
		events = append(events, h.Event)
	}
	if e, any := c.stretchLocked(s.begun.Load(), c.Calls(), c.Errors()); any {
		events = append(events, e)
	}
	s.mu.Unlock()
	slices.SortStableFunc(events[1:], func(a, b Event) int { return a.At.Compare(b.At) })
	if c.retired != "" {
		events = append(events, Event{c.left, "retired", string(c.retired)})
	}
	if !c.closed.IsZero() {
		events = append(events, Event{c.closed, "closed", string(c.retired)})
	}
	return events
}

// past is the connections that are closed.
type past struct {
	mu    sync.Mutex // guards conns
	conns []*Conn    // the last that was closed last
}

// add remembers one.
func (p *past) add(v slots.View[group, *link]) {
	c := newConn(v)
	c.closed = time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pruneLocked(pastMost - 1)
	p.conns = append(p.conns, c)
}

func (p *past) find(id string) *Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pruneLocked(pastMost)
	for _, c := range p.conns {
		if c.name == id {
			return c
		}
	}
	return nil
}

// pruneLocked forgets what is over for too long, and the oldest beyond most.
func (p *past) pruneLocked(most int) {
	old := max(0, len(p.conns)-most)
	for old < len(p.conns) && time.Since(p.conns[old].closed) > pastLong {
		old++
	}
	p.conns = slices.Delete(p.conns, 0, old)
}
