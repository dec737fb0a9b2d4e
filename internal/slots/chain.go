package slots

// chain is a list whose places are part of what is in it: to join and to leave
// it allocates nothing.
type chain[T any] struct {
	first, last *place[T]
	n           int
}

// place is where something is in a chain.
type place[T any] struct {
	of         T
	prev, next *place[T]
	in         *chain[T] // nil while it is in none
}

func (c *chain[T]) push(at *place[T], of T) {
	at.of, at.in, at.prev, at.next = of, c, c.last, nil
	if c.last == nil {
		c.first = at
	} else {
		c.last.next = at
	}
	c.last = at
	c.n++
}

// leave takes a place out of its chain, if it is in one.
func (at *place[T]) leave() {
	c := at.in
	if c == nil {
		return
	}
	if at.prev == nil {
		c.first = at.next
	} else {
		at.prev.next = at.next
	}
	if at.next == nil {
		c.last = at.prev
	} else {
		at.next.prev = at.prev
	}
	c.n--
	*at = place[T]{}
}
