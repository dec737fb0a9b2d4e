package jsonrpc

import (
	"encoding/json"
	"regexp"
)

// A Kind is what a message is, as far as an outline of it shows.
type Kind int8

const (
	Unclear  Kind = iota
	Response      // it has a result or an error
	Request       // it has a method or params: a request, or a notification
)

// lastMembers is the end of a frame that has its id behind what is large. In
// a valid frame the brace that closes it is the last byte, so the members
// before it are its own; and no quote in it is within a string, for there it
// would have a backslash before it, which no part of this matches.
var lastMembers = regexp.MustCompile(`[,{\s]"id"\s*:\s*(-?[0-9]+|"[^"\\]*")\s*(?:,\s*"jsonrpc"\s*:\s*"2\.0"\s*)?\}\s*$`)

// Outline reads what it can of a frame of which only the beginning and the
// end are there. The id is nil where neither shows it whole. An end that is
// part of the beginning does no harm.
func Outline(head, tail []byte) (id json.RawMessage, kind Kind) {
	start := skipSpace(head, 0)
	if start >= len(head) || head[start] != '{' {
		return nil, Unclear
	}
	see := func(m member) {
		switch {
		case m.named(head, "result"), m.named(head, "error"):
			kind = Response
		case m.named(head, "method"), m.named(head, "params"):
			kind = Request
		}
	}
	at := start
	_, _ = walkObject(head, start, 0, func(m member) { // it ends where head does
		if m.valueEnd == len(head) {
			return // 12 may be the beginning of 123
		}
		see(m)
		if value := head[m.valueStart:m.valueEnd]; m.named(head, "id") && IsID(value) {
			id = value
		}
		at = m.valueEnd
	})
	// The member whose value is cut, which is mostly what is so large.
	key := skipSpace(head, skipSpace(head, at)+1) // behind the brace or the comma
	if key < len(head) && head[key] == '"' {
		if end, err := skipString(head, key); err == nil {
			see(member{keyStart: key, keyEnd: end})
		}
	}
	if match := lastMembers.FindSubmatch(tail); id == nil && match != nil {
		id = match[1]
	}
	return id, kind
}
