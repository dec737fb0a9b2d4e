package config

import (
	"fmt"
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
		count := r.count(child, maxLimit, "no limit")
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

// count returns a whole number of at most most; zero says what 0 is.
func (r *reader) count(n *node, most int, zero string) int {
	before := len(r.errs)
	value := r.text(n)
	if len(r.errs) > before {
		return 0
	}
	count, err := parseCount(value, most, zero)
	if err != nil {
		r.refuse(n, "value %q: %w", n.text, err)
	}
	return count
}

// parseCount reads what count returns.
func parseCount(text string, most int, zero string) (int, error) {
	count, err := strconv.Atoi(text)
	if err != nil || count < 0 || count > most {
		return 0, fmt.Errorf("want a whole number from 0, which is %s, to %d", zero, most)
	}
	return count, nil
}
