package gateway

import (
	"sync"
	"time"

	"github.com/mcpool-dev/mcpool/internal/seal"
	"github.com/mcpool-dev/mcpool/rpc"
)

// sessionLife is how long a session's id is good for.
const sessionLife = 7 * 24 * time.Hour

// maxEnded bounds how many ended sessions are remembered. When there are more,
// the one that ended first is forgotten: whoever still holds its id could then
// go on with it, as with a session that begins.
const maxEnded = 1 << 14

// maxRead bounds how many sessions are remembered by the ids that were read last:
// to open a seal is a fortieth of what a call costs.
const maxRead = 1 << 10

// maxClientInfo bounds, in bytes, what a client says of itself that is kept in
// the id of its session.
const maxClientInfo = 512

// A session is what a legacy client agreed on when it began.
type session struct {
	name     string // what it is called behind the gateway
	gateway  string // where it began; any other with the key goes on with it
	protocol string // the version agreed on
	caps     rpc.Capabilities
	info     string // clientInfo, an object; "" for none
}

// sessions makes and reads the ids of legacy sessions. An id is all that the
// gateway would otherwise have to remember, sealed, so that nothing is kept
// for a session that is idle, and any gateway with the same key can go on with
// it. Endpoint and principal are bound into the seal: an id opens only where,
// and for whom, it was given.
type sessions struct {
	sealer seal.Sealer

	mu    sync.Mutex // guards what follows
	ended recent[struct{}]
	read  recent[*readID] // by ids
}

// A readID is what an id that was read is good for.
type readID struct {
	session *session // not to be modified
	bound   string   // see sessionOf
	until   time.Time
	seen    time.Time // when it was read last
}

func newSessions(s seal.Sealer) *sessions {
	return &sessions{sealer: s, ended: newRecent[struct{}](maxEnded), read: newRecent[*readID](maxRead)}
}

// begin returns the id of a session, in visible ASCII (MCP 2025-11-25,
// basic/transports "Session Management").
func (s *sessions) begin(endpoint, principal string, this *session) string {
	return s.sealer.Seal(time.Now().Add(sessionLife), sessionOf(endpoint, principal),
		this.name, this.gateway, this.protocol, string(this.caps.JSON()), this.info)
}

func sessionOf(endpoint, principal string) string {
	return "session\x00" + endpoint + "\x00" + principal
}

// open returns the session that an id names, and false if the id is not one of
// this endpoint's and principal's, has expired, or has ended.
func (s *sessions) open(id, endpoint, principal string) (*session, bool) {
	bound := sessionOf(endpoint, principal)
	if this := s.recall(id, bound); this != nil {
		return this, !s.over(this.name)
	}
	said, until, ok := s.sealer.Open(id, bound, 5)
	if !ok {
		return nil, false
	}
	this := &session{name: said[0], gateway: said[1], protocol: said[2], info: said[4]}
	if said[3] != "{}" {
		this.caps = rpc.ReadCapabilities([]byte(said[3]))
	}
	s.remember(id, &readID{this, bound, until, time.Now()})
	return this, !s.over(this.name)
}

// recall returns the session of an id that was read before, nil for none.
func (s *sessions) recall(id, bound string) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	known, ok := s.read.get(id)
	if !ok || known.bound != bound {
		return nil
	}
	now := time.Now()
	if !now.Before(known.until) {
		return nil
	}
	known.seen = now
	return known.session
}

func (s *sessions) remember(id string, what *readID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.read.set(id, what)
}

// over reports whether a session has ended.
func (s *sessions) over(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ended := s.ended.get(name)
	return ended
}

// end makes the ids of a session good for nothing. It reports false if that
// was so before.
func (s *sessions) end(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, already := s.ended.get(name); already {
		return false
	}
	s.ended.set(name, struct{}{})
	return true
}

// endSession makes a session's id good for nothing and tells the servers of
// its endpoint.
func (g *Gateway) endSession(e *endpoint, who rpc.Caller) {
	if !g.sessions.end(who.Session) {
		return
	}
	g.standings.end(who.Session)
	for _, s := range e.servers {
		if s.EndSession != nil {
			s.EndSession(who)
		}
	}
}
