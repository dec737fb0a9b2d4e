package dbserver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
)

// turns let so many calls on a database at a time as it has connections, and of
// one principal not all of them. Principals that wait take turns, and the calls
// of one of them come in their order: so a batch of calls waits, and keeps
// nobody else waiting for all of it.
type turns struct {
	most, each int           // calls at a time, and those of one principal
	wait       time.Duration // longest wait

	mu      sync.Mutex // guards what follows
	running int
	waiting int
	waited  uint64           // calls that were not let on at once
	lines   map[string]*line // of principals with calls
	next    []*line          // those with calls that wait, whose turn is next first
}

// A line is the calls of one principal.
type line struct {
	who     string
	running int
	waiting []chan struct{} // oldest first; closed when the call may run
}

func newTurns(most, each int, wait time.Duration) *turns {
	return &turns{most: most, each: min(each, max(1, most-1)), wait: wait, lines: map[string]*line{}}
}

// enter waits until a call of a principal may run. It has to leave then.
func (t *turns) enter(ctx context.Context, who string) (leave func(), err error) {
	t.mu.Lock()
	l := t.lines[who]
	if l == nil {
		l = &line{who: who}
		t.lines[who] = l
	}
	leave = func() { t.leave(l) }
	if t.running < t.most && l.running < t.each { // so nobody who waits could run
		t.running++
		l.running++
		t.mu.Unlock()
		return leave, nil
	}
	may := make(chan struct{})
	if l.waiting = append(l.waiting, may); len(l.waiting) == 1 {
		t.next = append(t.next, l)
	}
	t.waiting++
	t.waited++
	t.mu.Unlock()

	ctx, cancel := context.WithTimeoutCause(ctx, t.wait, engine.ErrExhausted)
	defer cancel()
	select {
	case <-may:
		return leave, nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	i := slices.Index(l.waiting, may)
	if i < 0 { // its turn came in the same moment
		t.mu.Unlock()
		if cause := context.Cause(ctx); !errors.Is(cause, engine.ErrExhausted) {
			leave()
			return nil, cause
		}
		return leave, nil
	}
	defer t.mu.Unlock()
	err = context.Cause(ctx)
	if errors.Is(err, engine.ErrExhausted) {
		err = t.exhaustedLocked(l)
	}
	t.unwaitLocked(l, i)
	t.forgetLocked(l)
	return nil, err
}

// leave ends a call, and lets on who is next.
func (t *turns) leave(l *line) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running--
	l.running--
	for t.running < t.most {
		i := slices.IndexFunc(t.next, func(l *line) bool { return l.running < t.each })
		if i < 0 {
			break
		}
		n := t.next[i]
		close(n.waiting[0])
		t.unwaitLocked(n, 0)
		if len(n.waiting) > 0 { // behind the others
			t.next = append(slices.Delete(t.next, i, i+1), n)
		}
		t.running++
		n.running++
	}
	t.forgetLocked(l)
}

// unwaitLocked takes the i-th call that waits out of a line.
func (t *turns) unwaitLocked(l *line, i int) {
	l.waiting = slices.Delete(l.waiting, i, i+1)
	t.waiting--
	if len(l.waiting) == 0 {
		t.next = slices.DeleteFunc(t.next, func(other *line) bool { return other == l })
	}
}

func (t *turns) forgetLocked(l *line) {
	if l.running == 0 && len(l.waiting) == 0 {
		delete(t.lines, l.who)
	}
}

// exhaustedLocked says why a call of a line has waited in vain.
func (t *turns) exhaustedLocked(l *line) *engine.Error {
	if l.running >= t.each {
		return &engine.Error{Code: engine.ClientLimit, Layer: engine.LayerPool, Retryable: true,
			Message: fmt.Sprintf("%d calls of this caller are running, which is the limit, and %d wait; it was not the turn of this one within %v", l.running, len(l.waiting), t.wait),
			Next:    "try again when calls have been answered, with fewer at a time"}
	}
	return &engine.Error{Code: engine.PoolExhausted, Layer: engine.LayerPool, Retryable: true,
		Message: fmt.Sprintf("all %d connections are in use, and %d calls wait; it was not the turn of this one within %v", t.running, t.waiting, t.wait),
		Next:    "try again in some seconds, with fewer calls at a time"}
}

// inTurns is an engine on which calls take turns. Info does not wait for one.
type inTurns struct {
	engine.Database
	turns *turns
	ended *results // of statements
}

func inTurn[T any](ctx context.Context, t *turns, who engine.Caller, call func() (T, error)) (result T, err error) {
	leave, err := t.enter(ctx, who.Principal)
	if err != nil {
		return result, err
	}
	defer leave()
	return call()
}

func (e inTurns) Read(ctx context.Context, who engine.Caller, s engine.Statement, out *result.Writer) error {
	_, err := inTurn(ctx, e.turns, who, func() (struct{}, error) { return struct{}{}, e.Database.Read(ctx, who, s, out) })
	e.ended.count(err)
	return err
}

func (e inTurns) Write(ctx context.Context, who engine.Caller, s engine.Statement, w engine.Write, out *result.Writer) (engine.Written, error) {
	written, err := inTurn(ctx, e.turns, who, func() (engine.Written, error) { return e.Database.Write(ctx, who, s, w, out) })
	e.ended.count(err)
	return written, err
}

func (e inTurns) Explain(ctx context.Context, who engine.Caller, s engine.Statement) (engine.Plan, error) {
	return inTurn(ctx, e.turns, who, func() (engine.Plan, error) { return e.Database.Explain(ctx, who, s) })
}

func (e inTurns) Tables(ctx context.Context, who engine.Caller, f engine.Filter) (engine.Tables, error) {
	return inTurn(ctx, e.turns, who, func() (engine.Tables, error) { return e.Database.Tables(ctx, who, f) })
}

func (e inTurns) Describe(ctx context.Context, who engine.Caller, n engine.Name, samples int) (*engine.Description, error) {
	return inTurn(ctx, e.turns, who, func() (*engine.Description, error) { return e.Database.Describe(ctx, who, n, samples) })
}
