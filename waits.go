package mcpool

import "time"

// A Wait is the callers who wait for a slot on behalf of one principal.
type Wait struct {
	Principal string
	Waiting   int
	Oldest    time.Duration // how long the first of them has waited
}

// Waits returns who waits, the longest waiting first.
func (p *Pool) Waits() []Wait {
	var waits []Wait
	for _, w := range p.slots.Waits() {
		waits = append(waits, Wait{w.Who, w.Waiting, w.Oldest})
	}
	return waits
}
