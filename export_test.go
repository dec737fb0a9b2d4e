package mcpool

// Unsettled returns how many leases are remembered for their cancelled calls.
func Unsettled(p *Pool) int { return int(p.unsettled.n.Load()) }

// Past returns how many connections are remembered that are closed.
func Past(p *Pool) int {
	p.past.mu.Lock()
	defer p.past.mu.Unlock()
	return len(p.past.conns)
}
