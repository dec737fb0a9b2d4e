package gateway

import "time"

// A Status is how a gateway stands at a moment.
type Status struct {
	// CallsInFlight are the requests that are being answered, subscriptions of
	// modern clients included.
	CallsInFlight int
	// ParkedCalls are the calls that wait for a modern client to answer what
	// their server asked.
	ParkedCalls int
	// Standing are the legacy sessions that are told of changes, or can be.
	Standing int
	// OverSSE are the clients over HTTP+SSE, and Joined those of programs that
	// joined ([Join]).
	OverSSE, Joined int
	// Servers are in the order in which they were given.
	Servers []ServerStatus
}

// A ServerStatus is how a server of a gateway stands.
type ServerStatus struct {
	Name string
	// CallsInFlight are its calls under way, those that wait for a connection
	// or for their client included.
	CallsInFlight int
	// Calls counts those that have ended, or were not made. What was never
	// counted is not there.
	Calls []CallCount
	// ListFault is nil for one that listed what it has when it was last asked
	// together with other servers.
	ListFault *ListFault
}

// A ListFault is a server that does not list what it has, so that clients are
// shown its last list, or nothing of it.
type ListFault struct {
	Since time.Time
	Err   error // the first that it failed with
}

// Status returns how the gateway stands.
func (g *Gateway) Status() Status {
	s := Status{
		CallsInFlight: g.calls.count(), ParkedCalls: g.parked.count(),
		Standing: g.standings.count(), OverSSE: g.visitors.count(), Joined: g.joiners.count(),
	}
	for _, b := range g.now().all.servers {
		one := ServerStatus{Name: b.Name, CallsInFlight: g.limits.count(b), Calls: b.counts.all()}
		if fault, is := g.lists.fault(b.Name); is {
			one.ListFault = &fault
		}
		s.Servers = append(s.Servers, one)
	}
	return s
}

func (c *calls) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.running)
}

func (ss *standings) count() int {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	return len(ss.of)
}

func (vs *visitors) count() int {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	return len(vs.by)
}

func (j *joiners) count() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.number
}

func (l *limits) count(b *backend) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.of[b]
}
