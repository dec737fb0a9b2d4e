package mcptest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

// logLevels are the severities of log messages, the least severe first.
var logLevels = []string{"debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"}

// toolsOf are the tools that a legacy session has besides if its client
// declared a capability.
var toolsOf = map[string]string{"elicitation": "ask-user", "sampling": "ask-model", "roots": "ask-roots"}

const (
	pages       = 3 // of the list of resources
	itemsOfPage = 2
)

// A listener is somebody who hears of changes: the client of a legacy session,
// by GET, or of a request of the modern era.
type listener struct {
	out     *events
	session *session        // legacy
	id      json.RawMessage // modern: of the request
	filter  json.RawMessage // modern: what it wants to hear of
}

// remember keeps what a client has said in initialize.
func (s *Server) remember(in *session, m *jsonrpc.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	in.caps, _ = jsonrpc.Get(m.Params, "capabilities")
}

// introduce puts into a result that introduces the server what it can do.
func (s *Server) introduce(result json.RawMessage) json.RawMessage {
	if s.Stateful {
		result, _ = jsonrpc.Set(result, []byte(`{"tools":{"listChanged":true},"resources":{"listChanged":true,"subscribe":true},"logging":{}}`), "capabilities")
	}
	return result
}

// stateful answers what a server with state answers in its own way, and
// reports false for everything else.
func (s *Server) stateful(ctx context.Context, m *jsonrpc.Message, in *session, from *exchange) (result json.RawMessage, e *rpc.Error, known bool) {
	uri := jsonrpc.GetString(m.Params, "uri")
	switch m.Method {
	case "logging/setLevel":
		s.mu.Lock()
		in.level = slices.Index(logLevels, jsonrpc.GetString(m.Params, "level"))
		s.mu.Unlock()
		return json.RawMessage(`{}`), nil, !s.Modern
	case "resources/subscribe", "resources/unsubscribe":
		s.mu.Lock()
		if in.subscribed == nil {
			in.subscribed = make(map[string]bool)
		}
		in.subscribed[uri] = m.Method == "resources/subscribe"
		s.mu.Unlock()
		return json.RawMessage(`{}`), nil, !s.Modern
	case "resources/list":
		result, e = s.page(jsonrpc.GetString(m.Params, "cursor"))
		return result, e, true
	case "resources/read":
		scope := "private"
		if strings.Contains(uri, "public") {
			scope = "public"
		}
		return s.engine.result(map[string]any{
			"contents": []map[string]any{{"uri": uri, "text": fmt.Sprint(s.next())}},
			"ttlMs":    60000, "cacheScope": scope,
		}), nil, true
	case "tools/list":
		all, _ := jsonrpc.Elements(tools)
		for capability, name := range toolsOf {
			if hasMember(in.caps, capability) {
				all = append(all, marshal(tool(name, "")))
			}
		}
		return s.engine.result(map[string]any{"tools": all, "ttlMs": 60000, "cacheScope": "public"}), nil, true
	case "tools/call":
		return s.statefulTool(ctx, m, in, from)
	}
	return nil, nil, false
}

func (s *Server) statefulTool(ctx context.Context, m *jsonrpc.Message, in *session, from *exchange) (json.RawMessage, *rpc.Error, bool) {
	var args arguments
	raw, _ := jsonrpc.Get(m.Params, "arguments")
	_ = json.Unmarshal(raw, &args)
	structured := map[string]any{"id": args.ID, "session": in.id}
	switch jsonrpc.GetString(m.Params, "name") {
	case "log":
		s.mu.Lock()
		least := in.level
		s.mu.Unlock()
		if s.Modern {
			if least = slices.Index(logLevels, jsonrpc.GetString(m.Params, "_meta", "io.modelcontextprotocol/logLevel")); least < 0 {
				least = len(logLevels)
			}
		}
		for _, level := range logLevels[max(0, least):] {
			from.notify("notifications/message", map[string]any{"level": level, "data": args.ID})
		}
	case "hold":
		token, _ := jsonrpc.Get(m.Params, "_meta", "progressToken")
		from.notify("notifications/progress", map[string]any{"progressToken": token, "progress": 1, "message": args.ID})
		<-ctx.Done()
		s.mu.Lock()
		s.withdrawn[args.ID]++
		s.mu.Unlock()
		return nil, rpc.Errorf(rpc.CodeInternal, "cancelled"), true
	case "cart":
		s.mu.Lock()
		in.cart = append(in.cart, args.Text)
		structured["cart"] = slices.Clone(in.cart)
		s.mu.Unlock()
	default:
		return nil, nil, false
	}
	s.engine.ran(args.ID)
	return s.engine.result(map[string]any{"content": []any{}, "structuredContent": structured}), nil, true
}

// page is a page of the list of resources. Its items, and the cursor of the
// next one, say of which walk through the list they are.
func (s *Server) page(cursor string) (json.RawMessage, *rpc.Error) {
	walk, page := s.next(), 1
	if cursor != "" {
		if _, err := fmt.Sscanf(cursor, "walk-%d/page-%d", &walk, &page); err != nil {
			return nil, rpc.Errorf(rpc.CodeInvalidParams, "unknown cursor %q", cursor)
		}
	}
	items := make([]map[string]any, itemsOfPage)
	for i := range items {
		name := fmt.Sprintf("walk-%d/item-%d", walk, (page-1)*itemsOfPage+i)
		items[i] = map[string]any{"uri": "res://" + name, "name": name}
	}
	list := map[string]any{"resources": items, "ttlMs": 0, "cacheScope": "private"}
	if page < pages {
		list["nextCursor"] = fmt.Sprintf("walk-%d/page-%d", walk, page+1)
	}
	return s.engine.result(list), nil
}

// next is a number that was never used.
func (s *Server) next() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.numbers++
	return s.numbers
}

func hasMember(object json.RawMessage, name string) bool {
	_, there := jsonrpc.Get(object, name)
	return there
}

// hear serves a listener until its client goes away.
func (s *Server) hear(w http.ResponseWriter, r *http.Request, l *listener) {
	l.out = &events{w: w}
	defer l.out.close()
	l.out.write("")
	s.mu.Lock() // no change comes between being promised and being told
	if l.id != nil {
		l.tell("notifications/subscriptions/acknowledged", fmt.Appendf(nil, `{"notifications":%s}`, l.filter))
	}
	s.listeners[l] = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.listeners, l)
		s.mu.Unlock()
	}()
	<-r.Context().Done()
}

func (l *listener) tell(method string, params json.RawMessage) {
	if l.id != nil {
		params, _ = jsonrpc.Set(params, l.id, "_meta", "io.modelcontextprotocol/subscriptionId")
	}
	l.out.send("message", jsonrpc.AppendRequest(nil, nil, method, params))
}

// tellAll tells a change to those of whom wants says that they hear of it.
func (s *Server) tellAll(method string, params json.RawMessage, wants func(*listener) bool) {
	s.mu.Lock()
	var all []*listener
	for l := range s.listeners {
		if wants(l) {
			all = append(all, l)
		}
	}
	s.mu.Unlock()
	for _, l := range all {
		l.tell(method, params)
	}
}

// Listeners returns how many can be told of changes: the sessions of a legacy
// server that have a stream open, the requests to a modern one that listen.
func (s *Server) Listeners() int { return s.read(func() int { return len(s.listeners) }) }

// Touch tells those who subscribed to a resource that it was updated.
func (s *Server) Touch(uri string) {
	s.tellAll("notifications/resources/updated", fmt.Appendf(nil, `{"uri":%q}`, uri), func(l *listener) bool {
		if l.session != nil {
			return l.session.subscribed[uri]
		}
		var uris []string
		raw, _ := jsonrpc.Get(l.filter, "resourceSubscriptions")
		_ = json.Unmarshal(raw, &uris)
		return slices.Contains(uris, uri)
	})
}

// Change tells those who want to hear of it that the list of tools has changed.
func (s *Server) Change() {
	s.tellAll("notifications/tools/list_changed", nil, func(l *listener) bool {
		wanted, _ := jsonrpc.Get(l.filter, "toolsListChanged")
		return l.session != nil || string(wanted) == "true"
	})
}

// Withdrawn returns which calls of hold were cancelled, by their argument id,
// and how often.
func (s *Server) Withdrawn() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[string]int, len(s.withdrawn))
	for id, n := range s.withdrawn {
		all[id] = n
	}
	return all
}
