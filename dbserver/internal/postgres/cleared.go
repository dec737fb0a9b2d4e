package postgres

import (
	"sync"
	"time"
)

// cleared are names that were looked at and are those of no function that is
// denied. The look costs more than many a statement, so it holds for a while:
// a function made in that time by the database's owner may be called once more
// than it should. What PostgreSQL itself brings does not change.
type cleared struct {
	mu    sync.Mutex // guards what follows
	names map[call]struct{}
	since time.Time
}

// clearedFor is for how long a look holds, and mostCleared for how many names.
const (
	clearedFor  = time.Minute
	mostCleared = 10_000
)

// without returns the names that were not looked at.
func (c *cleared) without(names []call) []call {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.since) > clearedFor || len(c.names) > mostCleared {
		c.names, c.since = map[call]struct{}{}, time.Now()
	}
	var rest []call
	for _, n := range names {
		if _, ok := c.names[n]; !ok {
			rest = append(rest, n)
		}
	}
	return rest
}

func (c *cleared) add(names []call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range names {
		c.names[n] = struct{}{}
	}
}
