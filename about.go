package mcpool

import (
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
)

// About is what a pool knows of its server. It holds nothing that may be
// secret: paths, users, headers, arguments and variables are left out.
type About struct {
	// Transport is "http", "sse", "stdio" or "in process". A server over HTTP is
	// "http" until one has been found to speak HTTP+SSE alone.
	Transport string
	// Target is the scheme, host and port of a URL, or the name of a command
	// without its folder; "" in process.
	Target string
	// Era is "legacy", "modern", "in process", or "unknown" as long as no
	// connection was open.
	Era string
	// ProtocolVersion is the version of MCP spoken; "" if that is not known.
	ProtocolVersion string
	// Sharing is who shares a connection, with the default of this server where
	// Config does not say.
	Sharing Sharing
	// MaxConnectionsTotal and CallsPerConnection are those of Config, with their
	// defaults for this server where it does not say.
	MaxConnectionsTotal, CallsPerConnection int
	// Failing says that the last opening of a connection has failed.
	Failing bool
	// Trouble is the last failure to open a connection, to check one, or to have
	// a call answered, and TroubleAt when it was; nil for none.
	Trouble   error
	TroubleAt time.Time
}

// About returns what the pool knows of its server.
func (p *Pool) About() About {
	t := p.terms.Load()
	peer := t.known.now.Load().Peer
	a := About{Era: peer.Era.String(), ProtocolVersion: peer.Protocol, Sharing: t.sharing(),
		MaxConnectionsTotal: t.config.total(), CallsPerConnection: t.callsPerConnection(), Failing: p.unopened.Lasts()}
	switch s := &t.server; {
	case s.Handler != nil:
		a.Transport, a.Era = "in process", "in process"
	case s.Command != "":
		a.Transport, a.Target = "stdio", filepath.Base(s.Command)
	default:
		a.Transport, a.Target = "http", hostOf(s.URL)
		if s.SSE || peer.SSE {
			a.Transport = "sse"
		}
	}
	if last := p.trouble.last.Load(); last != nil {
		a.Trouble, a.TroubleAt = last.err, last.at
	}
	return a
}

// hostOf is what of a URL cannot be secret: its path may be, as with servers
// that have a token there.
func hostOf(text string) string {
	u, err := url.Parse(text)
	if err != nil || strings.HasPrefix(text, "http+unix:") {
		return "unix socket"
	}
	return u.Scheme + "://" + u.Host
}

// trouble is the last failure of a server.
type trouble struct {
	last atomic.Pointer[troubled]
}

type troubled struct {
	err error
	at  time.Time
}

func (t *trouble) note(err error) { t.last.Store(&troubled{err, time.Now()}) }
