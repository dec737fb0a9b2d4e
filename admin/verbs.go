package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/mcpool-dev/mcpool"
)

const (
	// verbWait is how long pause and drain wait for calls where ?timeout_seconds=
	// does not say, and verbWaitMost what it may say.
	verbWait     = 30 * time.Second
	verbWaitMost = time.Hour
)

// done is the answer to a verb on pools.
type done struct {
	OK    bool       `json:"ok"`
	Pools []donePool `json:"pools"`
}

type donePool struct {
	Server string `json:"server"`
	Paused bool   `json:"paused"`
	// Connections are those that the verb is about: that Drain has closed, or
	// that Reset has closed or has told to close after their calls.
	Connections int `json:"connections"`
}

// each does something with the pools that a request names, all at once.
func (a *Admin) each(r *http.Request, do func(p *mcpool.Pool, answer *donePool) error) (any, error) {
	pools, err := a.named(r.PathValue("server"))
	if err != nil {
		return nil, err
	}
	answer := done{OK: true, Pools: make([]donePool, len(pools))}
	errs := make([]error, len(pools))
	var all sync.WaitGroup
	for i, p := range pools {
		all.Go(func() {
			answer.Pools[i].Server = p.Name()
			errs[i] = do(p, &answer.Pools[i])
			answer.Pools[i].Paused = p.Stats().Paused
		})
	}
	all.Wait()
	return answer, errors.Join(errs...)
}

// waiting is each, for what may have to wait for calls.
func (a *Admin) waiting(r *http.Request, hint string, do func(ctx context.Context, p *mcpool.Pool, answer *donePool) error) (any, error) {
	wait, err := seconds(r, "timeout_seconds", verbWait, verbWaitMost)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(r.Context(), wait, fmt.Errorf("waited for %v", wait))
	defer cancel()
	answer, err := a.each(r, func(p *mcpool.Pool, answer *donePool) error { return do(ctx, p, answer) })
	if known := (*apiError)(nil); err == nil || errors.As(err, &known) {
		return answer, err
	}
	status := http.StatusConflict
	if ctx.Err() != nil {
		status = http.StatusGatewayTimeout
	}
	if errors.Is(err, mcpool.ErrResumed) {
		hint = "somebody has resumed it: pause it again if it is to be paused"
	}
	return nil, &apiError{status, strings.ReplaceAll(err.Error(), "\n", "; "), hint}
}

func (a *Admin) pause(r *http.Request) (any, error) {
	return a.waiting(r, "it stays paused: pause again to go on waiting, or resume",
		func(ctx context.Context, p *mcpool.Pool, _ *donePool) error { return p.Pause(ctx) })
}

func (a *Admin) resume(r *http.Request) (any, error) {
	return a.each(r, func(p *mcpool.Pool, _ *donePool) error {
		p.Resume()
		return nil
	})
}

func (a *Admin) reset(r *http.Request) (any, error) {
	return a.each(r, func(p *mcpool.Pool, answer *donePool) error {
		answer.Connections = len(p.Conns())
		p.Reset()
		return nil
	})
}

func (a *Admin) drain(r *http.Request) (any, error) {
	return a.waiting(r, "no call goes to the old connections any more, and they close after their last: drain again to go on waiting",
		func(ctx context.Context, p *mcpool.Pool, answer *donePool) error {
			old := p.Conns()
			err := p.Drain(ctx)
			for _, c := range old {
				if now, _, found := p.Story(c.ID()); !found || now.State() == "closed" {
					answer.Connections++
				}
			}
			return err
		})
}

func (a *Admin) kill(r *http.Request) (any, error) {
	id := r.PathValue("id")
	for _, p := range a.Pools() {
		if cut, found := p.Kill(id); found {
			return struct {
				OK         bool   `json:"ok"`
				Connection string `json:"connection"`
				Calls      int    `json:"calls"` // that were in flight on it
			}{true, id, cut}, nil
		}
	}
	return nil, noConnection(id, "one that is closed cannot be killed")
}

func (a *Admin) reload(r *http.Request) (any, error) {
	if a.Reload == nil {
		return nil, &apiError{http.StatusNotImplemented, "this gateway cannot reload its configuration", "start it again to have it read the file"}
	}
	if err := a.Reload(r.Context()); err != nil {
		return nil, &apiError{http.StatusUnprocessableEntity, err.Error(), "nothing has changed: correct the configuration and reload again"}
	}
	return struct {
		OK bool `json:"ok"`
	}{true}, nil
}
