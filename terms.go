package mcpool

import (
	"fmt"
	"log/slog"
	"reflect"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/mcpool-dev/mcpool/internal/slots"
	"github.com/mcpool-dev/mcpool/internal/transport"
)

// terms are what a pool was told: the server and how to keep connections to
// it. They are never changed, but replaced as a whole.
type terms struct {
	edition  int // they replace those of a lower one
	server   Server
	config   Config
	endpoint *transport.Endpoint
	// known is what openings have found out about the server.
	known *known
	// links counts the openings and connections that the endpoint is used by.
	links *sync.WaitGroup
	// anyone is the key of the zero rpc.Caller in each era.
	anyone [transport.Modern + 1]atomic.Pointer[callersKey]
	// accounts are whose tokens calls carry; nil but over HTTP.
	accounts *accounts
	asks     *asks // of token sources: those of the pool, whatever its terms
}

// newTerms checks a server and its config. Where the server is that of old
// terms, its endpoint and what is known of it are kept.
func newTerms(server Server, config *Config, old *terms) (*terms, error) {
	t := &terms{server: server, config: DefaultConfig()}
	if config != nil {
		t.config = *config
	}
	if err := t.config.Validate(); err != nil {
		return nil, fmt.Errorf("server %s: %w", server.Name, err)
	}
	if t.config.Logger == nil {
		t.config.Logger = slog.New(slog.DiscardHandler)
	}
	t.asks = new(asks)
	if old != nil {
		t.asks, t.edition = old.asks, old.edition+1
	}
	if old != nil && server.same(old.server) {
		t.endpoint, t.known, t.links, t.accounts = old.endpoint, old.known, old.links, old.accounts
		return t, nil
	}
	var err error
	t.known, t.links = newKnown(), new(sync.WaitGroup)
	if t.endpoint, err = server.endpoint(&t.config, t.known); err != nil {
		return nil, err
	}
	if server.URL != "" {
		tokens, err := server.tokens()
		if err != nil {
			return nil, err
		}
		t.accounts = newAccounts(tokens, t.asks)
	}
	return t, nil
}

// same reports whether connections to s are as good as connections to other.
// Functions cannot be compared: a server with Tokens or a DialContext is
// another one.
func (s Server) same(other Server) bool {
	if !identical(s.RoundTripper, other.RoundTripper) || !identical(s.Handler, other.Handler) || !sameAuth(s.Auth, other.Auth) {
		return false
	}
	s.RoundTripper, other.RoundTripper, s.Handler, other.Handler = nil, nil, nil, nil
	s.Auth, other.Auth = nil, nil
	return reflect.DeepEqual(s, other)
}

// sameAuth reports whether two logins are one.
func sameAuth(a, b Auth) bool {
	one, isOAuth := a.(OAuth)
	other, isToo := b.(OAuth)
	if !isOAuth || !isToo {
		return identical(a, b)
	}
	if !identical(one.RoundTripper, other.RoundTripper) {
		return false
	}
	one.RoundTripper, other.RoundTripper = nil, nil
	return reflect.DeepEqual(one, other)
}

// identical reports whether two values of interface types are one.
func identical(a, b any) bool {
	return a == nil && b == nil || a != nil && reflect.ValueOf(a).Comparable() && a == b
}

// limit sets what of the settings the engine keeps to.
func (t *terms) limit(o *slots.Options[group, *link]) {
	o.Min = t.config.MinConnections
	o.Total = t.config.total()
	o.AccountTotal = t.config.MaxConnectionsPerPrincipal
	o.MaxOpening = t.maxOpening()
	o.MaxWaiting = t.config.MaxWaiting
	o.WaitingEach = t.config.MaxWaitingPerPrincipal
	o.MaxCalls = t.config.MaxConnectionCalls
	o.OpenTimeout = t.config.ConnectionTimeout
	o.IdleTimeout = t.config.IdleTimeout
	o.MaxAge = t.config.MaxConnectionAge
	o.CheckInterval = t.config.HealthCheckInterval
}

// maxOpening is how many connections may be opened at once while the server
// bears it. Child processes compete for this machine; a remote server is asked
// for as many as it takes to have 128 calls at once, and no fewer than 16:
// lower bounds turn an opening of 2 s into a wait of 10 s and more when the
// load rises to many times what it was, which TestStep shows.
func (t *terms) maxOpening() int {
	if t.server.Command != "" {
		return max(4, runtime.NumCPU())
	}
	return max(16, 128/t.callsPerConnection())
}

// Reload changes the settings of a pool, and the server if it is not the same
// any more: then all connections are replaced as they come free, as by
// [Pool.Reset]. No call is disturbed. Settings hold from now on, for the
// connections there are, too; only their age they keep. The name and the
// Limits cannot change, nor under Limits the kind of server. The error says what makes no sense, or is
// [ErrPoolClosed], and then nothing has changed.
func (p *Pool) Reload(server Server, config *Config) error {
	p.reload.Lock()
	defer p.reload.Unlock()
	old := p.terms.Load()
	if server.Name != p.name {
		return fmt.Errorf("server %s cannot become %s: make another pool", p.name, server.Name)
	}
	t, err := newTerms(server, config, old)
	if err != nil {
		return err
	}
	switch {
	case t.config.Limits != old.config.Limits:
		return fmt.Errorf("server %s: the Limits of a pool cannot change: make another pool", p.name)
	case t.config.Limits != nil && t.server.kind() != old.server.kind():
		return fmt.Errorf("server %s: under Limits a %s cannot become a %s: make another pool", p.name, old.server.kind(), t.server.kind())
	}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return ErrPoolClosed
	}
	p.terms.Store(t)
	if t.endpoint != old.endpoint {
		p.leaving.Go(old.leave)
	}
	p.mu.Unlock()
	p.slots.Change(t.limit, t.keyOf, t.slotsOf)
	if t.endpoint != old.endpoint || t.sharing() != old.sharing() || t.config.Principal != old.config.Principal {
		p.watches.part(p)
	}
	if t.endpoint != old.endpoint {
		p.slots.Reset()
	}
	return nil
}

// use returns the terms of now for an opening, which ends with links.Done if it
// fails, or else when its connection is closed.
func (p *Pool) use() *terms {
	p.mu.Lock() // so that nothing is added to links once they are waited for
	defer p.mu.Unlock()
	t := p.terms.Load()
	t.links.Add(1)
	return t
}

// leave gives up an endpoint when nothing uses it any more.
func (t *terms) leave() {
	t.links.Wait()
	t.endpoint.Close()
}
