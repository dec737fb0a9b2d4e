package gateway

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"
)

// askAgain is how often it is asked whether those who have a stream open would be
// let in now.
const askAgain = 2 * time.Second

// errNotAdmitted ends the stream of who would not be let in any more.
var errNotAdmitted = errors.New("who has opened this would not be let in any more")

// An admission is a request whose answer lasts. It was let in once; but a key is
// taken out, a token expires, rights change.
type admission struct {
	request   *http.Request
	endpoint  string
	principal string
	end       context.CancelCauseFunc
}

// admissions are those there are.
type admissions struct {
	gateway *Gateway
	asks    bool // who calls; otherwise everybody is let in, always

	mu    sync.Mutex // guards what follows
	of    map[*admission]struct{}
	timer *time.Timer // of the next look; nil while there is nothing to look at
}

// hold returns a context that ends with ctx, or with errNotAdmitted soon after
// the request would be refused if it were made then. release has to be called.
func (as *admissions) hold(ctx context.Context, v *visit) (held context.Context, release func()) {
	if !as.asks {
		return ctx, func() {}
	}
	held, end := context.WithCancelCause(ctx)
	// To ask may need a context that does not end with the client's connection.
	a := &admission{v.r.WithContext(context.WithoutCancel(ctx)), v.endpoint.name, v.principal, end}
	as.mu.Lock()
	defer as.mu.Unlock()
	as.of[a] = struct{}{}
	if as.timer == nil {
		as.timer = time.AfterFunc(askAgain, as.look)
	}
	return held, func() {
		as.release(a)
		end(nil)
	}
}

func (as *admissions) release(a *admission) {
	as.mu.Lock()
	defer as.mu.Unlock()
	delete(as.of, a)
	if len(as.of) == 0 && as.timer != nil {
		as.timer.Stop()
		as.timer = nil
	}
}

// look ends what would be refused.
func (as *admissions) look() {
	as.mu.Lock()
	all := slices.Collect(maps.Keys(as.of))
	as.mu.Unlock()
	for _, a := range all {
		if as.gateway.refuses(a) {
			a.end(errNotAdmitted)
		}
	}
	as.mu.Lock()
	defer as.mu.Unlock()
	if as.timer != nil {
		as.timer.Reset(askAgain)
	}
}

// refuses reports whether a request would be refused now. That it cannot be told
// who makes it, as the issuer is away, is no refusal.
func (g *Gateway) refuses(a *admission) bool {
	principal, err := g.principal(a.request)
	if says := (*PrincipalError)(nil); errors.As(err, &says) && says.Status >= http.StatusInternalServerError {
		return false
	}
	if err != nil || principal != a.principal {
		return true
	}
	routes := g.now()
	return len(routes.at(a.endpoint).visibleTo(routes.rights(principal)).servers) == 0
}
