package mcpool

import (
	"cmp"
	"container/list"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/oauth2"

	"github.com/mcpool-dev/mcpool/internal/transport"
	"github.com/mcpool-dev/mcpool/rpc"
)

const (
	// accountsMost bounds how many accounts a pool remembers, and with them the
	// tokens it keeps: as many as there may be callers waiting by default. The
	// one unused longest is forgotten. Its token is asked for anew when it
	// comes back; its connections go on.
	accountsMost = 10_000
	// sourcesMost bounds, in the same way, the sources of one account: as a
	// rule there is one, and one more for each program that acts for it.
	sourcesMost = 8
	// asksMost bounds the goroutines that wait for token sources which hang,
	// for nothing can end them. It allows for one each of all accounts.
	asksMost = accountsMost
	// tokenTimeout bounds the wait for a token of a caller whose ctx does not.
	// It is that of a TCP connection in package transport: a token endpoint
	// which takes longer is away.
	tokenTimeout = 30 * time.Second
)

var (
	errNoToken     = errors.New("the token source gave no token")
	errBadToken    = errors.New("the token source gave a token that cannot be in a header")
	errSlowSource  = fmt.Errorf("the token source has not answered for %v", tokenTimeout)
	errManySources = fmt.Errorf("%d token sources have not answered yet", asksMost)
	errSharedToken = errors.New("a token of the caller's own is of no use where all callers share a session of the server: " +
		"set Sharing to principal or session")
)

// An owner is who has an account at the server.
type owner struct{ principal, revision string }

// accounts are those of a pool's callers at a server over HTTP. They are kept
// under the server as it was given: after a Reload with another, no token of
// the old one reaches the new one.
type accounts struct {
	tokens func(principal string) rpc.TokenSource // Server.Tokens or that of Server.Auth
	asks   *asks
	quiet  quiet // of any account

	mu    sync.Mutex // guards what follows
	known map[owner]*list.Element
	used  list.List // of *account, the last used first
}

func newAccounts(tokens func(string) rpc.TokenSource, asks *asks) *accounts {
	return &accounts{tokens: tokens, asks: asks, known: map[owner]*list.Element{}}
}

// owner is who has the account whose tokens the calls of a group carry: the
// principal of the pool itself where all callers share.
func (t *terms) owner(id group) owner {
	return owner{cmp.Or(id.principal, t.config.Principal), id.revision}
}

// account returns the account whose tokens the calls of a group carry. It is nil but
// over HTTP.
func (t *terms) account(id group) *account {
	if t.accounts == nil {
		return nil
	}
	return t.accounts.of(t.owner(id))
}

func (a *accounts) of(who owner) *account {
	a.mu.Lock()
	defer a.mu.Unlock()
	if e := a.known[who]; e != nil {
		a.used.MoveToFront(e)
		return e.Value.(*account)
	}
	if a.used.Len() >= accountsMost {
		oldest := a.used.Back()
		delete(a.known, a.used.Remove(oldest).(*account).owner)
	}
	made := &account{owner: who, tokens: a.tokens, asks: a.asks, all: &a.quiet}
	a.known[who] = a.used.PushFront(made)
	return made
}

// An account is a principal at a server, at one revision of its credentials.
type account struct {
	owner
	tokens func(principal string) rpc.TokenSource // nil for none
	asks   *asks
	quiet  quiet
	all    *quiet // that of any account

	mu      sync.Mutex    // guards what follows; no source is asked under it
	server  *credential   // of Server.Tokens; nil until it has one
	callers []*credential // of callers' own sources, the last used first
	newest  *credential   // of the last caller
}

// of returns the credential of a caller with that source of its own, or
// without one: nil is that of Server.Tokens. It returns nil for none.
func (a *account) of(source rpc.TokenSource) *credential {
	switch {
	case a == nil:
		return nil
	case source == nil:
		return a.ofServer()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	i := slices.IndexFunc(a.callers, func(c *credential) bool { return identical(c.source, source) })
	switch {
	case i >= 0:
		a.newest = a.callers[i]
		a.callers = slices.Delete(a.callers, i, i+1)
	default:
		a.newest = &credential{source: source, asks: a.asks}
		if !identical(source, source) { // it would not be found again
			return a.newest
		}
	}
	a.callers = slices.Insert(a.callers, 0, a.newest)
	if len(a.callers) > sourcesMost {
		a.callers = slices.Delete(a.callers, sourcesMost, len(a.callers))
	}
	return a.newest
}

func (a *account) ofServer() *credential {
	a.mu.Lock()
	made := a.server
	a.mu.Unlock()
	if made == nil && a.tokens != nil {
		if source := a.tokens(a.principal); source != nil {
			made = &credential{source: source, asks: a.asks}
		}
	}
	if made == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.server == nil {
		a.server = made
	}
	a.newest = a.server
	return a.server
}

// authorize is the transport.Authorize of what is sent for no call: openings,
// checks, the ends of sessions. They are of the newest caller's source, so that
// a session belongs to whom its calls come from.
func (a *account) authorize(ctx context.Context, refused *transport.Refusal) (*transport.Authorization, error) {
	if a == nil {
		return nil, nil
	}
	a.mu.Lock()
	c := a.newest
	a.mu.Unlock()
	if c == nil {
		c = a.ofServer()
	}
	if c == nil {
		return nil, nil
	}
	return c.authorize(ctx, refused)
}

// A credential is a token source and the last token it gave.
type credential struct {
	source rpc.TokenSource
	asks   *asks

	mu     sync.Mutex               // guards what follows; the source is not asked under it
	token  *oauth2.Token            // the last one; nil before it and after a refusal with 401
	held   *transport.Authorization // the same as it is sent
	bare   bool                     // nothing is sent until the server wants something
	met    *rpc.Challenge           // which the token was given for; nil for none
	asking *ask                     // nil if the source is not being asked
}

// An ask is one question to a token source, for all who want the answer.
type ask struct {
	met  *rpc.Challenge // nil if the question is for any token
	done chan struct{}  // closed when what follows is set
	got  *transport.Authorization
	err  error
}

// authorize is the transport.Authorize of the calls that c is for.
func (c *credential) authorize(ctx context.Context, refused *transport.Refusal) (*transport.Authorization, error) {
	return c.get(ctx, refused, nil)
}

// get returns the token there is, or asks the source for another if it expires
// soon or is the one that was refused. All who come meanwhile get that answer;
// those who come with an older refusal have it already. Only who is refused for
// want of scope has a question of his own, and leaves the token to the others.
// The wait ends with ctx, after tokenTimeout, and when closing is closed; that
// of the others goes on.
func (c *credential) get(ctx context.Context, refused *transport.Refusal, closing <-chan struct{}) (*transport.Authorization, error) {
	var timer *time.Timer
	for {
		a, held, err := c.next(refused)
		if a == nil {
			return held, err
		}
		if timer == nil {
			timer = time.NewTimer(tokenTimeout)
			defer timer.Stop()
		}
		select {
		case <-a.done:
			if a.answers(refused) {
				return a.got, a.err
			}
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-closing:
			return nil, ErrPoolClosed
		case <-timer.C:
			return nil, because(ErrCredentials, errSlowSource)
		}
	}
}

// next returns the question to wait for, or nil and what a request carries.
func (c *credential) next(refused *transport.Refusal) (*ask, *transport.Authorization, error) {
	told := false // whether the source wants to know why
	if refused != nil {
		_, told = c.source.(rpc.ChallengeSource)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case wantsScope(refused):
		if !told {
			return nil, refused.Carried, nil
		}
		if c.held != refused.Carried && sameChallenge(c.met, &refused.Challenge) {
			return nil, c.held, nil
		}
	case refused != nil && c.held == refused.Carried:
		c.token, c.held, c.bare = nil, nil, false
		fallthrough
	default:
		if c.bare || c.token.Valid() { // for 10 s or more, as package oauth2 has it
			return nil, c.held, nil
		}
	}
	if c.asking == nil {
		if err := c.asks.begin(); err != nil {
			return nil, nil, err
		}
		c.asking = &ask{done: make(chan struct{}), err: because(ErrCredentials, errNoToken)}
		if told {
			c.asking.met = &refused.Challenge
		}
		go c.ask(c.asking)
	}
	return c.asking, nil, nil
}

// answers reports whether the question was that of a request which was refused
// so, or not at all.
func (a *ask) answers(refused *transport.Refusal) bool {
	if wantsScope(refused) {
		return sameChallenge(a.met, &refused.Challenge)
	}
	return a.met == nil || a.met.Status != http.StatusForbidden
}

func wantsScope(refused *transport.Refusal) bool {
	return refused != nil && refused.Challenge.Status == http.StatusForbidden
}

// sameChallenge reports whether the server wants the same, whatever it was
// sent.
func sameChallenge(a, b *rpc.Challenge) bool {
	return a != nil && a.Status == b.Status && slices.Equal(a.WWWAuthenticate, b.WWWAuthenticate)
}

// ask asks the source. A token that it gives is used even if it expires soon:
// there is no better one.
func (c *credential) ask(a *ask) {
	defer c.asks.end()
	defer close(a.done)
	var token *oauth2.Token
	bare := false
	defer func() { // a source that ends the goroutine has given no token
		c.mu.Lock()
		defer c.mu.Unlock()
		c.asking = nil
		if a.err != nil {
			return
		}
		if c.held != nil && a.got != nil && c.held.Value == a.got.Value {
			a.got = c.held // which was not refused
		}
		c.token, c.held, c.bare, c.met = token, a.got, bare, a.met
	}()
	source, answers := c.source.(rpc.ChallengeSource)
	var err error
	if a.met != nil {
		token, err = source.TokenFor(*a.met)
	} else {
		token, err = c.source.Token()
	}
	switch {
	case err != nil:
		a.err = because(ErrCredentials, &sourceError{err})
	case token == nil && answers && a.met == nil:
		a.err, bare = nil, true
	case token == nil || token.AccessToken == "":
	default:
		a.got, a.err = authorization(token)
	}
}

// authorization returns a token as it is sent.
func authorization(token *oauth2.Token) (*transport.Authorization, error) {
	value := token.Type() + " " + token.AccessToken
	for i := range len(value) {
		if value[i] < ' ' || value[i] > '~' {
			return nil, because(ErrCredentials, errBadToken)
		}
	}
	return &transport.Authorization{Value: value}, nil
}

// A sourceError is what a token source failed with. The answer of a token
// endpoint, which package oauth2 quotes whole, is left out of its text: it may
// hold secrets, and is as long as the endpoint likes.
type sourceError struct{ err error }

func (e *sourceError) Error() string {
	var said *oauth2.RetrieveError
	var ours *grantError
	switch {
	case errors.As(e.err, &ours):
		return ours.Error()
	case !errors.As(e.err, &said):
		return fmt.Sprintf("the token source failed: %v", e.err)
	case said.ErrorCode != "":
		return fmt.Sprintf("the token endpoint said %.50q, %.200q", said.ErrorCode, said.ErrorDescription)
	case said.Response != nil:
		return fmt.Sprintf("the token endpoint answered %.50s", said.Response.Status)
	}
	return "the token endpoint gave no token"
}

func (e *sourceError) Unwrap() error { return e.err }

// prepare sees to it that a caller has a token before it takes a slot or has a
// connection opened: a source that is slow or fails keeps nobody else waiting,
// and costs no connection. It returns the credential of the caller's own
// source, nil if it has none.
func (p *Pool) prepare(ctx context.Context, t *terms, who *rpc.Caller) (own *credential, err error) {
	if t.accounts == nil || who.Token == nil && t.accounts.tokens == nil {
		return nil, nil
	}
	if who.Token != nil && t.sharing() == ShareAll {
		return nil, because(ErrCredentials, errSharedToken)
	}
	c := t.account(t.group(who)).of(who.Token)
	if c == nil {
		return nil, nil
	}
	if who.Token != nil {
		own = c
	}
	_, err = c.get(ctx, nil, p.life.Done())
	return own, err
}

// authorizer returns how a call on the link gets its Authorization: from its
// caller's own source or, where that is nil, from the server's, which is that
// of the server the link was opened to.
func (l *link) authorizer(own *credential) transport.Authorize {
	if own == nil {
		own = l.account.of(nil)
	}
	if own == nil {
		return nil
	}
	return own.authorize
}

// withoutToken turns the failure of a call that was not sent for want of a
// token into the reason alone: the connection has no part in it.
func withoutToken(err error) error {
	var failure *transport.Failure
	if errors.As(err, &failure) && failure.Fate == transport.NotSent && errors.Is(failure.Err, ErrCredentials) {
		return failure.Err
	}
	return err
}

// asks counts the goroutines that ask token sources. The zero asks has none.
type asks struct {
	mu     sync.Mutex // guards what follows
	n      int
	closed bool
	over   chan struct{} // closed when closed and n is 0
}

func (a *asks) begin() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.closed:
		return ErrPoolClosed
	case a.n >= asksMost:
		return because(ErrCredentials, errManySources)
	}
	a.n++
	return nil
}

func (a *asks) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.n--; a.closed && a.n == 0 {
		close(a.over)
	}
}

// close lets no source be asked any more and waits until none is. The error
// says how many still are when ctx ends.
func (a *asks) close(ctx context.Context) error {
	a.mu.Lock()
	if !a.closed {
		a.closed, a.over = true, make(chan struct{})
		if a.n == 0 {
			close(a.over)
		}
	}
	a.mu.Unlock()
	select {
	case <-a.over:
		return nil
	case <-ctx.Done():
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.n == 0 {
		return nil
	}
	return fmt.Errorf("%d token sources have not answered: %w", a.n, context.Cause(ctx))
}
