package slots

// waiter is a caller that found no slot.
type waiter[K comparable, C any] struct {
	group    *group[K, C]
	who      string
	whole    bool
	weight   int
	since    moment
	deadline moment        // when its time is up
	until    moment        // that, or the end of its ctx if that is sooner
	probe    bool          // it came while the breaker was open, to see one try
	ready    chan struct{} // holds a token when lease or err is set
	lease    Lease[K, C]
	err      error

	line  *line[K, C]
	place place[*waiter[K, C]] // in its line
	rank  int                  // among the deadlines
}

// queue is the waiters of a group: first come, first served among those of
// one principal, and in turns between principals, so that a storm of one of
// them does not keep the others waiting. A turn is as many slots as the weight
// of the principal (weighted round robin).
type queue[K comparable, C any] struct {
	lines  map[string]*line[K, C]
	turns  chain[*line[K, C]] // of those with waiters, whose turn is next first
	empty  *line[K, C]        // the last that fell empty; it is most often needed again
	n      int                // waiters
	wholes int                // of them, those that want a whole connection
}

// line is the waiters of one principal, oldest first.
type line[K comparable, C any] struct {
	who     string
	waiters chain[*waiter[K, C]]
	turn    place[*line[K, C]]
	served  int // in this turn
}

func (q *queue[K, C]) push(w *waiter[K, C]) {
	l := q.empty
	if l == nil || l.who != w.who {
		if l = q.lines[w.who]; l == nil {
			if q.lines == nil {
				q.lines = map[string]*line[K, C]{}
			}
			l = &line[K, C]{who: w.who}
			q.lines[w.who] = l
		}
	}
	if l.waiters.n == 0 {
		q.turns.push(&l.turn, l)
	}
	l.waiters.push(&w.place, w)
	w.line = l
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
	return q.turns.first.of.waiters.first.of
}

// remove takes a waiter out, served or not.
func (q *queue[K, C]) remove(w *waiter[K, C], served bool) {
	l := w.line
	w.place.leave()
	q.n--
	if w.whole {
		q.wholes--
	}
	if served {
		l.served++
	}
	switch {
	case l.waiters.n == 0:
		l.turn.leave()
		l.served = 0
		if q.empty != nil && q.empty != l && q.empty.waiters.n == 0 {
			delete(q.lines, q.empty.who)
		}
		q.empty = l
	case served && l.served >= w.weight:
		l.served = 0
		l.turn.leave()
		q.turns.push(&l.turn, l)
	}
}

// waiters returns how many there are of a principal, and the last of them.
func (q *queue[K, C]) waiters(who string) (n int, last *waiter[K, C]) {
	if l := q.lines[who]; l != nil && l.waiters.n > 0 {
		return l.waiters.n, l.waiters.last.of
	}
	return 0, nil
}

// all returns the waiters, in no order.
func (q *queue[K, C]) all() []*waiter[K, C] {
	var list []*waiter[K, C]
	for l := q.turns.first; l != nil; l = l.next {
		for w := l.of.waiters.first; w != nil; w = w.next {
			list = append(list, w.of)
		}
	}
	return list
}

// oldest is when the longest waiting came.
func (q *queue[K, C]) oldest() (since moment, any bool) {
	for l := q.turns.first; l != nil; l = l.next {
		if w := l.of.waiters.first.of; !any || w.since < since {
			since, any = w.since, true
		}
	}
	return since, any
}

// deadlines are the waiters by when their time is up: a heap.
type deadlines[K comparable, C any] []*waiter[K, C]

func (d deadlines[K, C]) Len() int           { return len(d) }
func (d deadlines[K, C]) Less(i, j int) bool { return d[i].deadline < d[j].deadline }

func (d deadlines[K, C]) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].rank, d[j].rank = i, j
}

func (d *deadlines[K, C]) Push(w any) {
	w.(*waiter[K, C]).rank = len(*d)
	*d = append(*d, w.(*waiter[K, C]))
}

func (d *deadlines[K, C]) Pop() any {
	last := len(*d) - 1
	w := (*d)[last]
	(*d)[last] = nil
	*d = (*d)[:last]
	return w
}
