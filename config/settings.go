package config

import (
	"errors"
	"time"

	"github.com/mcpool-dev/mcpool"
)

// DefaultCallTimeout is how long a call may take where nothing says otherwise.
const DefaultCallTimeout = 300 * time.Second

// callTimeout is the one setting that is not the pool's: the library leaves
// the length of a call to the caller's context.
const callTimeout = "call_timeout"

// SettingNames returns the names of the settings of pools, as files and flags
// write them: those of [mcpool.SettingNames], then call_timeout.
func SettingNames() []string {
	return append(mcpool.SettingNames(), callTimeout)
}

// settings are the settings of one server.
type settings struct {
	pool        mcpool.Config
	callTimeout time.Duration
}

// set changes a setting, or says what its value may be.
func (s *settings) set(name, value string) error {
	if name == callTimeout {
		d, err := mcpool.ParseDuration(value)
		if err == nil {
			s.callTimeout = d
		}
		return err
	}
	return s.pool.Set(name, value)
}

// common reads what holds for all servers: the defaults, changed by pool (nil for
// none).
func (r *reader) common(pool *node) settings {
	s := settings{mcpool.DefaultConfig(), DefaultCallTimeout}
	if pool != nil {
		r.pool(pool, "", &s)
	}
	return s
}

// pool changes s by a pool mapping of the file: that of a server, or "".
func (r *reader) pool(n *node, server string, s *settings) {
	for _, child := range r.mapping(n, keys{read: SettingNames()}) {
		before := len(r.errs)
		value := r.text(child)
		if len(r.errs) > before {
			continue
		}
		r.from(server, child.key, r.at(child))
		if err := s.set(child.key, value); err != nil {
			// The value as it stands in the file: what a variable holds may be
			// a secret that got into the wrong place.
			r.refuse(child, "value %q: %w", child.text, err)
		}
	}
}

// validate checks the settings of each server against each other. Servers
// that fail alike are named together.
func validate(servers []Server) []error {
	failing := make(map[string][]string)
	var order []string
	for i := range servers {
		err := servers[i].Pool.Validate()
		if err == nil {
			continue
		}
		if _, known := failing[err.Error()]; !known {
			order = append(order, err.Error())
		}
		failing[err.Error()] = append(failing[err.Error()], servers[i].Name)
	}
	var errs []error
	for _, text := range order {
		errs = append(errs, errors.New("settings of "+and(failing[text])+": "+text))
	}
	return errs
}
