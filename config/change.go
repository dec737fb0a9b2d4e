package config

import (
	"maps"
	"reflect"
	"slices"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/dbserver"
)

// A Change is what a configuration has made of a server of an earlier one.
type Change int8

const (
	// Unchanged is a server of which all is as it was.
	Unchanged Change = iota
	// Settled is one that is reached as before, with other settings: its
	// connections can stay.
	Settled
	// Replaced is one that is reached in another way, or whose databases are
	// others: its connections are of no use.
	Replaced
)

// ChangedFrom returns what s is in comparison with a server of the same name in
// a configuration that was read before. What files have that are read when they
// are needed, such as tokens, passwords and certificates, is not looked at.
func (s *Server) ChangedFrom(old *Server) Change {
	switch {
	case !reflect.DeepEqual(s.Server, old.Server), !sameDatabases(s, old), !sameLimits(s.Pool.Limits, old.Pool.Limits):
		return Replaced
	case s.CallTimeout != old.CallTimeout, s.MaxCalls != old.MaxCalls,
		!slices.Equal(s.Allow, old.Allow), !slices.Equal(s.Deny, old.Deny), !samePool(s.Pool, old.Pool):
		return Settled
	}
	return Unchanged
}

func samePool(a, b mcpool.Config) bool {
	a.Limits, b.Limits = nil, nil
	return reflect.DeepEqual(a, b)
}

// sameLimits reports whether two limits are the same. Pools under new ones are
// other pools.
func sameLimits(a, b *mcpool.Limits) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.MaxConnections == b.MaxConnections && a.MaxProcesses == b.MaxProcesses && a.MaxWaiting == b.MaxWaiting
}

// KeepLimits has the pools of c be bounded together with those of old, an earlier
// configuration, if the limits are the same. Else ChangedFrom says of each server
// that it is replaced.
func (c *Config) KeepLimits(old *Config) {
	if len(c.Servers) == 0 || len(old.Servers) == 0 {
		return
	}
	if limits := old.Servers[0].Pool.Limits; sameLimits(c.Servers[0].Pool.Limits, limits) {
		for i := range c.Servers {
			c.Servers[i].Pool.Limits = limits
		}
	}
}

func sameDatabases(a, b *Server) bool {
	if a.Databases == nil || b.Databases == nil {
		return a.Databases == b.Databases
	}
	return maps.Equal(a.passwordFiles, b.passwordFiles) && reflect.DeepEqual(plain(a.Databases), plain(b.Databases))
}

// SameDatabases returns the names of the databases of s that are as they are in
// a server that was read before, for [dbserver.Server.Next].
func (s *Server) SameDatabases(old *Server) []string {
	if s.Databases == nil || old.Databases == nil || s.Databases.MaxCallsPerPrincipal != old.Databases.MaxCallsPerPrincipal {
		return nil
	}
	var same []string
	before := plain(old.Databases).Databases
	for _, d := range plain(s.Databases).Databases {
		if s.passwordFiles[d.Name] == old.passwordFiles[d.Name] &&
			slices.ContainsFunc(before, func(other dbserver.Database) bool { return reflect.DeepEqual(d, other) }) {
			same = append(same, d.Name)
		}
	}
	return same
}

// plain returns a copy of options without functions, which are never equal.
func plain(o *dbserver.Options) dbserver.Options {
	c := *o
	c.Databases = slices.Clone(o.Databases)
	for i := range c.Databases {
		c.Databases[i].Password = nil
	}
	return c
}
