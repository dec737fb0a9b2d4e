package mcpool

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Sharing says who shares a connection to a server. The zero Sharing is
// [SharePrincipal], and for a legacy server over stdio [ShareSession]: a
// process is where most servers that keep state keep it.
type Sharing string

const (
	// ShareAll lets every caller share: for servers that know neither users
	// nor conversations.
	ShareAll Sharing = "shared"
	// SharePrincipal lets all calls of one principal share. Two conversations
	// of one user then see the same session of the server.
	SharePrincipal Sharing = "principal"
	// ShareSession gives each session of a caller a connection of its own,
	// closed when the session ends and never handed on. A caller without a
	// session has one connection per principal, to itself during each call.
	ShareSession Sharing = "session"
)

// EnvPrefix is what the names of settings carry in the environment:
// min_connections is MCP_POOL_MIN_CONNECTIONS there.
const EnvPrefix = "MCP_POOL_"

// Config is how a pool keeps its connections. Make one with [DefaultConfig]
// or [ConfigFromEnv] and change what should differ: a zero field is a zero,
// not a default. [New] refuses a Config that makes no sense.
type Config struct {
	// MinConnections is how many ready connections a group keeps once it has
	// been used, for as long as it is in use. Default 1.
	MinConnections int
	// MaxConnections is the most connections in a group. While one is being
	// replaced at its age there is one more, so that no call waits for that.
	// Default 6.
	MaxConnections int
	// MaxConnectionsTotal is the most connections to the server, all groups
	// together. When it is reached, the least recently used idle connection of
	// another group is closed to make room; where none is idle, callers who
	// have no connection get the room of one in use, whose calls finish first.
	// Default 0: 64, or MaxConnections if that is more.
	MaxConnectionsTotal int
	// MaxConnectionsPerPrincipal is the most connections to the server for one
	// principal, whatever its groups. Default 0: no bound of its own.
	MaxConnectionsPerPrincipal int
	// MaxWaiting is the most callers that wait for a slot, all groups
	// together; further ones fail with [ErrQueueFull], or those do that came
	// last for the principal with the most of them. Default 10,000; 0 for no
	// bound.
	MaxWaiting int
	// MaxWaitingPerPrincipal is the most callers that wait for one principal.
	// Default 0: no bound of its own.
	MaxWaitingPerPrincipal int
	// CallsPerConnection is how many calls may be in flight on one
	// connection, at most 65,535. Default 0: 8 over HTTP, 16 over stdio and in process, 1
	// under ShareSession. A modern HTTP server is one connection with the
	// room of MaxConnections.
	CallsPerConnection int
	// ConnectionTimeout is the longest wait for a connection, opening it and
	// a server's absence included. Default 35 s.
	ConnectionTimeout time.Duration
	// IdleTimeout closes a connection that was idle this long, the least
	// recently used first, down to MinConnections; a group unused this long
	// closes whole. Default 600 s; 0 never.
	IdleTimeout time.Duration
	// MaxConnectionAge replaces a connection at this age or up to a fifth
	// earlier, so that connections opened together are not replaced together.
	// The new one is open before the old one goes. A connection that belongs to a
	// session is not replaced. Default 7200 s; 0 never.
	MaxConnectionAge time.Duration
	// MaxConnectionCalls replaces a connection that has had so many calls, as
	// MaxConnectionAge does. Default 0: never.
	MaxConnectionCalls int
	// HealthCheckInterval is how often an idle connection is checked. One with
	// calls in flight from which nothing has come for this long, or for 30 s,
	// is checked, too. Default 300 s; 0 never.
	HealthCheckInterval time.Duration
	// LeakAfter has leases of [Pool.Acquire] that are held for longer be logged
	// as warnings, with where they were taken; of many, one in 256 is looked
	// at. Default 600 s; 0 never.
	LeakAfter time.Duration
	// RetryAttempts is how many times one call is sent in all; 1 means never
	// again. A call that may have run is sent again only if its tool says
	// readOnlyHint or idempotentHint, or its method only reads. Default 2.
	RetryAttempts int
	// LazyInitialization leaves all connections unopened until the first
	// call. Without it New starts opening MinConnections at once, in the
	// background. Default true.
	LazyInitialization bool
	// Sharing says who shares a connection. Default "": see [Sharing].
	Sharing Sharing
	// Principal is who calls are made for where [rpc.Caller] names nobody.
	// Default "local".
	Principal string
	// Weight is how many slots in a row a principal gets of those that come
	// free while callers of several principals wait; less than 1 is 1. Nil is 1
	// for all. It must be quick and safe for concurrent use.
	Weight func(principal string) int
	// Limits bound this pool and others together; nil for not. They cannot be
	// changed by [Pool.Reload].
	Limits *Limits
	// Hooks are told of what the pool does.
	Hooks Hooks
	// Logger receives what happens to connections; nil for nothing. Secrets
	// and payloads are never logged.
	Logger *slog.Logger
}

// DefaultConfig returns the documented defaults.
func DefaultConfig() Config {
	return Config{
		MinConnections:      1,
		MaxConnections:      6,
		ConnectionTimeout:   35 * time.Second,
		IdleTimeout:         600 * time.Second,
		MaxConnectionAge:    7200 * time.Second,
		HealthCheckInterval: 300 * time.Second,
		RetryAttempts:       2,
		LazyInitialization:  true,
		MaxWaiting:          10_000,
		LeakAfter:           600 * time.Second,
		Principal:           "local",
	}
}

// ConfigFromEnv returns the defaults changed by what the environment sets:
// MCP_POOL_MIN_CONNECTIONS, MCP_POOL_MAX_CONNECTIONS,
// MCP_POOL_CONNECTION_TIMEOUT, MCP_POOL_IDLE_TIMEOUT,
// MCP_POOL_MAX_CONNECTION_AGE, MCP_POOL_HEALTH_CHECK_INTERVAL,
// MCP_POOL_RETRY_ATTEMPTS, MCP_POOL_LAZY_INITIALIZATION, and the other names
// of [SettingNames] likewise. Times are seconds (35.0) or durations (35s).
// The error names each variable that makes no sense and what it may be.
func ConfigFromEnv() (Config, error) {
	c := DefaultConfig()
	var errs []error
	for _, name := range SettingNames() {
		variable := EnvPrefix + strings.ToUpper(name)
		if value, ok := os.LookupEnv(variable); ok && value != "" {
			if err := c.Set(name, value); err != nil {
				errs = append(errs, fmt.Errorf("%s=%q: %w", variable, value, err))
			}
		}
	}
	if len(errs) == 0 {
		if err := c.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("%s* in the environment: %w", EnvPrefix, err))
		}
	}
	return c, errors.Join(errs...)
}

// A setting is a field of Config that has a name in files, flags and the
// environment, where its value is a text.
type setting struct {
	name string
	set  func(*Config, string) error
	get  func(*Config) string
}

// settings are in the order in which they are documented.
var settings = []setting{
	count("min_connections", 0, func(c *Config) *int { return &c.MinConnections }),
	count("max_connections", 1, func(c *Config) *int { return &c.MaxConnections }),
	period("connection_timeout", time.Millisecond, func(c *Config) *time.Duration { return &c.ConnectionTimeout }),
	period("idle_timeout", 0, func(c *Config) *time.Duration { return &c.IdleTimeout }),
	period("max_connection_age", 0, func(c *Config) *time.Duration { return &c.MaxConnectionAge }),
	period("health_check_interval", 0, func(c *Config) *time.Duration { return &c.HealthCheckInterval }),
	count("retry_attempts", 1, func(c *Config) *int { return &c.RetryAttempts }),
	{"lazy_initialization", func(c *Config, value string) error {
		lazy, err := strconv.ParseBool(strings.ToLower(value))
		if err != nil {
			return errors.New("want true or false")
		}
		c.LazyInitialization = lazy
		return nil
	}, func(c *Config) string { return strconv.FormatBool(c.LazyInitialization) }},
	count("max_connections_total", 0, func(c *Config) *int { return &c.MaxConnectionsTotal }),
	count("max_connections_per_principal", 0, func(c *Config) *int { return &c.MaxConnectionsPerPrincipal }),
	count("max_connection_calls", 0, func(c *Config) *int { return &c.MaxConnectionCalls }),
	count("max_waiting", 0, func(c *Config) *int { return &c.MaxWaiting }),
	count("max_waiting_per_principal", 0, func(c *Config) *int { return &c.MaxWaitingPerPrincipal }),
	count("calls_per_connection", 0, func(c *Config) *int { return &c.CallsPerConnection }),
	{"sharing", func(c *Config, value string) error {
		c.Sharing = Sharing(value)
		return c.Sharing.validate()
	}, func(c *Config) string { return string(c.Sharing) }},
	period("leak_after", 0, func(c *Config) *time.Duration { return &c.LeakAfter }),
}

// SettingNames returns the names that [Config.Set] knows, in the order in
// which they are documented.
func SettingNames() []string {
	names := make([]string, len(settings))
	for i, s := range settings {
		names[i] = s.name
	}
	return names
}

// Set changes the setting of that name, as files, flags and the environment
// write it. The error says what the value may be.
func (c *Config) Set(name, value string) error {
	for _, s := range settings {
		if s.name == name {
			return s.set(c, value)
		}
	}
	return fmt.Errorf("no such setting; there are %s", strings.Join(SettingNames(), ", "))
}

// Get returns the setting of that name as [Config.Set] takes it; "" for a name
// that SettingNames does not have.
func (c *Config) Get(name string) string {
	for _, s := range settings {
		if s.name == name {
			return s.get(c)
		}
	}
	return ""
}

// maxCount bounds settings that count, far above any use.
const maxCount = 1_000_000

func count(name string, least int, field func(*Config) *int) setting {
	return setting{name, func(c *Config, value string) error {
		n, err := strconv.Atoi(value)
		if err != nil || n < least || n > maxCount {
			return fmt.Errorf("want a whole number from %d to %d", least, maxCount)
		}
		*field(c) = n
		return nil
	}, func(c *Config) string { return strconv.Itoa(*field(c)) }}
}

func period(name string, least time.Duration, field func(*Config) *time.Duration) setting {
	return setting{name, func(c *Config, value string) error {
		d, err := ParseDuration(value)
		if err != nil {
			return err
		}
		if d < least {
			return fmt.Errorf("want %v or more", cmp.Or(least, time.Duration(0)))
		}
		*field(c) = d
		return nil
	}, func(c *Config) string { return field(c).String() }}
}

// maxCalls bounds the calls on one connection, as package slots does.
const maxCalls = 65_535

// maxPeriod bounds times: a hundred years is a mistake, not a setting.
const maxPeriod = 100 * 365 * 24 * time.Hour

// ParseDuration reads a time as settings write it: seconds (35, 35.0) or a Go
// duration (35s, 1m30s). It refuses negative times and times over a century.
func ParseDuration(value string) (time.Duration, error) {
	d, err := time.ParseDuration(value)
	if seconds, ferr := strconv.ParseFloat(value, 64); ferr == nil && !math.IsNaN(seconds) {
		if math.Abs(seconds) > maxPeriod.Seconds() {
			seconds = math.Copysign(2*maxPeriod.Seconds(), seconds)
		}
		d, err = time.Duration(math.Round(seconds*1e9)), nil
	}
	if err != nil || d < 0 || d > maxPeriod {
		return 0, errors.New("want seconds such as 35.0 or a duration such as 35s, not negative")
	}
	return d, nil
}

func (s Sharing) validate() error {
	if s != "" && !slices.Contains([]Sharing{ShareAll, SharePrincipal, ShareSession}, s) {
		return fmt.Errorf("want %s, %s or %s", ShareAll, SharePrincipal, ShareSession)
	}
	return nil
}

// Validate says what makes no sense in c, all of it in one error. [New] does
// it too.
func (c *Config) Validate() error {
	var errs []error
	refuse := func(wrong bool, format string, args ...any) {
		if wrong {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	refuse(c.MinConnections < 0, "min_connections is %d: want 0 or more", c.MinConnections)
	refuse(c.MaxConnections < 1, "max_connections is %d: want 1 or more (start from DefaultConfig)", c.MaxConnections)
	refuse(c.MinConnections > c.MaxConnections, "min_connections %d is more than max_connections %d", c.MinConnections, c.MaxConnections)
	refuse(c.MaxConnectionsTotal < 0, "max_connections_total is %d: want 0 or more", c.MaxConnectionsTotal)
	refuse(c.MaxConnectionsTotal > 0 && c.MaxConnectionsTotal < c.MaxConnections,
		"max_connections_total %d is less than max_connections %d", c.MaxConnectionsTotal, c.MaxConnections)
	refuse(c.MaxConnectionsPerPrincipal < 0, "max_connections_per_principal is %d: want 0 or more", c.MaxConnectionsPerPrincipal)
	refuse(c.MaxConnectionCalls < 0, "max_connection_calls is %d: want 0 or more", c.MaxConnectionCalls)
	refuse(c.MaxWaiting < 0, "max_waiting is %d: want 0 or more", c.MaxWaiting)
	refuse(c.MaxWaitingPerPrincipal < 0, "max_waiting_per_principal is %d: want 0 or more", c.MaxWaitingPerPrincipal)
	refuse(c.CallsPerConnection < 0, "calls_per_connection is %d: want 0 or more", c.CallsPerConnection)
	refuse(c.CallsPerConnection > maxCalls, "calls_per_connection is %d: want at most %d", c.CallsPerConnection, maxCalls)
	refuse(c.ConnectionTimeout <= 0, "connection_timeout is %v: want more than 0", c.ConnectionTimeout)
	for _, t := range []struct {
		name string
		d    time.Duration
	}{
		{"connection_timeout", c.ConnectionTimeout}, {"idle_timeout", c.IdleTimeout}, {"max_connection_age", c.MaxConnectionAge},
		{"health_check_interval", c.HealthCheckInterval}, {"leak_after", c.LeakAfter},
	} {
		refuse(t.d < 0, "%s is %v: want 0 or more", t.name, t.d)
		refuse(t.d > maxPeriod, "%s is %v: want at most %v", t.name, t.d, maxPeriod)
	}
	refuse(c.RetryAttempts < 1, "retry_attempts is %d: want 1 or more", c.RetryAttempts)
	refuse(c.Principal == "", "principal is empty: calls must be on somebody's behalf")
	if err := c.Sharing.validate(); err != nil {
		errs = append(errs, fmt.Errorf("sharing is %q: %w", c.Sharing, err))
	}
	return errors.Join(errs...)
}

// total is MaxConnectionsTotal with its default.
func (c *Config) total() int {
	return cmp.Or(c.MaxConnectionsTotal, max(64, c.MaxConnections))
}
