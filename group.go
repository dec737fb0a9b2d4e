package mcpool

import (
	"cmp"
	"fmt"
	"hash/maphash"

	"github.com/mcpool-dev/mcpool/internal/slots"
	"github.com/mcpool-dev/mcpool/internal/transport"
	"github.com/mcpool-dev/mcpool/rpc"
)

// group is who shares connections with whom. Equal groups share; there is no
// digest in between that could make two principals equal.
type group struct {
	principal string // "" under ShareAll
	session   string // only under ShareSession
	revision  string // of the principal's credentials; "" under ShareAll
	spare     bool   // its connections are for sessions to come
	caps      rpc.Capabilities
}

// label tells groups apart, and nothing about the principal or the session: it
// is another one in each process.
func (g group) label() string { return fmt.Sprintf("%016x", maphash.Comparable(labels, g)) }

var labels = maphash.MakeSeed()

// sharing is Config.Sharing with its default, which depends on the server.
func (t *terms) sharing() Sharing {
	switch {
	case t.server.Handler != nil:
		return ShareAll // no session, no credentials: nothing to keep apart
	case t.config.Sharing != "":
		return t.config.Sharing
	case t.server.Command != "" && t.eraNow() != transport.Modern:
		return ShareSession
	}
	return SharePrincipal
}

// callsPerConnection is Config.CallsPerConnection with its default.
func (t *terms) callsPerConnection() int {
	switch {
	case t.config.CallsPerConnection > 0:
		return t.config.CallsPerConnection
	case t.sharing() == ShareSession:
		return 1
	case t.server.URL != "":
		return 8
	}
	return 16
}

func (t *terms) group(who *rpc.Caller) group {
	id := group{caps: who.Capabilities}
	if t.server.Handler != nil || t.eraNow() == transport.Modern {
		id.caps = rpc.Capabilities{} // declared per call there, or not at all
	}
	switch t.sharing() {
	case ShareSession:
		id.session = who.Session
		fallthrough
	case SharePrincipal:
		id.principal, id.revision = t.principal(who), who.Revision
	}
	return id
}

// principal is who a call is made for.
func (t *terms) principal(who *rpc.Caller) string {
	return cmp.Or(who.Principal, t.config.Principal)
}

// callersKey is the group of a caller, and whether the caller has a connection
// to itself during each call.
type callersKey struct {
	slots.Key[group]
	whole bool
}

func (t *terms) key(who *rpc.Caller) (k callersKey) {
	k.Key = t.keyOf(t.group(who))
	k.whole = t.sharing() == ShareSession && !k.Owned
	return k
}

// isAnyone reports whether who is the zero Caller.
func isAnyone(who *rpc.Caller) bool {
	return who.Principal == "" && who.Session == "" && who.Revision == "" && who.Token == nil &&
		who.Capabilities == rpc.Capabilities{}
}

// anyonesKey is the key of the zero Caller, which is most callers': it is made
// once for each era.
func (t *terms) anyonesKey() *callersKey {
	era := t.eraNow()
	k := t.anyone[era].Load()
	if k == nil {
		made := t.key(&rpc.Caller{})
		k = &made
		t.anyone[era].Store(k)
	}
	return k
}

// keyOf says what a group may become.
func (t *terms) keyOf(id group) slots.Key[group] {
	key := slots.Key[group]{ID: id, Max: t.config.MaxConnections, Slots: t.callsPerConnection(), Account: id.principal, Edition: t.edition}
	switch {
	case t.server.Handler != nil:
		key.Max = 1
	case t.sharing() == ShareSession:
		key.Max = 1
		if id.spare {
			key.Max = max(1, t.config.MinConnections)
		}
		if key.Owned = id.session != ""; key.Owned && t.config.MinConnections > 0 {
			key.Spare = group{principal: id.principal, revision: id.revision, spare: true, caps: id.caps}
		}
	case t.server.URL != "" && t.eraNow() == transport.Modern:
		key.Slots *= key.Max
		key.Max = 1
	}
	return key
}

// slotsOf is how many calls may be in flight on a connection.
func (t *terms) slotsOf(l *link) int {
	n := t.callsPerConnection()
	if !l.peer.InProcess && !l.peer.Stdio && l.peer.Era == transport.Modern && t.sharing() != ShareSession {
		n *= t.config.MaxConnections // see openLink
	}
	return n
}

func (t *terms) weight(principal string) int {
	if t.config.Weight == nil {
		return 1
	}
	return t.config.Weight(principal)
}
