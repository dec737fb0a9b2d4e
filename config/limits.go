package config

import (
	"strconv"

	"github.com/mcpool-dev/mcpool"
)

// limitKeys are those of limits.
var limitKeys = keys{read: []string{"max_connections", "max_processes", "max_waiting"}}

// maxLimit is the most that a limit may be, far above any use.
const maxLimit = 1_000_000

// limits reads what bounds the pools of all servers together: nil for nothing.
func (r *reader) limits(n *node) *mcpool.Limits {
	if n == nil {
		return nil
	}
	l := new(mcpool.Limits)
	for _, child := range r.mapping(n, limitKeys) {
		before := len(r.errs)
		value := r.text(child)
		if len(r.errs) > before {
			continue
		}
		count, err := strconv.Atoi(value)
		if err != nil || count < 0 || count > maxLimit {
			r.refuse(child, "value %q: want a whole number from 0, which is no limit, to %d", child.text, maxLimit)
			continue
		}
		switch child.key {
		case "max_connections":
			l.MaxConnections = count
		case "max_processes":
			l.MaxProcesses = count
		case "max_waiting":
			l.MaxWaiting = count
		}
	}
	return l
}
