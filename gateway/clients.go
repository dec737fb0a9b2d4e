package gateway

import (
	"cmp"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
)

// A ClientStatus is a client as the gateway knows it.
type ClientStatus struct {
	// ID is a label that tells clients apart, and nothing about their sessions: it
	// is another one in each process.
	ID string
	// Principal is on whose behalf it calls; "" for that of the pools.
	Principal string
	// Era is "legacy" or "modern"; "" for a client that has asked nothing yet.
	Era string
	// Transport is "http", "sse", "stdio", "joined" (a program that has joined by
	// [Join]) or "in process".
	Transport string
	// Name and Version are what the client calls itself, "" for nothing, cut off
	// at 64 characters. Nobody has checked them.
	Name, Version string
	// Server is that of the client's endpoint; "" for all servers.
	Server string
	// Since is when its session began; zero for a modern client over HTTP, which
	// has none.
	Since time.Time
	// CallsInFlight are its requests that are being answered.
	CallsInFlight int
}

// seenFor is how long a legacy client over HTTP is shown after its last
// request.
const seenFor = time.Hour

// Clients returns the clients that the gateway knows of, those with the oldest
// session first. Nothing is kept of a modern client over HTTP while it asks
// nothing: it is there as long as a request is being answered. A legacy one is
// for an hour after its last request, if no more than 1024 sessions were used
// since that one was first. The others are there as long as they are connected.
func (g *Gateway) Clients() []ClientStatus {
	clients := map[string]*ClientStatus{} // by ID
	g.sessions.each(func(id *readID) {
		_, bound, _ := strings.Cut(id.bound, "\x00")
		server, principal, _ := strings.Cut(bound, "\x00")
		c := &ClientStatus{
			ID: label(id.session.name), Principal: principal, Server: server,
			Era: "legacy", Transport: "http", Since: id.until.Add(-sessionLife),
		}
		c.introduce([]byte(id.session.info))
		clients[c.ID] = c
	})
	g.talks.each(func(t *talk) {
		s := t.session.Load()
		c := &ClientStatus{ID: label(s.name), Principal: t.principal, Server: t.endpoint.name, Transport: t.transport, Since: t.began}
		if s.protocol != "" {
			c.Era = "legacy"
		}
		c.introduce([]byte(s.info))
		clients[c.ID] = c
	})
	for _, by := range g.calls.authors() {
		id := label(by.session)
		var info []byte
		if by.era == modern {
			info, _ = jsonrpc.Get(by.meta, metaClientInfo)
		}
		if by.session == "" {
			id = label(by.endpoint.name + "\x00" + by.principal + "\x00" + string(info))
		}
		c := clients[id]
		if c == nil {
			c = &ClientStatus{ID: id, Principal: by.principal, Server: by.endpoint.name, Transport: "http"}
			clients[id] = c
		}
		if c.Era == "" {
			c.Era = "legacy"
			if by.era == modern {
				c.Era = "modern"
				c.introduce(info)
			}
		}
		c.CallsInFlight++
	}
	list := make([]ClientStatus, 0, len(clients))
	for _, c := range clients {
		list = append(list, *c)
	}
	slices.SortFunc(list, func(a, b ClientStatus) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.ID, b.ID))
	})
	return list
}

// introduce takes in what a client says of itself.
func (c *ClientStatus) introduce(info []byte) {
	if !isObject(info) {
		return
	}
	brief := func(member string) string {
		s := []rune(jsonrpc.GetString(info, member))
		return string(s[:min(len(s), 64)])
	}
	c.Name, c.Version = brief("name"), brief("version")
}

// label tells texts apart and says nothing of them.
func label(text string) string { return fmt.Sprintf("%016x", maphash.String(labels, text)) }

var labels = maphash.MakeSeed()

// An author is who has made a request.
type author struct {
	endpoint  *endpoint
	era       era
	principal string
	session   string // "" for none
	meta      []byte // params._meta
}

func (q *request) author() author {
	return author{q.endpoint, q.era, q.caller.Principal, q.caller.Session, q.meta}
}

// authors are those of the requests that are being answered.
func (c *calls) authors() []author {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]author, 0, len(c.running))
	for this := range c.running {
		all = append(all, this.by)
	}
	return all
}

// each visits the ids of the sessions that were used lately and have not ended.
func (s *sessions) each(visit func(*readID)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range s.read.of {
		if _, ended := s.ended.get(id.session.name); !ended && time.Since(id.seen) < seenFor {
			visit(id)
		}
	}
}

// talks are those that go on.
type talks struct {
	mu sync.Mutex // guards of
	of map[*talk]struct{}
}

func (ts *talks) enter(t *talk) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.of[t] = struct{}{}
}

func (ts *talks) leave(t *talk) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	delete(ts.of, t)
}

func (ts *talks) each(visit func(*talk)) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for t := range ts.of {
		visit(t)
	}
}
