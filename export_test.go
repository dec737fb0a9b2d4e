package mcpool

// Unsettled returns how many leases are remembered for their cancelled calls.
func Unsettled(p *Pool) int { return int(p.unsettled.n.Load()) }
