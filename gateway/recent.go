package gateway

// A recent remembers values by key, those of the last keys alone: beyond most
// of them, the key that was set first is forgotten.
type recent[V any] struct {
	most int

	of     map[string]V
	oldest []string // a ring of the keys, once it is full
	next   int      // where in the ring the next one goes
}

func newRecent[V any](most int) recent[V] { return recent[V]{most: most, of: make(map[string]V)} }

func (r *recent[V]) get(key string) (V, bool) {
	v, ok := r.of[key]
	return v, ok
}

func (r *recent[V]) set(key string, v V) {
	if _, there := r.of[key]; !there {
		if len(r.oldest) < r.most {
			r.oldest = append(r.oldest, key)
		} else {
			delete(r.of, r.oldest[r.next])
			r.oldest[r.next] = key
			r.next = (r.next + 1) % r.most
		}
	}
	r.of[key] = v
}
