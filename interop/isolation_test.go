package interop

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/gateway"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// everythingSite is the server that keeps all kinds of state in its sessions, over
// HTTP.
func everythingSite(t *testing.T) *site {
	for i := range servers {
		if servers[i].name == "everything-http" {
			return settle(t, &servers[i])
		}
	}
	panic("there is no everything-http")
}

// serve serves a gateway of the server, with a sharing, and returns where.
func (at *site) serve(t *testing.T, sharing mcpool.Sharing) (url string, pool *mcpool.Pool) {
	t.Helper()
	config := mcpool.DefaultConfig()
	config.Sharing, config.MaxConnections, config.MinConnections, config.ConnectionTimeout = sharing, 1, 0, patience
	pool, err := mcpool.New(at.reach(t.Name()), &config)
	if err != nil {
		t.Fatal(err)
	}
	g, err := gateway.New([]gateway.Server{{Name: "everything", Handler: pool, EndSession: pool.EndSession}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(g)
	t.Cleanup(func() {
		_ = g.Close(context.Background())
		front.CloseClientConnections()
		front.Close()
		_ = pool.Close(context.Background())
	})
	return front.URL + "/mcp", pool
}

// A guest is a client of the official SDK.
type guest struct {
	*mcp.ClientSession
	t       *testing.T
	updated chan string // the URIs of resources of which it was told
}

// visit connects a client with capabilities.
func visit(t *testing.T, url, version string, caps *mcp.ClientCapabilities) *guest {
	t.Helper()
	g := &guest{t: t, updated: make(chan string, 100)}
	client := mcp.NewClient(&mcp.Implementation{Name: "guest", Version: "1"}, &mcp.ClientOptions{
		Capabilities: caps,
		ResourceUpdatedHandler: func(_ context.Context, r *mcp.ResourceUpdatedNotificationRequest) {
			g.updated <- r.Params.URI
		},
	})
	carrier := &http.Transport{}
	var err error
	g.ClientSession, err = client.Connect(t.Context(),
		&mcp.StreamableClientTransport{Endpoint: url, HTTPClient: &http.Client{Transport: carrier}},
		&mcp.ClientSessionOptions{ProtocolVersion: version})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = g.Close()
		carrier.CloseIdleConnections()
	})
	return g
}

// call calls a tool and returns the text of its answer.
func (g *guest) call(tool string, arguments map[string]any) string {
	g.t.Helper()
	result, err := g.CallTool(g.t.Context(), &mcp.CallToolParams{Name: tool, Arguments: arguments})
	if err != nil {
		g.t.Fatalf("%s: %v", tool, err)
	}
	var text strings.Builder
	for _, content := range result.Content {
		switch content := content.(type) {
		case *mcp.TextContent:
			text.WriteString(content.Text)
		case *mcp.ResourceLink:
			text.WriteString(content.URI)
		}
	}
	return text.String()
}

// tools are the names of the tools that are listed.
func (g *guest) tools() []string {
	g.t.Helper()
	var names []string
	for tool, err := range g.Tools(g.t.Context(), nil) {
		if err != nil {
			g.t.Fatal(err)
		}
		names = append(names, tool.Name)
	}
	slices.Sort(names)
	return names
}

// TestToolsAreThoseOfTheirCapabilities has clients that declare different
// capabilities, of both eras, list the tools of one server at one gateway where
// everybody shares: each is shown what the server would show it alone.
func TestToolsAreThoseOfTheirCapabilities(t *testing.T) {
	at := everythingSite(t)
	url, pool := at.serve(t, mcpool.ShareAll)
	//lint:ignore SA1019 clients declare what is deprecated as well
	roots, sampling := &mcp.RootCapabilities{}, &mcp.SamplingCapabilities{}
	elicitation := &mcp.ElicitationCapabilities{}
	clients := map[string]*mcp.ClientCapabilities{
		"none":        {},
		"roots":       {RootsV2: roots},
		"elicitation": {Elicitation: elicitation},
		"all":         {RootsV2: roots, Elicitation: elicitation, Sampling: sampling},
	}
	counts := map[string]int{"none": 13, "roots": 14, "elicitation": 14, "all": 16}
	for name, caps := range clients {
		want := visit(t, at.endpoint(), legacy, caps).tools()
		if len(want) != counts[name] {
			t.Errorf("%s: the server lists %d tools: %v", name, len(want), want)
		}
		for _, version := range []string{legacy, modern} {
			if got := visit(t, url, version, caps).tools(); !slices.Equal(got, want) {
				t.Errorf("%s, %s: listed %v, want %v", name, version, got, want)
			}
		}
	}
	if n := pool.Stats().Opened; n != uint64(len(clients)) {
		t.Errorf("%d sessions were opened for %d sets of capabilities", n, len(clients))
	}
}

// TestTogglesAndResourcesOfASession has two clients toggle what the server does
// for their session, subscribe, and leave a resource there. That is each
// client's alone under session sharing, and crosses under any other, which
// nobody but the server could prevent.
func TestTogglesAndResourcesOfASession(t *testing.T) {
	at := everythingSite(t)
	for _, sharing := range []mcpool.Sharing{mcpool.ShareSession, mcpool.SharePrincipal} {
		apart := sharing == mcpool.ShareSession
		t.Run(string(sharing), func(t *testing.T) {
			url, _ := at.serve(t, sharing)
			one, other := visit(t, url, legacy, &mcp.ClientCapabilities{}), visit(t, url, legacy, &mcp.ClientCapabilities{})

			nothing := map[string]any{}
			const toggle = "toggle-simulated-logging"
			first, second := one.call(toggle, nothing), other.call(toggle, nothing)
			if !strings.HasPrefix(first, "Started") || strings.HasPrefix(second, "Started") != apart {
				t.Errorf("the one toggled and was told %q, the other %q", first, second)
			}

			link := one.call("gzip-file-as-resource", map[string]any{"name": "mine.gz", "data": "data:text/plain,mine", "outputType": "resourceLink"})
			if !strings.Contains(link, "://") {
				t.Fatalf("the resource is at %q", link)
			}
			read := func(g *guest) error {
				_, err := g.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: link})
				return err
			}
			if err := read(one); err != nil {
				t.Errorf("whose resource it is: %v", err)
			}
			if err := read(other); (err != nil) != apart {
				t.Errorf("the other reads the resource of the one: %v", err)
			}

			// Whatever the sharing, updates go to who subscribed.
			uri := func(n int) string { return fmt.Sprint("demo://resource/dynamic/text/", n) }
			for n, g := range []*guest{one, other} {
				if err := g.Subscribe(t.Context(), &mcp.SubscribeParams{URI: uri(n)}); err != nil {
					t.Fatal(err)
				}
			}
			const updates = "toggle-subscriber-updates"
			if said := one.call(updates, nothing); !strings.HasPrefix(said, "Started") {
				t.Fatalf("toggling said %q", said)
			}
			if err := one.hears(uri(0)); err != nil {
				t.Error(err)
			}
			if apart { // the other's session has not begun to
				select {
				case got := <-other.updated:
					t.Errorf("the other was told of %s by what the one toggled", got)
				default:
				}
				if said := other.call(updates, nothing); !strings.HasPrefix(said, "Started") {
					t.Errorf("toggling in the other session said %q", said)
				}
			}
			if err := other.hears(uri(1)); err != nil {
				t.Error(err)
			}
		})
	}
}

// hears waits until a client is told of an update, which has to be of this
// resource.
func (g *guest) hears(uri string) error {
	select {
	case got := <-g.updated:
		if got != uri {
			return fmt.Errorf("told of %s, want %s", got, uri)
		}
		return nil
	case <-time.After(patience):
		return errors.New("not told of " + uri)
	}
}
