package config

import (
	"errors"
	"fmt"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/mcpool-dev/mcpool"
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

// GatewaySettingNames returns the names of the settings of a [Gateway], as
// flags write them; the keys of a file's gateway are without "gateway_". In
// the environment they are in capitals, after [mcpool.EnvPrefix]. There is no
// flag for gateway_session_key: everybody sees command lines.
func GatewaySettingNames() []string {
	return prefixed(gatewaySettings, gatewayKeys)
}

var gatewayName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// Set changes the setting of a name that [GatewaySettingNames] has, or says what
// its value may be. The error does not have the value.
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
		return fmt.Errorf("unknown setting%s", didYouMean(name, GatewaySettingNames()))
	}
	return nil
}

// gateway reads how the servers are served: the file's gateway (nil for none),
// changed by the environment, and that by flags.
func (r *reader) gateway(n *node, flags map[string]string) Gateway {
	var g Gateway
	if n != nil {
		r.gatewayOf(n, &g)
	}
	twoKeys := true
	for _, name := range GatewaySettingNames() {
		variable := mcpool.EnvPrefix + strings.ToUpper(name)
		value := os.Getenv(variable)
		if strings.Contains(name, "session_key") {
			twoKeys = twoKeys && value != ""
		}
		if value != "" {
			r.setGateway(&g, name, value, variable)
		}
	}
	if twoKeys {
		r.errs = append(r.errs, errors.New("the environment has a session key and a file of one: want one of them"))
	}
	for _, name := range GatewaySettingNames() {
		if value, given := flags[name]; given {
			r.setGateway(&g, name, value, "flag "+name)
		}
	}
	return g
}

// setGateway changes a setting from outside of the file.
func (r *reader) setGateway(g *Gateway, name, value, source string) {
	err := g.Set(name, value)
	r.from("", name, source)
	switch {
	case err == nil:
	case name == gatewaySettings+"session_key":
		r.errs = append(r.errs, fmt.Errorf("%s: %w", source, err))
	default:
		r.errs = append(r.errs, fmt.Errorf("%s is %q: %w", source, value, err))
	}
}

// gatewayOf reads a gateway mapping of the file.
func (r *reader) gatewayOf(n *node, g *Gateway) {
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
		err := g.Set(child.key, value)
		r.from("", gatewaySettings+child.key, r.at(child))
		switch {
		case err == nil:
		case child.key == "session_key":
			r.refuse(child, "%w", err)
		default:
			r.refuse(child, "value %q: %w", child.text, err)
		}
	}
	if keys > 1 {
		r.refuse(n, "has a session_key and a session_key_file: want one of them")
	}
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
