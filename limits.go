package mcpool

import (
	"sync"

	"github.com/mcpool-dev/mcpool/internal/slots"
)

// Limits bound several pools together: those whose [Config] has the same
// *Limits. Set the fields before the first pool is made; 0 is no bound.
//
// Where there is no room for a connection, the least recently used idle one of
// all these pools makes some; where none is idle, callers who have no
// connection at all get the room of one in use, whose calls finish first.
type Limits struct {
	// MaxConnections is the most connections over HTTP and stdio.
	MaxConnections int
	// MaxProcesses is the most of them over stdio, which are child processes.
	MaxProcesses int
	// MaxWaiting is the most callers waiting for a slot; further ones fail with
	// [ErrQueueFull].
	MaxWaiting int

	once                            sync.Once
	connections, processes, waiting *slots.Budget
}

// budgets returns what a pool of this server takes of the limits.
func (l *Limits) budgets(s *Server) (connections []*slots.Budget, waiting *slots.Budget) {
	if l == nil {
		return nil, nil
	}
	l.once.Do(func() {
		l.connections = budgetOf(l.MaxConnections)
		l.processes = budgetOf(l.MaxProcesses)
		l.waiting = budgetOf(l.MaxWaiting)
	})
	if s.Handler == nil && l.connections != nil {
		connections = append(connections, l.connections)
	}
	if s.Command != "" && l.processes != nil {
		connections = append(connections, l.processes)
	}
	return connections, l.waiting
}

func budgetOf(most int) *slots.Budget {
	if most <= 0 {
		return nil
	}
	return slots.NewBudget(most)
}
