package gateway

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

// helloWait is how long a client that begins waits for a server of which
// nothing is known yet.
const helloWait = 5 * time.Second

// silence is for how long a server that said nothing within helloWait, and has
// answered nothing since, is not waited for by clients that begin.
const silence = 30 * time.Second

// A hello is what servers say of themselves.
type hello struct {
	capabilities map[string]json.RawMessage
	instructions string
	modern       bool // they all are
}

// Of a server that has not answered yet, clients are told what every client
// can do without: a list that stays empty. One that answers, but does not know
// the question, has tools alone.
var (
	whatMayBe = json.RawMessage(`{"tools":{"listChanged":true},"prompts":{"listChanged":true},"resources":{"listChanged":true}}`)
	toolsOnly = json.RawMessage(`{"tools":{}}`)
)

// hello returns what the servers of an endpoint say of themselves, together.
func (q *request) hello(ctx context.Context) hello {
	servers := q.endpoint.servers
	said := make([]json.RawMessage, len(servers))
	var asked sync.WaitGroup
	for i, s := range servers {
		asked.Go(func() { said[i] = q.helloOf(ctx, s) })
	}
	asked.Wait()
	all := hello{capabilities: map[string]json.RawMessage{}, modern: true}
	var instructions []string
	for i, one := range said {
		caps, _ := jsonrpc.Get(one, "capabilities")
		all.add(caps, len(servers) == 1)
		all.modern = all.modern && saysModern(one)
		if text := jsonrpc.GetString(one, "instructions"); text != "" {
			if len(servers) > 1 {
				text = "# " + servers[i].Name + "\n\n" + text
			}
			instructions = append(instructions, text)
		}
	}
	all.instructions = strings.Join(instructions, "\n\n")
	return all
}

func (q *request) helloOf(ctx context.Context, s *backend) json.RawMessage {
	said, _ := jsonrpc.Set(nil, whatMayBe, "capabilities")
	if since := s.silent.Load(); since != nil && time.Since(*since) < silence {
		return said
	}
	bounded, cancel := context.WithTimeoutCause(ctx, helloWait, fmt.Errorf("it did not say what it can within %v", helloWait))
	defer cancel()
	answer, err := q.askFor(bounded, s, methodDiscover, nil)
	if err == nil {
		s.unheard.Over()
		s.modern.Store(saysModern(answer.Bytes()))
		return answer.Bytes()
	}
	if e := (*rpc.Error)(nil); errors.As(err, &e) && e.Code == rpc.CodeMethodNotFound {
		s.unheard.Over()
		said, _ = jsonrpc.Set(nil, toolsOnly, "capabilities")
		return said
	}
	if bounded.Err() != nil && ctx.Err() == nil {
		now := time.Now()
		s.silent.Store(&now)
	}
	s.unheard.Happened(q.logger(), "a client began without a server", logServer, s.Name, logError, err)
	return said
}

// saysModern reports whether a discover result is of a modern server.
func saysModern(result json.RawMessage) bool {
	list, _ := jsonrpc.Get(result, "supportedVersions")
	return bytes.Contains(list, []byte(`"`+versionModern+`"`))
}

// merged are the capabilities of several servers that clients can be told of,
// with the flags that they may have.
var merged = map[string][]string{
	"tools": {"listChanged"}, "prompts": {"listChanged"}, "resources": {"listChanged", "subscribe"},
	"completions": nil, "logging": nil,
}

// add adds what a server can. Of one that is alone all of it is passed on.
func (h *hello) add(caps json.RawMessage, alone bool) {
	var said map[string]json.RawMessage
	if json.Unmarshal(caps, &said) != nil {
		return
	}
	if alone {
		maps.Copy(h.capabilities, said)
		return
	}
	for name, flags := range merged {
		one, has := said[name]
		if !has {
			continue
		}
		into := h.capabilities[name]
		if into == nil {
			into = json.RawMessage("{}")
		}
		for _, flag := range flags {
			if on, _ := jsonrpc.Get(one, flag); string(on) == "true" {
				into, _ = jsonrpc.Set(into, on, flag) // it is an object of ours
			}
		}
		h.capabilities[name] = into
	}
}

// initialize agrees on the client's version, or proposes the newest legacy one
// (MCP 2025-11-25, basic/lifecycle "Version Negotiation").
func (q *request) initialize(ctx context.Context) (json.RawMessage, error) {
	version := jsonrpc.GetString(q.params, "protocolVersion")
	if version == "" {
		return nil, rpc.Errorf(rpc.CodeInvalidParams, "params.protocolVersion of initialize must be a string")
	}
	if !slices.Contains(legacyVersions, version) {
		version = legacyVersions[0]
	}
	if q.caller.Session == "" {
		q.caller.Session = rand.Text() // a connection that is opened now is one of the session's
	}
	begun := &session{name: q.caller.Session, gateway: q.gateway.name, protocol: version, caps: q.caller.Capabilities}
	if info, _ := jsonrpc.Get(q.params, "clientInfo"); isObject(info) && len(info) <= maxClientInfo {
		begun.info = string(info)
	}
	q.session = begun
	h := q.hello(ctx)
	delete(h.capabilities, "extensions") // of the modern era
	return h.result(map[string]any{
		"protocolVersion": version,
		"serverInfo":      q.gateway.serverInfo,
	})
}

// discover answers server/discover (MCP 2026-07-28, server/discover).
func (q *request) discover(ctx context.Context) (json.RawMessage, error) {
	h := q.hello(ctx)
	if !h.modern {
		delete(h.capabilities, "tasks") // those of 2025-11-25 are others
	}
	return h.result(map[string]any{"supportedVersions": supported})
}

func (h *hello) result(members map[string]any) (json.RawMessage, error) {
	members["capabilities"] = h.capabilities
	if h.instructions != "" {
		members["instructions"] = h.instructions
	}
	return json.Marshal(members)
}
