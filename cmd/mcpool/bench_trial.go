package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpool-dev/mcpool"
)

const (
	benchReused = 5  // calls on what is open already; their median is shown
	benchFew    = 3  // calls at once
	benchMany   = 64 // calls at once, more than a pool has slots

	benchCallTimeout  = time.Minute // the wait for a connection included
	benchCloseTimeout = 5 * time.Second
)

// A trial measures one contender. It has a server of its own, which counts
// what this contender costs it.
type trial struct {
	contender contender
	server    *benchServer
	progress  *progress
	figures   *figures
	started   bool // and not closed
}

// step says what is measured next, unless ctx has ended.
func (t *trial) step(ctx context.Context, format string, args ...any) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	t.progress.say(t.figures.Name + ": " + fmt.Sprintf(format, args...))
	return nil
}

func (t *trial) start(ctx context.Context) error {
	if err := t.step(ctx, "start-up"); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, benchCallTimeout)
	defer cancel()
	start := time.Now()
	if err := t.contender.start(ctx, t.server.url); err != nil {
		return fmt.Errorf("%s: start-up: %w", t.figures.Name, err)
	}
	t.figures.StartUp = since(start)
	t.started = true
	return nil
}

// single starts the contender and measures the first call, reused calls, and a
// few at once.
func (t *trial) single(ctx context.Context) error {
	if err := t.start(ctx); err != nil {
		return err
	}
	if err := t.step(ctx, "first call"); err != nil {
		return err
	}
	if took, ok := t.call(ctx); ok {
		t.figures.FirstCall = took
	}
	if err := t.step(ctx, "%d calls, one after another", benchReused); err != nil {
		return err
	}
	var took []seconds
	before := len(t.server.callTimes())
	for range benchReused {
		if d, ok := t.call(ctx); ok {
			took = append(took, d)
		}
	}
	if len(took) > 0 {
		t.figures.Reused = median(took)
		t.figures.InServer = median(t.server.callTimes()[before:])
		t.figures.Overhead = t.figures.Reused - t.figures.InServer
	}
	return t.atOnce(ctx, benchFew)
}

// call makes one call. ok reports whether it got the right answer.
func (t *trial) call(ctx context.Context) (took seconds, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, benchCallTimeout)
	defer cancel()
	start := time.Now()
	result, err := t.contender.call(ctx)
	took = since(start)
	return took, t.figures.count(result, err)
}

// atOnce makes n calls at the same time.
func (t *trial) atOnce(ctx context.Context, n int) error {
	if err := t.step(ctx, "%d calls at once", n); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, benchCallTimeout)
	defer cancel()
	results, errs := make([]any, n), make([]error, n)
	opened := t.server.opened.Load()
	var calls sync.WaitGroup
	start := time.Now()
	for i := range n {
		calls.Go(func() { results[i], errs[i] = t.contender.call(ctx) })
	}
	calls.Wait()
	b := burst{Calls: n, Took: since(start), Opened: t.server.opened.Load() - opened}
	for i := range n {
		if t.figures.count(results[i], errs[i]) {
			b.Succeeded++
		}
	}
	t.figures.AtOnce = append(t.figures.AtOnce, b)
	return nil
}

// shutdown measures how long the contender takes to close what it has open.
func (t *trial) shutdown() error {
	t.started = false
	ctx, cancel := context.WithTimeout(context.Background(), benchCloseTimeout)
	defer cancel()
	start := time.Now()
	if err := t.contender.close(ctx); err != nil {
		return fmt.Errorf("%s: shutdown: %w", t.figures.Name, err)
	}
	t.figures.Shutdown = since(start)
	t.figures.Opened = t.server.opened.Load()
	t.figures.CallsPerConn = float64(t.figures.Calls) / float64(max(1, t.figures.Opened))
	return nil
}

// end closes what is still open, the server last.
func (t *trial) end() error {
	var err error
	if t.started {
		err = t.shutdown()
	}
	return errors.Join(err, t.server.close())
}

func since(start time.Time) seconds { return seconds(time.Since(start)) }

// median returns the middle one; there is at least one.
func median(d []seconds) seconds {
	return slices.Sorted(slices.Values(d))[len(d)/2]
}

// A contender is a way to call a remote server. call makes the call that is
// measured, any number of times at once, and returns the structured content of
// its result.
type contender interface {
	start(ctx context.Context, url string) error
	call(ctx context.Context) (any, error)
	close(ctx context.Context) error
}

// noPool opens a session for each call and closes it, which is part of what
// the call takes.
type noPool struct {
	client *mcp.Client
	url    string
	http   *http.Client
}

func (n *noPool) start(_ context.Context, url string) error {
	n.client, n.url, n.http = newSDKClient(), url, newHTTPClient()
	return nil
}

func (n *noPool) call(ctx context.Context) (any, error) {
	session, err := n.client.Connect(ctx, &mcp.StreamableClientTransport{Endpoint: n.url, HTTPClient: n.http}, nil)
	if err != nil {
		return nil, err
	}
	result, err := callSDK(ctx, session)
	return result, errors.Join(err, session.Close())
}

func (n *noPool) close(context.Context) error {
	n.http.CloseIdleConnections()
	return nil
}

// oneSession opens one session, and makes all calls on it.
type oneSession struct {
	session *mcp.ClientSession
	http    *http.Client
}

func (o *oneSession) start(ctx context.Context, url string) (err error) {
	o.http = newHTTPClient()
	o.session, err = newSDKClient().Connect(ctx, &mcp.StreamableClientTransport{Endpoint: url, HTTPClient: o.http}, nil)
	if err != nil {
		o.http.CloseIdleConnections()
	}
	return err
}

func (o *oneSession) call(ctx context.Context) (any, error) { return callSDK(ctx, o.session) }

func (o *oneSession) close(context.Context) error {
	defer o.http.CloseIdleConnections()
	return o.session.Close()
}

func newSDKClient() *mcp.Client {
	return mcp.NewClient(&mcp.Implementation{Name: "mcpool-bench", Version: version()}, nil)
}

// newHTTPClient returns a client that keeps the TCP connections of many calls
// at once. The usual two would slow a contender by something else than what is
// compared.
func newHTTPClient() *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 4 * benchMany
	transport.MaxIdleConns = 4 * benchMany
	return &http.Client{Transport: transport}
}

func callSDK(ctx context.Context, session *mcp.ClientSession) (any, error) {
	result, err := session.CallTool(ctx, &mcp.CallToolParams{Name: benchTool, Arguments: benchArguments})
	if err != nil {
		return nil, err
	}
	return result.StructuredContent, nil
}

// pooled calls through mcpool.
type pooled struct {
	config mcpool.Config
	pool   *mcpool.Pool
}

func (p *pooled) start(_ context.Context, url string) (err error) {
	p.pool, err = mcpool.New(mcpool.Server{Name: "bench", URL: url}, &p.config)
	return err
}

func (p *pooled) call(ctx context.Context) (any, error) {
	result, err := p.pool.CallTool(ctx, benchTool, benchArguments)
	if err != nil {
		return nil, err
	}
	return result.StructuredContent, nil
}

func (p *pooled) close(ctx context.Context) error { return p.pool.Close(ctx) }
