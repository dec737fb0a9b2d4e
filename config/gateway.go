package config

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/mcpool-dev/mcpool/gateway"
)

// A Gateway is how the servers are served to clients.
type Gateway struct {
	// Name tells this gateway from others with the same key, see
	// [gateway.Options]; "" for one that is made up when it begins.
	Name string
	// Prefix says how tools are named; "" for [gateway.PrefixAuto].
	Prefix gateway.Prefix
	// MaxCallsPerPrincipal bounds the calls of one principal under way; 0 for
	// [gateway.DefaultMaxCallsPerPrincipal].
	MaxCallsPerPrincipal int
	// SessionKey is what is sealed with, see [gateway.Options]; nil if none is
	// given. SessionKeyFile is the file that has it, "" if none is given. At
	// most one of the two is.
	SessionKey     []byte
	SessionKeyFile string
}

// gatewaySettings is what the names of a gateway's settings begin with, but in
// the file's gateway.
const gatewaySettings = "gateway_"

var gatewayKeys = keys{
	read:    []string{"name", "prefix", "max_calls_per_principal", "session_key", "session_key_file"},
	ignored: []string{"_comment", "//"},
}

var gatewayName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// Set changes the setting of a name, be it that of [AllSettingNames] or the key of
// the file, or says what its value may be. The error does not have the value.
func (g *Gateway) Set(name, value string) error {
	switch strings.TrimPrefix(name, gatewaySettings) {
	case "name":
		if !gatewayName.MatchString(value) {
			return errors.New("want 1 to 64 letters, digits, '-' and '_'")
		}
		g.Name = value
	case "prefix":
		prefixes := []gateway.Prefix{gateway.PrefixAuto, gateway.PrefixAlways, gateway.PrefixNever}
		if !slices.Contains(prefixes, gateway.Prefix(value)) {
			return fmt.Errorf("want %s, %s or %s", prefixes[0], prefixes[1], prefixes[2])
		}
		g.Prefix = gateway.Prefix(value)
	case "max_calls_per_principal":
		most, err := parseCount(value, maxLimit, "the default")
		if err != nil {
			return err
		}
		g.MaxCallsPerPrincipal = most
	case "session_key":
		key, err := gateway.ParseKey(value)
		if err != nil {
			return err
		}
		g.SessionKey, g.SessionKeyFile = key, ""
	case "session_key_file":
		if value == "" {
			return errors.New("want a file")
		}
		g.SessionKey, g.SessionKeyFile = nil, value
	default:
		return fmt.Errorf("unknown setting%s", didYouMean(name, section{"gateway", gatewayKeys.read}.names()))
	}
	return nil
}

// gateway reads how the servers are served; n is nil where nothing says so.
func (r *reader) gateway(n *node) (g Gateway) {
	if n == nil {
		return g
	}
	keys := 0
	for _, child := range r.mapping(n, gatewayKeys) {
		before := len(r.errs)
		var value string
		switch child.key {
		case "session_key_file":
			keys++
			value = r.path(child)
		case "session_key":
			keys++
			value = r.text(child)
		default:
			value = r.text(child)
		}
		if len(r.errs) > before {
			continue
		}
		if keys > 1 && strings.HasPrefix(child.key, "session_key") {
			r.refuse(child, "beside the other one of session_key and session_key_file: want one of them")
			continue
		}
		err := g.Set(child.key, value)
		switch {
		case err == nil:
		case child.key == "session_key":
			r.refuse(child, "%w", err)
		default:
			r.refuse(child, "value %q: %w", child.text, err)
		}
	}
	return g
}

// patterns returns what names of tools are matched with, see
// [gateway.Server].
func (r *reader) patterns(n *node) []string {
	before := len(r.errs)
	patterns := r.texts(n)
	if len(r.errs) > before {
		return nil
	}
	for i, pattern := range patterns {
		if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
			r.refuse(n.children[i], "want the name of a tool, in which * stands for any text")
		}
	}
	return patterns
}
