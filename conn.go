package mcpool

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/mcpool-dev/mcpool/internal/slots"
	"github.com/mcpool-dev/mcpool/internal/transport"
)

// link is a connection of a pool and what is known of it.
type link struct {
	id       uint64
	name     string
	account  *account // whose tokens its calls carry; nil but over HTTP
	conn     transport.Conn
	peer     transport.Peer
	opened   time.Time
	openTook time.Duration
	ended    func()      // to be called when it is closed
	known    *known      // about its server
	killed   atomic.Bool // by Kill
	story    story

	calls, errors atomic.Uint64
	inFlight      atomic.Int64
}

func newLink(id uint64, server string, account *account, conn transport.Conn, began time.Time) *link {
	now := time.Now()
	return &link{id: id, name: fmt.Sprintf("%s-%d", server, id), account: account, conn: conn, peer: conn.Peer(),
		opened: now, openTook: now.Sub(began)}
}

// Conn is one connection, as [Pool.Conns], [Pool.Story] or [Lease.Conn] found
// it. Its counters go on counting.
type Conn struct {
	*link
	group   group
	slots   int
	used    time.Time
	retired CloseReason // "" for not
	left    time.Time   // when it was retired
	closed  time.Time   // zero while it is open
}

func newConn(v slots.View[group, *link]) *Conn {
	return &Conn{link: v.Conn, group: v.Group, slots: v.Slots, used: v.Used, retired: CloseReason(v.Retired), left: v.Left}
}

// ID names the connection: the server's name and a number that no other
// connection of the pool ever has.
func (c *Conn) ID() string { return c.name }

// State is "ready" while calls may go to the connection, "retired" when it has
// left the pool and waits for its last call, and "closed" after that.
func (c *Conn) State() string {
	switch {
	case !c.closed.IsZero():
		return "closed"
	case c.retired != "":
		return "retired"
	}
	return "ready"
}

// Age is how long the connection has been open, or was.
func (c *Conn) Age() time.Duration {
	if !c.closed.IsZero() {
		return c.closed.Sub(c.opened)
	}
	return time.Since(c.opened)
}

// LastUse is when the last call on the connection ended; now, as long as one is
// in flight.
func (c *Conn) LastUse() time.Time { return c.used }

// OpenTook is how long it took to open the connection.
func (c *Conn) OpenTook() time.Duration { return c.openTook }

// Calls is the number of calls that were sent on the connection.
func (c *Conn) Calls() uint64 { return c.calls.Load() }

// Errors is how many of Calls got no answer, or an error of the protocol.
func (c *Conn) Errors() uint64 { return c.errors.Load() }

// CallsInFlight is the number of calls that have not been answered.
func (c *Conn) CallsInFlight() int { return int(c.inFlight.Load()) }

// Slots is how many calls may be in flight at once.
func (c *Conn) Slots() int { return c.slots }

// ServerName is what the server calls itself; empty if it does not say.
func (c *Conn) ServerName() string { return c.peer.Name }

// ServerVersion is the version that the server says it has.
func (c *Conn) ServerVersion() string { return c.peer.Version }

// ProtocolVersion is the MCP version spoken; empty in process.
func (c *Conn) ProtocolVersion() string { return c.peer.Protocol }

// Era is "legacy", "modern", or "in process".
func (c *Conn) Era() string {
	if c.peer.InProcess {
		return "in process"
	}
	return c.peer.Era.String()
}

// Group is a label that connections of one group have in common, in this
// process. It tells nothing about the principal, the session or the
// credentials.
func (c *Conn) Group() string { return c.group.label() }
