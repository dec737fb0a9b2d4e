package gateway

import "sync"

// A tally counts by name.
type tally struct {
	mu sync.Mutex // guards of
	of map[string]int
}

func newTally() tally { return tally{of: make(map[string]int)} }

// add counts one more, or reports false where there are so many.
func (t *tally) add(name string, most int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of[name] >= most {
		return false
	}
	t.of[name]++
	return true
}

func (t *tally) remove(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of[name]--; t.of[name] == 0 {
		delete(t.of, name)
	}
}
