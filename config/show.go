package config

import (
	"cmp"
	"os"
	"strconv"
	"strings"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/auth"
	"github.com/mcpool-dev/mcpool/dbserver"
	"github.com/mcpool-dev/mcpool/gateway"
)

// A Setting is one that is in force.
type Setting struct {
	// Server is whose it is; "" for one that is for all.
	Server string
	// Name is as [AllSettingNames] has it, or is that of something that a file alone
	// can have: max_calls, allow and deny of a server, auth_keys and auth_principals.
	Name string
	// Value is as a file has it, a list divided by ", "; "***" for a secret, and ""
	// for none.
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

// at is where in the file n is, or what else has set it.
func (r *reader) at(n *node) string {
	if n.outside != "" {
		return strings.TrimPrefix(n.outside, byEnvironment)
	}
	return r.name + ":" + strconv.Itoa(n.line)
}

// Settings returns the settings in force, those for all first. None of them is
// secret, and nothing is in them of how servers are reached.
func (c *Config) Settings() []Setting {
	var list []Setting
	add := func(name, value string) {
		list = append(list, Setting{"", name, value, c.sources.of("", name)})
	}
	all := func(path string, values ...string) { // in the order of the section's keys
		for _, s := range sections {
			for i := 0; s.path == path && i < len(values); i++ {
				add(s.name(s.keys[i]), values[i])
			}
		}
	}
	g := &c.Gateway
	secret := ""
	if g.SessionKey != nil {
		secret = "***"
	}
	all("gateway", g.Name, cmp.Or(string(g.Prefix), string(gateway.PrefixAuto)),
		strconv.Itoa(cmp.Or(g.MaxCallsPerPrincipal, gateway.DefaultMaxCallsPerPrincipal)), secret, g.SessionKeyFile)
	all("log", c.Log.values()...)
	all("admin", c.Admin.TokenFile)
	var who auth.Options
	if c.Auth != nil {
		who = *c.Auth
	}
	var keys, principals []string
	for _, key := range who.Keys {
		keys = append(keys, key.Name+": ***")
	}
	for _, rule := range who.Rules {
		principals = append(principals, rule.Principals)
	}
	all("auth", who.URL, who.KeyFile)
	add("auth_keys", strings.Join(keys, ", "))
	add("auth_principals", strings.Join(principals, ", "))
	all("auth.jwt", jwtValues(who.JWT)...)
	all("auth.client_certificates", c.TLS.ClientCAFile, string(who.Certificates))
	all("tls", c.TLS.CertFile, c.TLS.KeyFile)
	// As the SDK of OpenTelemetry has it where nothing is said here.
	ratio := cmp.Or(number(c.Telemetry.SampleRatio), os.Getenv("OTEL_TRACES_SAMPLER"), "1")
	all("telemetry", c.Telemetry.Endpoint, c.Telemetry.HeadersFile, ratio, c.Telemetry.ServiceName)
	l := new(mcpool.Limits)
	if len(c.Servers) > 0 { // the same for all
		l = cmp.Or(c.Servers[0].Pool.Limits, l)
	}
	all("limits", strconv.Itoa(l.MaxConnections), strconv.Itoa(l.MaxProcesses), strconv.Itoa(l.MaxWaiting))
	for i := range c.Servers {
		if d := c.Servers[i].Databases; d != nil {
			var audit dbserver.Audit
			if d.Audit != nil {
				audit = *d.Audit
				audit.Statements = cmp.Or(audit.Statements, "fingerprint")
				audit.MaxBytes = cmp.Or(audit.MaxBytes, dbserver.DefaultAuditBytes)
			}
			all("database_server", c.Servers[i].Name, strconv.Itoa(cmp.Or(d.MaxCallsPerPrincipal, dbserver.DefaultMaxCallsPerPrincipal)),
				cmp.Or(d.HandleTTL, dbserver.DefaultHandleTTL).String()) // the others are shown as the server's own
			all("database_server.audit", audit.File, audit.Statements, number(float64(audit.MaxBytes)))
		}
	}
	for i := range c.Servers {
		list = append(list, c.Servers[i].settings(c.sources)...)
	}
	return list
}

// number is "" for none.
func number(value float64) string {
	if value == 0 {
		return ""
	}
	return strconv.FormatFloat(value, 'f', -1, 64)
}

// jwtValues are those of the settings of access tokens; nil is for none of those.
func jwtValues(j *auth.JWT) []string {
	if j == nil {
		return make([]string, len(jwtKeys.read))
	}
	algorithms := j.Algorithms
	if len(algorithms) == 0 {
		algorithms = auth.DefaultAlgorithms()
	}
	return []string{
		j.Issuer, strings.Join(j.Audience, ", "), j.JWKSURL, strings.Join(j.Scopes, ", "), j.AdminScope,
		strings.Join(algorithms, ", "), cmp.Or(j.PrincipalClaim, "sub"),
	}
}

// values are those of the settings of a log.
func (l Log) values() []string {
	access := number(l.Access)
	switch l.Access {
	case 0:
		access = "off"
	case 1:
		access = "all"
	}
	return []string{strings.ToLower(l.Level.String()), l.Format, access}
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
