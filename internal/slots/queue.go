package slots

import (
	"container/list"
)

// waiter is a caller that found no slot.
type waiter[K comparable, C any] struct {
	who      string
	whole    bool
	weight   int
	since    moment
	deadline moment
	probe    bool          // it came while the breaker was open, to see one try
	ready    chan struct{} // closed when lease or err is set
	lease    Lease[K, C]
	err      error
	line     *line
	place    *list.Element // in its line
}

// queue is the waiters of a group: first come, first served among those of
// one principal, and in turns between principals, so that a storm of one of
// them does not keep the others waiting. A turn is as many slots as the weight
// of the principal (weighted round robin).
type queue[K comparable, C any] struct {
	lines  map[string]*line // of principals with waiters
	turns  list.List        // of *line, whose turn is next first
	n      int              // waiters
	wholes int              // of them, those that want a whole connection
}

// line is the waiters of one principal, oldest first.
type line struct {
	who     string
	waiters list.List
	turn    *list.Element
	served  int // in this turn
}

func (q *queue[K, C]) push(w *waiter[K, C]) {
	l := q.lines[w.who]
	if l == nil {
		if q.lines == nil {
			q.lines = map[string]*line{}
		}
		l = &line{who: w.who}
		l.turn = q.turns.PushBack(l)
		q.lines[w.who] = l
	}
	w.line, w.place = l, l.waiters.PushBack(w)
	q.n++
	if w.whole {
		q.wholes++
	}
}

// head is the waiter to be served next.
func (q *queue[K, C]) head() *waiter[K, C] {
	if q.n == 0 {
		return nil
	}
	return q.turns.Front().Value.(*line).waiters.Front().Value.(*waiter[K, C])
}

// newest is the last waiter of a principal; nil for none.
func (q *queue[K, C]) newest(who string) *waiter[K, C] {
	if l := q.lines[who]; l != nil {
		return l.waiters.Back().Value.(*waiter[K, C])
	}
	return nil
}

// remove takes a waiter out, served or not.
func (q *queue[K, C]) remove(w *waiter[K, C], served bool) {
	l := w.line
	l.waiters.Remove(w.place)
	q.n--
	if w.whole {
		q.wholes--
	}
	if served {
		l.served++
	}
	switch {
	case l.waiters.Len() == 0:
		q.turns.Remove(l.turn)
		delete(q.lines, l.who)
	case served && l.served >= w.weight:
		l.served = 0
		q.turns.MoveToBack(l.turn)
	}
}

// all returns the waiters, in no order.
func (q *queue[K, C]) all() []*waiter[K, C] {
	var list []*waiter[K, C]
	for _, l := range q.lines {
		for e := l.waiters.Front(); e != nil; e = e.Next() {
			list = append(list, e.Value.(*waiter[K, C]))
		}
	}
	return list
}

// oldest is when the longest waiting came.
func (q *queue[K, C]) oldest() (since moment, any bool) {
	for _, l := range q.lines {
		w := l.waiters.Front().Value.(*waiter[K, C])
		if !any || w.since < since {
			since, any = w.since, true
		}
	}
	return since, any
}
