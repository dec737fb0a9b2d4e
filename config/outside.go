package config

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/mcpool-dev/mcpool"
)

// A section is a mapping of a file whose keys, some or all, are settings.
type section struct {
	path string // of keys, divided by dots
	keys []string
}

// sections are all that have settings: what is not of one server, database, key
// or principal. What sets a setting beside the file puts it into the tree that the
// file has been made into, so nothing else here asks where it is from.
var sections = []section{
	{"pool", SettingNames()},
	{"limits", limitKeys.read},
	{"gateway", gatewayKeys.read},
	{"log", logKeys.read},
	{"admin", adminKeys.read},
	{"auth", []string{"url", "key_file"}},
	{"auth.jwt", jwtKeys.read},
	{"auth.client_certificates", certificatesKeys.read},
	{"tls", tlsKeys.read},
	{"telemetry", telemetryKeys.read},
	{"database_server", []string{"name", "max_calls_per_principal", "handle_ttl", "allow", "deny", "max_calls"}},
	{"database_server.audit", auditKeys.read},
}

// lists are the settings that are lists in a file. Outside of it their elements are
// divided by commas.
var lists = []string{"auth_jwt_audience", "auth_jwt_scopes", "auth_jwt_algorithms", "database_server_allow", "database_server_deny"}

// name is that of a setting outside of the file: the settings of pools are known by
// their keys.
func (s section) name(key string) string {
	if s.path == "pool" {
		return key
	}
	return strings.ReplaceAll(s.path, ".", "_") + "_" + key
}

func (s section) names() (names []string) {
	for _, key := range s.keys {
		names = append(names, s.name(key))
	}
	return names
}

// AllSettingNames returns the names of all settings that flags and the environment
// may change, as flags write them: those of [SettingNames], and the others with
// where a file has them, as gateway_prefix and auth_jwt_issuer.
func AllSettingNames() (names []string) {
	for _, s := range sections {
		names = append(names, s.names()...)
	}
	return names
}

// SettingPlace returns where a file has the setting of a name, such as
// auth.jwt.issuer; "" if there is no such setting.
func SettingPlace(name string) string {
	for _, s := range sections {
		for _, key := range s.keys {
			if s.name(key) == name {
				return s.path + "." + key
			}
		}
	}
	return ""
}

// ProgramSettingNames returns the names of the settings that no file has: where
// the program listens, and how it begins and ends. They are flags of mcpool serve,
// and those that begin with db_ of mcpool db.
func ProgramSettingNames() []string { return slices.Clone(programSettings) }

var programSettings = []string{
	"config", "listen", "listen_without_authentication", "allowed_hosts", "allowed_origins", "drain_timeout", "drain_delay",
	"db_config", "db_dsn", "db_mode", "db_password_file", "db_audit", "db_allow_unsafe_role",
	"db_listen", "db_listen_without_authentication", "db_allowed_hosts", "db_allowed_origins", "db_drain_timeout",
}

// Variable returns the variable of the environment that has the setting of a name.
func Variable(name string) string { return mcpool.EnvPrefix + strings.ToUpper(name) }

// CheckSetting says what the value of a setting may be, if it cannot be this one.
// What has to fit to other settings, or to files, is not looked at. The error does
// not have the value.
func CheckSetting(name, value string) error {
	switch place, _, _ := strings.Cut(SettingPlace(name), "."); place {
	case "pool":
		return (&settings{pool: mcpool.DefaultConfig()}).set(name, value)
	case "limits":
		_, err := parseCount(value, maxLimit, "no limit")
		return err
	case "gateway":
		return new(Gateway).Set(name, value)
	case "log":
		return new(Log).Set(name, value)
	case "admin":
		return new(Admin).Set(name, value)
	case "telemetry":
		return new(Telemetry).Set(name, value)
	case "":
		return fmt.Errorf("unknown setting%s", didYouMean(name, AllSettingNames()))
	}
	return nil
}

// A layer sets what is not in a file, or beats it.
type layer struct {
	by  func(name string) string // says what sets a setting
	get func(name string) (value string, given bool)
}

const byEnvironment = "environment "

// outside puts what the environment sets into the tree of a file, and over it what
// flags set, and notes where all settings are from.
func (r *reader) outside(root *node, flags map[string]string) {
	r.errs = append(r.errs, unknownVariables()...)
	for _, name := range slices.Sorted(maps.Keys(flags)) {
		if SettingPlace(name) == "" {
			r.errs = append(r.errs, fmt.Errorf("flag %s: unknown setting%s", name, didYouMean(name, AllSettingNames())))
		}
	}
	for _, l := range []layer{
		{
			func(name string) string { return byEnvironment + Variable(name) },
			func(name string) (string, bool) { value := os.Getenv(Variable(name)); return value, value != "" },
		},
		{
			func(name string) string { return "flag " + name },
			func(name string) (string, bool) { value, given := flags[name]; return value, given },
		},
	} {
		l.put(root)
	}
	for _, s := range sections {
		for _, key := range s.keys {
			if n := root.find(s.path + "." + key); n != nil && n.kind != null {
				r.from("", s.name(key), r.at(n))
			}
		}
	}
}

func (l layer) put(root *node) {
	for _, key := range []string{"session_key", "session_key_file"} {
		if _, given := l.get(gatewaySettings + key); given { // either is in place of both
			if n := root.get("gateway"); n != nil {
				for _, child := range n.children {
					if strings.HasPrefix(child.key, "session_key") {
						child.kind = null
					}
				}
			}
			break
		}
	}
	for _, s := range sections {
		for _, key := range s.keys {
			name := s.name(key)
			value, given := l.get(name)
			if !given {
				continue
			}
			n := &node{kind: scalar, text: value, outside: l.by(name)}
			if slices.Contains(lists, name) {
				n = &node{kind: list, outside: n.outside}
				for element := range strings.SplitSeq(value, ",") {
					n.add("", &node{kind: scalar, text: strings.TrimSpace(element), outside: n.outside})
				}
			}
			if into := root.mappingAt(s.path, n.outside); into != nil {
				into.put(key, n)
			}
		}
	}
}

// find returns what is at a path, nil for nothing.
func (n *node) find(path string) *node {
	for key := range strings.SplitSeq(path, ".") {
		if n = n.get(key); n == nil {
			return nil
		}
	}
	return n
}

// mappingAt returns the mapping at a path, which is made if it is not there; nil
// where the file has something else, which is refused when it is read.
func (n *node) mappingAt(path, outside string) *node {
	for key := range strings.SplitSeq(path, ".") {
		if n.kind != mapping {
			return nil
		}
		next := n.get(key)
		if next == nil || next.kind == null {
			next = &node{kind: mapping, outside: outside}
			n.put(key, next)
		}
		n = next
	}
	if n.kind != mapping {
		return nil
	}
	return n
}

// put puts child into the mapping n, in place of what is there.
func (n *node) put(key string, child *node) {
	old := n.get(key)
	if old == nil {
		n.add(key, child)
		return
	}
	child.parent, child.key, child.index = n, key, old.index
	n.children[old.index] = child
}

// unknownVariables refuses what looks like a setting in the environment and
// is none: a misspelt one would be without effect, unnoticed.
func unknownVariables() (errs []error) {
	var known []string
	for _, name := range slices.Concat(AllSettingNames(), programSettings) {
		known = append(known, Variable(name))
	}
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, mcpool.EnvPrefix) && !slices.Contains(known, name) {
			errs = append(errs, fmt.Errorf("%s in the environment: unknown setting%s", name, didYouMean(name, known)))
		}
	}
	return errs
}
