package config

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/mcpool-dev/mcpool/gateway"
)

// A Setting is one that is in force.
type Setting struct {
	// Server is whose it is; "" for one that is for all.
	Server string
	// Name is as [SettingNames], [GatewaySettingNames] and [AdminSettingNames] have
	// it, or the place of another key of the file, such as limits.max_waiting.
	Name string
	// Value is as a file has it; "***" for a secret, and "" for none.
	Value string
	// Source is where it comes from: "default", the file and line as in
	// "mcp.json:12", the name of a variable, or "flag " and a name.
	Source string
}

// byDefault is the source of what nobody has set.
const byDefault = "default"

// sources are where settings come from that are not the default.
type sources map[settingOf]string

type settingOf struct{ server, name string } // the server is "" for all

// of returns where a server's setting comes from: its own, or what is for all.
func (s sources) of(server, name string) string {
	return cmp.Or(s[settingOf{server, name}], s[settingOf{"", name}], byDefault)
}

// from notes where a setting of a server, or "", comes from.
func (r *reader) from(server, name, source string) {
	if r.sources == nil {
		r.sources = sources{}
	}
	r.sources[settingOf{server, name}] = source
}

// at is where in the file n is.
func (r *reader) at(n *node) string { return r.name + ":" + strconv.Itoa(n.line) }

// Settings returns the settings in force, those for all first. None of them is
// secret, and nothing is in them of how servers are reached.
func (c *Config) Settings() []Setting {
	var list []Setting
	all := func(name, value string) {
		list = append(list, Setting{"", name, value, c.sources.of("", name)})
	}
	g := &c.Gateway
	secret := ""
	if g.SessionKey != nil {
		secret = "***"
	}
	for i, value := range []string{
		g.Name, cmp.Or(string(g.Prefix), string(gateway.PrefixAuto)),
		strconv.Itoa(cmp.Or(g.MaxCallsPerPrincipal, gateway.DefaultMaxCallsPerPrincipal)), secret, g.SessionKeyFile,
	} {
		all(GatewaySettingNames()[i], value)
	}
	all(AdminSettingNames()[0], c.Admin.TokenFile)
	if len(c.Servers) > 0 {
		if l := c.Servers[0].Pool.Limits; l != nil { // the same for all
			for i, value := range []int{l.MaxConnections, l.MaxProcesses, l.MaxWaiting} {
				all("limits."+limitKeys.read[i], strconv.Itoa(value))
			}
		}
	}
	for i := range c.Servers {
		list = append(list, c.Servers[i].settings(c.sources)...)
	}
	return list
}

func (s *Server) settings(from sources) []Setting {
	var list []Setting
	one := func(name, value string) {
		list = append(list, Setting{s.Name, name, value, from.of(s.Name, name)})
	}
	for _, name := range SettingNames() {
		value := s.Pool.Get(name)
		if name == callTimeout {
			value = s.CallTimeout.String()
		}
		one(name, value)
	}
	one("max_calls", strconv.Itoa(cmp.Or(s.MaxCalls, gateway.DefaultMaxCalls)))
	one("allow", strings.Join(s.Allow, ", "))
	one("deny", strings.Join(s.Deny, ", "))
	return list
}

// prefixed returns the keys that are read as settings outside of the file.
func prefixed(prefix string, k keys) []string {
	names := slices.Clone(k.read)
	for i, name := range names {
		names[i] = prefix + name
	}
	return names
}

// commonSettingNames are those of the settings that are no pool's.
func commonSettingNames() []string { return append(GatewaySettingNames(), AdminSettingNames()...) }
