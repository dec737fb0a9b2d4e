package pagetest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

// A gateway is an mcpool serve in front of servers of this process.
type gateway struct {
	url string // without a path
	cmd *exec.Cmd
	out output
}

// output is what a program has written.
type output struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// A backend is an MCP server behind the gateway.
type backend struct {
	name   string
	server *mcptest.Server
	pool   map[string]any // the settings of its pool
	url    string         // in place of server
}

var mcpAt = regexp.MustCompile(`MCP +(http://[0-9.:]+)/mcp\n`)

// serve starts a gateway, which lives as long as the test.
func serve(t *testing.T, backends []backend, args ...string) *gateway {
	t.Helper()
	servers := map[string]any{}
	for _, b := range backends {
		if b.server != nil {
			s := httptest.NewServer(b.server)
			t.Cleanup(s.Close)
			b.url = s.URL
		}
		servers[b.name] = map[string]any{"url": b.url, "pool": b.pool}
	}
	file, err := json.Marshal(map[string]any{"mcpServers": servers})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "mcp.json")
	if err := os.WriteFile(config, file, 0o600); err != nil {
		t.Fatal(err)
	}
	g := &gateway{}
	g.cmd = exec.Command(program, append([]string{"serve", "--config", config, "--listen", "127.0.0.1:0"}, args...)...)
	g.cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_STATE_HOME="+dir)
	g.cmd.Dir = dir
	g.cmd.Stdout, g.cmd.Stderr = &g.out, &g.out
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.stop()
		if t.Failed() {
			text := g.out.String()
			t.Logf("the gateway wrote, at its end: %s", text[max(0, len(text)-3000):])
		}
	})
	eventually(t, "the gateway to say where it is", func() bool {
		found := mcpAt.FindStringSubmatch(g.out.String())
		if found != nil {
			g.url = found[1]
		}
		return found != nil
	})
	return g
}

// stop ends the gateway at once, once.
func (g *gateway) stop() {
	if g.cmd.ProcessState == nil {
		_ = g.cmd.Process.Signal(syscall.SIGKILL)
		_ = g.cmd.Wait()
	}
}

// eventually waits for what only a real program or browser can bring about.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for late := time.Now().Add(30 * time.Second); !done(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(late) {
			t.Fatalf("waited 30 s for %s", what)
		}
	}
}

// A load is clients that call a tool of a server through the gateway, again and
// again, until it is stopped.
type load struct {
	done, failed atomic.Int64
	mu           sync.Mutex // guards first
	first        error      // of those that failed
	stop         func()
}

// call starts so many clients, whose calls take so long.
func (g *gateway) call(t *testing.T, server string, clients int, takes time.Duration) *load {
	t.Helper()
	conf := mcpool.DefaultConfig()
	conf.MaxConnections = clients
	pool, err := mcpool.New(mcpool.Server{Name: server, URL: g.url + "/mcp/" + server}, &conf)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{}
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for ctx.Err() == nil {
				_, err := pool.CallTool(ctx, "sleep", map[string]any{"id": "load", "ms": takes.Milliseconds()})
				switch {
				case ctx.Err() != nil:
				case err != nil:
					l.failed.Add(1)
					l.mu.Lock()
					if l.first == nil {
						l.first = err
					}
					l.mu.Unlock()
				default:
					l.done.Add(1)
				}
			}
		})
	}
	l.stop = sync.OnceFunc(func() {
		cancel()
		all.Wait()
		_ = pool.Close(context.Background())
	})
	t.Cleanup(l.stop)
	return l
}

// unharmed fails the test if a call has failed.
func (l *load) unharmed(t *testing.T) {
	t.Helper()
	if n := l.failed.Load(); n > 0 {
		l.mu.Lock()
		defer l.mu.Unlock()
		t.Errorf("%d calls failed, the first with: %v", n, l.first)
	}
}

// many are backends that nobody answers for.
func many(n int) []backend {
	backends := make([]backend, n)
	for i := range backends {
		backends[i] = backend{name: fmt.Sprintf("server-%03d", i), url: "http://127.0.0.1:9/mcp", pool: map[string]any{"lazy_initialization": true}}
	}
	return backends
}
