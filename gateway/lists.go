package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

const (
	// maxPages bounds how much of one server's list is followed, so that a
	// server whose list never ends does not keep a client waiting for ever.
	maxPages = 100
	// listWait is how long a list of several servers waits for one of which an
	// earlier list is known, and listWaitFirst for one of which none is: a
	// server that is away is not to keep the others from being seen.
	listWait      = 2 * time.Second
	listWaitFirst = 5 * time.Second
	// keptLists and keptBytes bound the lists that are kept for when their
	// server is away. Beyond it any of them goes.
	keptLists = 4096
	keptBytes = 64 << 20
)

// A listKind is one of the four lists that a server has.
type listKind struct {
	place  int // among all kinds
	method string
	member string // of the result, an array
	key    string // of an element: what it is called
}

var (
	tools     = listKind{0, "tools/list", "tools", "name"}
	prompts   = listKind{1, "prompts/list", "prompts", "name"}
	resources = listKind{2, "resources/list", "resources", "uri"}
	templates = listKind{3, "resources/templates/list", "resourceTemplates", "uriTemplate"}
)

// kinds is how many kinds of lists there are.
const kinds = 4

// listKinds has them by method.
var listKinds = map[string]*listKind{
	tools.method: &tools, prompts.method: &prompts, resources.method: &resources, templates.method: &templates,
}

// list answers a request for a list: of one server page by page, as the server
// does, and of several on one page.
func (q *request) list(ctx context.Context, kind *listKind) (rpc.Answer, error) {
	cursor, paged := jsonrpc.Get(q.params, "cursor")
	if paged && cursor[0] != '"' {
		return rpc.Answer{}, rpc.Errorf(rpc.CodeInvalidParams, "params.cursor of %s must be a string", kind.method)
	}
	if s := q.endpoint.only(); s != nil {
		page, err := q.ask(ctx, s, q.params)
		if err != nil || !q.endpoint.prefixed && !(kind == &tools && q.filters(s)) {
			return page, err
		}
		items, err := q.items(s, kind, page.Bytes())
		if err != nil {
			return rpc.Answer{}, err
		}
		list, err := jsonrpc.Set(page.Bytes(), appendItems(nil, items), kind.member)
		return rpc.Result(list), err
	}
	if paged {
		return rpc.Answer{}, rpc.Errorf(rpc.CodeInvalidParams, "unknown cursor: %s has one page here", kind.method)
	}
	servers := q.endpoint.servers
	lists, errs := make([][]item, len(servers)), make([]error, len(servers))
	var asked sync.WaitGroup
	for i, s := range servers {
		asked.Go(func() { lists[i], errs[i] = q.known(ctx, s, kind) })
	}
	asked.Wait()
	var failures []string
	var all []item
	for i, err := range errs {
		if err == nil {
			all = append(all, lists[i]...)
			continue
		}
		if ctx.Err() != nil {
			return rpc.Answer{}, err
		}
		failures = append(failures, servers[i].Name+": "+strings.TrimPrefix(err.Error(), servers[i].Name+": "))
	}
	if len(failures) == len(servers) {
		return rpc.Answer{}, fmt.Errorf("no server answered %s: %s", kind.method, strings.Join(failures, "; "))
	}
	if !q.endpoint.prefixed {
		all = q.distinct(kind, all)
	}
	return rpc.LegacyResult(append(appendItems(append([]byte(`{"`), kind.member+`":`...), all), '}')), nil
}

// An item is an element of a list.
type item struct {
	server *backend
	inner  string          // what it is called at its server
	raw    json.RawMessage // as clients of the endpoint are told
}

// appendItems appends a JSON array.
func appendItems(dst []byte, items []item) []byte {
	dst = append(dst, '[')
	for i, item := range items {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, item.raw...)
	}
	return append(dst, ']')
}

// distinct leaves out what another server has by the same name: names that are
// not prefixed mean the first.
func (q *request) distinct(kind *listKind, all []item) []item {
	by := make(map[string]*backend, len(all))
	kept := all[:0]
	for _, item := range all {
		if first := by[item.inner]; first != nil && first != item.server {
			q.logger().Warn("left out of a list: another server has one of the same name",
				logServer, item.server.Name, "method", kind.method, "name", item.inner, "other", first.Name)
			continue
		}
		by[item.inner] = item.server
		kept = append(kept, item)
	}
	return kept
}

// items takes a page of a server's list apart, under the names that clients of
// the endpoint know, and without what they are not offered.
func (q *request) items(s *backend, kind *listKind, page json.RawMessage) ([]item, error) {
	list, _ := jsonrpc.Get(page, kind.member)
	elements, err := jsonrpc.Elements(list)
	if err != nil {
		return nil, fmt.Errorf("%s of its list: %w", kind.member, err)
	}
	items := make([]item, 0, len(elements))
	for _, raw := range elements {
		inner := jsonrpc.GetString(raw, kind.key)
		if inner == "" {
			return nil, fmt.Errorf("its list has one of the %s without a %s", kind.member, kind.key)
		}
		if kind == &tools && q.filters(s) {
			if !q.offers(s, inner) {
				continue
			}
			raw = bytes.Clone(raw) // what is kept is not to hold what is not
		}
		outer := inner
		if kind.key == "name" {
			outer = q.endpoint.outward(s, inner)
		} else {
			outer = q.endpoint.outwardURI(s, inner)
		}
		if outer != inner {
			if raw, err = setString(raw, outer, kind.key); err != nil {
				return nil, fmt.Errorf("%s %s: %w", kind.key, inner, err)
			}
		}
		items = append(items, item{s, inner, raw})
	}
	return items, nil
}

// all returns the whole list of one server.
func (q *request) all(ctx context.Context, s *backend, kind *listKind) ([]item, error) {
	// The token cannot stand for the progress of several calls.
	params := jsonrpc.Delete(jsonrpc.Delete(q.params, "cursor"), "_meta", "progressToken")
	if kind.method != q.method {
		params = nil
		if q.meta != nil {
			params, _ = jsonrpc.Set(nil, jsonrpc.Delete(q.meta, "progressToken"), "_meta")
		}
	}
	var items []item
	for range maxPages {
		answer, err := q.askFor(ctx, s, kind.method, params)
		if e := (*rpc.Error)(nil); errors.As(err, &e) && e.Code == rpc.CodeMethodNotFound {
			return items, nil // it has none of these
		}
		if err != nil {
			return nil, err
		}
		page := answer.Bytes()
		some, err := q.items(s, kind, page)
		if err != nil {
			return nil, err
		}
		items = append(items, some...)
		cursor, ok := jsonrpc.Get(page, "nextCursor")
		if !ok || string(cursor) == "null" {
			return items, nil
		}
		if params, err = jsonrpc.Set(params, cursor, "cursor"); err != nil {
			return nil, fmt.Errorf("params of %s: %w", kind.method, err)
		}
	}
	return nil, fmt.Errorf("its list has more than %d pages", maxPages)
}

// known returns the whole list of one of several servers, or if it does not
// answer in time the last one that it gave.
func (q *request) known(ctx context.Context, s *backend, kind *listKind) ([]item, error) {
	key, failure := q.listKey(s, kind), &s.unlisted[kind.place]
	last, isKnown := q.gateway.lists.get(key)
	wait := listWaitFirst
	if isKnown {
		wait = listWait
	}
	bounded, cancel := context.WithTimeoutCause(ctx, wait, fmt.Errorf("no list within %v", wait))
	defer cancel()
	items, err := q.all(bounded, s, kind)
	if lostSession(err) {
		// It is said once, and a list has no state: the next call is told.
		q.gateway.losses.owe(q.loss(s))
		items, err = q.all(bounded, s, kind)
	}
	if err == nil {
		failure.Over()
		q.gateway.lists.put(key, items)
		return items, nil
	}
	if ctx.Err() != nil {
		return nil, err
	}
	q.gateway.lists.failed(s.Name, q.caller.Principal, err)
	if isKnown {
		failure.Happened(q.logger(), "a server did not list: its last list is shown", logServer, s.Name, "method", kind.method, logError, err)
		return last, nil
	}
	failure.Happened(q.logger(), "a server is left out of a list", logServer, s.Name, "method", kind.method, logError, err)
	return nil, err
}

// locate finds what matches in the lists of several servers: in those that are
// known, and if it is not there in new ones.
func (q *request) locate(ctx context.Context, kind *listKind, servers []*backend, match func(item) bool) (found item, ok bool) {
	for _, s := range servers {
		items, known := q.gateway.lists.get(q.listKey(s, kind))
		if !known && !q.gateway.lists.away(s.Name, q.caller.Principal) {
			break // it may be the first that has it
		}
		for _, item := range items {
			if match(item) {
				return item, true
			}
		}
	}
	lists := make([][]item, len(servers))
	var asked sync.WaitGroup
	for i, s := range servers {
		asked.Go(func() { lists[i], _ = q.known(ctx, s, kind) })
	}
	asked.Wait()
	for _, items := range lists {
		for _, item := range items {
			if match(item) {
				return item, true
			}
		}
	}
	return item{}, false
}

// lists keeps the last whole list of each server, for when it is away, and to
// find what a name that says nothing of its server is of. What one principal
// was shown, no other is; its sessions share it, so that one of them may be shown
// what another was while a server is away.
type lists struct {
	mu     sync.Mutex // guards what follows
	kept   map[listKey][]item
	bytes  int
	faults map[string]*listFault // by server
}

// A listFault is a server that does not list what it has.
type listFault struct {
	ListFault
	of map[string]bool // the principals that have asked it since
}

type listKey struct {
	endpoint, server, method string
	principal                string
	caps                     rpc.Capabilities
}

func (q *request) listKey(s *backend, kind *listKind) listKey {
	return listKey{q.endpoint.name, s.Name, kind.method, q.caller.Principal, q.caller.Capabilities}
}

func newLists() *lists {
	return &lists{kept: make(map[listKey][]item), faults: make(map[string]*listFault)}
}

func (l *lists) get(key listKey) ([]item, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	items, ok := l.kept[key]
	return items, ok
}

func (l *lists) put(key listKey, items []item) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.faults, key.server)
	l.dropLocked(key)
	size := sizeOf(items)
	if size > keptBytes {
		return
	}
	for k := range l.kept {
		if len(l.kept) < keptLists && l.bytes+size <= keptBytes {
			break
		}
		l.dropLocked(k)
	}
	l.kept[key] = items
	l.bytes += size
}

func (l *lists) dropLocked(key listKey) {
	l.bytes -= sizeOf(l.kept[key])
	delete(l.kept, key)
}

func sizeOf(items []item) int {
	size := 0
	for _, item := range items {
		size += len(item.raw)
	}
	return size
}

// forget drops what is known of a server that another has taken the place of.
func (l *lists) forget(server string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.faults, server)
	for key := range l.kept {
		if key.server == server {
			l.dropLocked(key)
		}
	}
}

// failed notes that a server does not list what it has, until it does.
func (l *lists) failed(server, principal string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.faults[server]
	if f == nil {
		f = &listFault{ListFault{time.Now(), err}, make(map[string]bool)}
		l.faults[server] = f
	}
	if len(f.of) < keptLists { // the others ask it again
		f.of[principal] = true
	}
}

// away reports whether a server did not list what it has when it was last asked
// for a principal. What it said to another, such as that it does not know who
// that is, says nothing.
func (l *lists) away(server, principal string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.faults[server]
	return f != nil && f.of[principal]
}

func (l *lists) fault(server string) (ListFault, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f := l.faults[server]; f != nil {
		return f.ListFault, true
	}
	return ListFault{}, false
}
