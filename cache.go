package mcpool

import (
	"bytes"
	"container/list"
	"encoding/json"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/internal/transport"
	"github.com/mcpool-dev/mcpool/rpc"
)

const (
	// cacheMost and cacheBytes bound the answers that a pool keeps, and
	// cacheEach the size of one, in bytes. The one unused longest goes first.
	cacheMost  = 1000
	cacheBytes = 16 << 20
	cacheEach  = 1 << 20
	// cacheLongest bounds how long an answer is kept on its server's word: it
	// may be wrong about that, and nobody may be listening for changes.
	cacheLongest = 24 * time.Hour
)

// A cache keeps answers of a modern server for as long as it says that they
// are fresh (MCP 2026-07-28, "Caching"): for all callers what is public, and
// for the same principal, with the same revision of credentials, what is
// private. What does not say is private.
type cache struct {
	mu      sync.Mutex // guards what follows
	answers map[cacheKey]*list.Element
	used    list.List // of *cached, the last used first
	bytes   int
	changes uint64 // so far; an answer that one may have overtaken is not kept
}

// A cacheKey is what was asked, and who may have the answer.
type cacheKey struct {
	public         bool
	owner          owner // zero if public
	caps           rpc.Capabilities
	method, params string
}

type cached struct {
	key    cacheKey
	answer rpc.Answer
	until  time.Time
}

// cacheable returns the key for a private answer to a call, if it has one: the
// method may be kept, and the call is not a round of a longer exchange.
func (t *terms) cacheable(call *rpc.Call) (cacheKey, bool) {
	switch call.Method {
	case "server/discover", "tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read":
	default:
		return cacheKey{}, false
	}
	if t.eraNow() != transport.Modern {
		return cacheKey{}, false
	}
	for _, name := range [...]string{"inputResponses", "requestState"} {
		if _, there := jsonrpc.Get(call.Params, name); there {
			return cacheKey{}, false
		}
	}
	params := jsonrpc.Delete(call.Params, "_meta")
	if bytes.Equal(params, []byte("{}")) {
		params = nil
	}
	return cacheKey{
		owner:  owner{t.principal(&call.Caller), call.Caller.Revision},
		caps:   call.Caller.Capabilities,
		method: call.Method, params: string(params),
	}, len(call.Params) <= cacheEach
}

// inPublic is the key of the same answer if it is public.
func (k cacheKey) inPublic() cacheKey {
	k.public, k.owner = true, owner{}
	return k
}

// get returns the answer that is kept for a key, public or private. If there
// is none, seen is to be handed to put with the one that comes.
func (c *cache) get(key cacheKey) (answer rpc.Answer, hit bool, seen uint64) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, key := range [...]cacheKey{key, key.inPublic()} {
		e := c.answers[key]
		if e == nil {
			continue
		}
		if kept := e.Value.(*cached); now.Before(kept.until) {
			c.used.MoveToFront(e)
			return kept.at(now), true, 0
		}
		c.dropLocked(e)
	}
	return rpc.Answer{}, false, c.changes
}

// put keeps an answer, if its server allows and nothing has changed since seen.
func (c *cache) put(key cacheKey, answer rpc.Answer, seen uint64) {
	result := answer.Bytes()
	ttl := freshFor(result)
	if ttl <= 0 || len(result) > cacheEach || jsonrpc.GetString(result, "resultType") == "input_required" {
		return
	}
	if jsonrpc.GetString(result, "cacheScope") == "public" {
		key = key.inPublic()
	}
	kept := &cached{key, answer, time.Now().Add(ttl)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.changes != seen {
		return
	}
	if old := c.answers[key]; old != nil {
		c.dropLocked(old)
	}
	if c.answers == nil {
		c.answers = map[cacheKey]*list.Element{}
	}
	c.answers[key] = c.used.PushFront(kept)
	for c.bytes += kept.size(); c.bytes > cacheBytes || c.used.Len() > cacheMost; {
		c.dropLocked(c.used.Back())
	}
}

func (c *cache) dropLocked(e *list.Element) {
	kept := c.used.Remove(e).(*cached)
	delete(c.answers, kept.key)
	c.bytes -= kept.size()
}

// at is the answer as it is now: as fresh as it still is.
func (k *cached) at(now time.Time) rpc.Answer {
	left := strconv.FormatInt(max(k.until.Sub(now).Milliseconds(), 0), 10)
	result, err := jsonrpc.Set(k.answer.Bytes(), []byte(left), "ttlMs")
	if err != nil {
		return k.answer // cannot be: it was read before
	}
	return rpc.Result(result)
}

func (k *cached) size() int { return len(k.answer.Bytes()) + len(k.key.params) }

// changed drops what a notification of the server says is out of date: lists
// that changed, a resource that was updated. Any other changes nothing.
func (c *cache) changed(change transport.Change) {
	kind, list := strings.CutSuffix(strings.TrimPrefix(change.Method, "notifications/"), "/list_changed")
	uri := ""
	switch {
	case list:
	case change.Method == methodUpdated:
		uri = jsonrpc.GetString(change.Params, "uri")
	default:
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changes++
	for _, e := range c.answers {
		key := e.Value.(*cached).key
		switch {
		case list && strings.HasPrefix(key.method, kind+"/") && strings.HasSuffix(key.method, "/list"),
			!list && key.method == "resources/read" && within(uri, jsonrpc.GetString([]byte(key.params), "uri")):
			c.dropLocked(e)
		}
	}
}

// within reports whether a resource is another, or part of it: who has asked
// for a whole is told of its parts (MCP 2025-11-25, resources,
// "Subscriptions").
func within(uri, whole string) bool {
	return uri == whole || strings.HasPrefix(uri, strings.TrimSuffix(whole, "/")+"/")
}

// freshFor is how long a result may be kept.
func freshFor(result json.RawMessage) time.Duration {
	raw, _ := jsonrpc.Get(result, "ttlMs")
	ms, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || !(ms > 0) {
		return 0
	}
	return time.Duration(min(ms, float64(cacheLongest.Milliseconds()))) * time.Millisecond
}
