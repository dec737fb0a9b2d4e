package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/internal/mirror"
	"github.com/mcpool-dev/mcpool/rpc"
)

// versionModern is the modern version that is served. Everything in this file
// is of its specification.
const versionModern = "2026-07-28"

// supported is every version that is served, the newest first.
var supported = append([]string{versionModern}, legacyVersions...)

// Members of _meta that every modern request carries, or may carry; and the
// one that every result should (basic/index "_meta").
const (
	metaVersion      = "io.modelcontextprotocol/protocolVersion"
	metaCapabilities = "io.modelcontextprotocol/clientCapabilities"
	metaClientInfo   = "io.modelcontextprotocol/clientInfo"
	metaLogLevel     = "io.modelcontextprotocol/logLevel"
	metaServerInfo   = "io.modelcontextprotocol/serverInfo"
)

// Headers of the streamable HTTP transport, as net/http writes them: any other
// way is rewritten for each look.
const (
	headerSession = "Mcp-Session-Id" // legacy
	headerVersion = "Mcp-Protocol-Version"
	headerMethod  = "Mcp-Method"
	headerName    = "Mcp-Name"

	headerLastEvent = "Last-Event-ID" // legacy
)

// isModern reports whether a message is of the modern era, by the version in
// its header, "" for none, and by its body (basic/versioning "Backward
// Compatibility").
func (m *message) isModern(header string) bool {
	if header >= versionModern {
		return true
	}
	return m.says[saysVersion] != nil
}

// checkModern checks what every modern request says of itself (basic/index
// "_meta"), and over HTTP that the headers say the same
// (basic/transports/streamable-http "Server Validation"). header is nil over
// stdio, where there are none.
func (m *message) checkModern(header http.Header) *rpc.Error {
	version := jsonrpc.String(m.says[saysVersion])
	if version == "" {
		return rpc.Errorf(rpc.CodeInvalidParams, "params._meta lacks %q, a string", metaVersion)
	}
	if header != nil {
		if err := mirrors(header, headerVersion, version); err != nil {
			return err
		}
	}
	// The version comes before what depends on it.
	if version != versionModern {
		return unsupported(version)
	}
	if caps := m.says[saysCapabilities]; len(caps) == 0 || caps[0] != '{' {
		return rpc.Errorf(rpc.CodeInvalidParams, "params._meta lacks %q, an object", metaCapabilities)
	}
	if level := m.says[saysLogLevel]; level != nil && logLevel(jsonrpc.String(level)) == noLog {
		return unknownLevel("params._meta["+strconv.Quote(metaLogLevel)+"]", jsonrpc.String(level))
	}
	if header == nil {
		return nil
	}
	if err := mirrors(header, headerMethod, m.Method); err != nil {
		return err
	}
	// A call without a name is told so, and not that a header is missing.
	member := "name"
	switch {
	case m.Method == methodCallTool, m.Method == methodGetPrompt:
	case m.Method == methodRead:
		member = "uri"
	case slices.Contains([]string{"tasks/get", "tasks/update", "tasks/cancel"}, m.Method): // SEP-2663
		member = "taskId"
	default:
		return nil
	}
	if name := jsonrpc.GetString(m.Params, member); name != "" {
		return mirrors(header, headerName, name)
	}
	return nil
}

// mirrors checks that a header is there once and says what the body says.
func mirrors(header http.Header, name, body string) *rpc.Error {
	values := header.Values(name)
	if len(values) == 0 || values[0] == "" {
		return rpc.Errorf(rpc.CodeHeaderMismatch, "header %s is missing: the body says %q", name, body)
	}
	if len(values) > 1 {
		return rpc.Errorf(rpc.CodeHeaderMismatch, "header %s stands there %d times", name, len(values))
	}
	value, err := mirror.Decode(values[0])
	if err != nil {
		return rpc.Errorf(rpc.CodeHeaderMismatch, "header %s is %q: %v", name, values[0], err)
	}
	if value != body {
		return rpc.Errorf(rpc.CodeHeaderMismatch, "header %s says %q, the body says %q", name, value, body)
	}
	return nil
}

// unsupported is the error that lists the versions to choose from
// (basic/versioning "Protocol Version Negotiation").
func unsupported(version string) *rpc.Error {
	e := rpc.Errorf(rpc.CodeUnsupportedVersion, "protocol version %q is not supported here; versions before %s begin with %s",
		version, versionModern, methodInitialize)
	data, err := json.Marshal(map[string]any{"supported": supported, "requested": version})
	if err != nil {
		panic(err) // impossible: strings always marshal
	}
	e.Data = data
	return e
}

func isEmpty(object []byte) bool {
	return len(bytes.Trim(object, "{} \t\r\n")) == 0
}

// modernResult adds to a result what the era requires of it and the server
// has not said: its type (basic/index "ResultType"), how long and for whom
// lists may be cached (server/utilities/caching), and who answered. Who answered
// is no must, and a large result is not searched for it.
func (g *Gateway) modernResult(method string, answer rpc.Answer) (json.RawMessage, error) {
	result := answer.Bytes()
	large := len(result) >= jsonrpc.Large
	if large && answer.Modern() && method == methodCallTool {
		return result, nil // all that is a must is there
	}
	var add []byte
	if answer.Legacy() || !has(result, "resultType") {
		add = append(add, `,"resultType":"complete"`...)
	}
	if listKinds[method] != nil || method == methodDiscover || method == methodRead {
		if !has(result, "ttlMs") {
			add = append(add, `,"ttlMs":0`...)
		}
		if !has(result, "cacheScope") {
			add = append(add, `,"cacheScope":"private"`...)
		}
	}
	if large {
		return appendMembers(result, add)
	}
	if !has(result, "_meta") {
		add = append(add, `,"_meta":{"`+metaServerInfo+`":`...)
		add = append(append(add, g.serverInfo...), '}')
	} else if _, ok := jsonrpc.Get(result, "_meta", metaServerInfo); !ok {
		set, err := jsonrpc.Set(result, g.serverInfo, "_meta", metaServerInfo)
		if err != nil {
			return nil, errNoObject
		}
		result = set
	}
	return appendMembers(result, add)
}

// errNoObject is a result that breaks the protocol.
var errNoObject = errors.New("the server's result is not a JSON object")

// appendMembers returns a copy of an object with members at its end, each of
// which begins with a comma.
func appendMembers(object json.RawMessage, members []byte) (json.RawMessage, error) {
	object = bytes.TrimSpace(object)
	if !isObject(object) {
		return nil, errNoObject
	}
	if isEmpty(object) && len(members) > 0 {
		members = members[1:]
	}
	out := make([]byte, 0, len(object)+len(members))
	out = append(out, object[:len(object)-1]...)
	return append(append(out, members...), '}'), nil
}

// isObject reports whether trimmed JSON is an object.
func isObject(data []byte) bool {
	return len(data) >= 2 && data[0] == '{' && data[len(data)-1] == '}'
}

// has reports whether an object has a member. Most have no mention of it
// anywhere, and finding that out costs a fraction of a scan.
func has(object []byte, name string) bool {
	if !bytes.Contains(object, []byte(name)) {
		return false
	}
	_, ok := jsonrpc.Get(object, name)
	return ok
}
