package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	stdlog "log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"runtime/pprof"
	"sync"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/gateway"
	"github.com/mcpool-dev/mcpool/internal/serving"
	"github.com/mcpool-dev/mcpool/internal/transport"
)

// A hop stands between a client and the peer, in a process of its own that
// says how much it has used: our gateway, or the proxy of the standard library.
// The proxy breaks off some answers: net/http closes the body of a request when
// its response begins, and the proxy's transport takes it ill if it has not seen
// the end of that body. So there is a second one that reads requests first.
const (
	gatewayHop  = "gateway"
	proxyHop    = "httputil.ReverseProxy"
	bufferedHop = "httputil.ReverseProxy, requests read first"
)

const (
	upstreamEnv = "MCPOOL_BENCH_UPSTREAM" // the URL of the peer
	// profileEnv is a folder for a CPU and a heap profile of each hop; none are
	// written without.
	profileEnv = "MCPOOL_BENCH_PROFILE"
)

// serveHop serves until its input ends. For each line of it, it writes what it
// has used so far.
func serveHop(kind, upstream string) {
	defer profile(kind)()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	var handler http.Handler
	stop, serve := func() {}, serveWell
	switch kind {
	case gatewayHop:
		handler, stop = newGateway(upstream)
		serve = serveAsMcpool
	case proxyHop:
		handler = newProxy(upstream)
	case bufferedHop:
		handler = buffered(newProxy(upstream))
	}
	fmt.Println("http://" + listener.Addr().String())
	go serve(listener, handler) // ends with the process
	for asked := bufio.NewScanner(os.Stdin); asked.Scan(); {
		must(json.NewEncoder(os.Stdout).Encode(usageOfThis()))
	}
	stop()
}

// profile writes profiles of this process until the func it returns is called.
func profile(kind string) (stop func()) {
	folder := os.Getenv(profileEnv)
	if folder == "" {
		return func() {}
	}
	cpu, err := os.Create(folder + "/" + kind + ".cpu")
	must(err)
	must(pprof.StartCPUProfile(cpu))
	return func() {
		pprof.StopCPUProfile()
		must(cpu.Close())
		heap, err := os.Create(folder + "/" + kind + ".heap")
		must(err)
		must(pprof.Lookup("allocs").WriteTo(heap, 0))
		must(heap.Close())
	}
}

// peerName is the name of a peer in the paths of the gateway.
func peerName(era transport.Era, answers string) string { return era.String() + "-" + answers }

// callTimeout is config.DefaultCallTimeout, whose package would have this module
// depend on the parsers of configuration files.
const callTimeout = 300 * time.Second

// newGateway is our gateway with its default settings, as cmd/mcpool makes it.
func newGateway(upstream string) (http.Handler, func()) {
	var fronts []gateway.Server
	var pools []*mcpool.Pool
	for _, era := range []transport.Era{transport.Legacy, transport.Modern} {
		for _, answers := range []string{"json", "sse"} {
			name, settings := peerName(era, answers), mcpool.DefaultConfig()
			settings.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
			pool, err := mcpool.New(mcpool.Server{Name: name, URL: upstream + peerPath(era, answers)}, &settings)
			must(err)
			pools = append(pools, pool)
			fronts = append(fronts, gateway.Server{
				Name: name, Handler: pool, CallTimeout: callTimeout,
				EndSession: pool.EndSession,
			})
		}
	}
	g, err := gateway.New(fronts, nil)
	must(err)
	others := http.NotFoundHandler()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if gateway.Serves(r.URL.Path) {
				g.ServeHTTP(w, r)
			} else {
				others.ServeHTTP(w, r)
			}
		}), func() {
			must(g.Close(context.Background()))
			for _, pool := range pools {
				must(pool.Close(context.Background()))
			}
		}
}

// serveAsMcpool serves as cmd/mcpool does, with the bounds and the garbage
// collector that it has.
func serveAsMcpool(listener net.Listener, handler http.Handler) error {
	serving.CollectLess()
	return serving.New(handler, slog.New(slog.DiscardHandler)).Serve(listener)
}

// serveWell serves as a program does that has read about net/http.
func serveWell(listener net.Listener, handler http.Handler) error {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
	return server.Serve(listener)
}

// newProxy is the proxy that the standard library has, as good as it gets: with
// the settings of our own transport (internal/transport), and buffers that are
// used again.
func newProxy(upstream string) http.Handler {
	to, err := url.Parse(upstream)
	must(err)
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) },
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
			ForceAttemptHTTP2:   true,
			TLSHandshakeTimeout: 10 * time.Second,
			MaxIdleConnsPerHost: 256,
			IdleConnTimeout:     45 * time.Second,
			HTTP2:               &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 15 * time.Second},
		},
		BufferPool: new(buffers),
		ErrorLog:   stdlog.New(io.Discard, "", 0), // of answers that break off
	}
}

// buffered reads requests before they are handled.
func buffered(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := make([]byte, r.ContentLength)
		_, err := io.ReadFull(r.Body, body)
		must(err)
		r.Body = io.NopCloser(bytes.NewReader(body))
		h.ServeHTTP(w, r)
	})
}

// buffers is an httputil.BufferPool.
type buffers struct{ pool sync.Pool }

func (b *buffers) Get() []byte {
	if buffer, ok := b.pool.Get().(*[]byte); ok {
		return *buffer
	}
	return make([]byte, 32<<10) // what the proxy makes for itself
}

func (b *buffers) Put(buffer []byte) { b.pool.Put(&buffer) }

// A hop is such a process, as seen from outside.
type hop struct {
	*process
	url string
}

func startHop(kind, upstream string) *hop {
	p := startProcess(peerEnv+"="+kind, upstreamEnv+"="+upstream)
	return &hop{p, p.said()}
}

// usage is what the hop has used so far.
func (h *hop) usage() usage {
	_, err := h.in.Write([]byte("\n"))
	must(err)
	var u usage
	must(json.Unmarshal([]byte(h.said()), &u))
	return u
}
