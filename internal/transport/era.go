package transport

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"sync"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

// The methods that a connection knows by name; all others pass through it.
const (
	methodDiscover    = "server/discover"
	methodInitialize  = "initialize"
	methodInitialized = "notifications/initialized"
	methodPing        = "ping"
	methodCancelled   = "notifications/cancelled"
	methodProgress    = "notifications/progress"
	methodMessage     = "notifications/message"
	methodSetLevel    = "logging/setLevel"

	methodToolsChanged     = "notifications/tools/list_changed"
	methodPromptsChanged   = "notifications/prompts/list_changed"
	methodResourcesChanged = "notifications/resources/list_changed"
	methodUpdated          = "notifications/resources/updated"

	methodListen      = "subscriptions/listen"
	methodSubscribe   = "resources/subscribe"
	methodUnsubscribe = "resources/unsubscribe"
)

// The members of _meta that say of a modern request what a legacy session says
// once (MCP 2026-07-28, basic, "_meta").
const (
	metaPrefix       = "io.modelcontextprotocol/"
	metaVersion      = metaPrefix + "protocolVersion"
	metaClient       = metaPrefix + "clientInfo"
	metaCapabilities = metaPrefix + "clientCapabilities"
	metaLogLevel     = metaPrefix + "logLevel"
)

// metaMembers are the members of _meta that a frame depends on. What follows is
// their places in metaSays, which has their values, nil for what is not there.
var metaMembers = [...]string{metaVersion, metaClient, metaCapabilities, metaLogLevel, "progressToken"}

const (
	saysVersion = iota
	saysClient
	saysCapabilities
	saysLogLevel
	saysToken
)

type metaSays [len(metaMembers)]json.RawMessage

// all reports whether it is what a modern request has to carry, as modernMeta
// would have it.
func (m *metaSays) all() bool {
	return string(m[saysVersion]) == `"`+modernVersion+`"` && m[saysClient] != nil && m[saysCapabilities] != nil
}

// modern reports whether there is anything that only modern requests carry.
func (m *metaSays) modern() bool {
	return m[saysVersion] != nil || m[saysClient] != nil || m[saysCapabilities] != nil || m[saysLogLevel] != nil
}

// MethodAcknowledged is the notification that says how much of a [Filter] a
// server heeds.
const MethodAcknowledged = "notifications/subscriptions/acknowledged"

// The versions we ask for, one of each era.
const (
	modernVersion = "2026-07-28"
	legacyVersion = "2025-11-25"
)

// legacyVersions are the answers to initialize that we can go on with. They
// differ in nothing that a connection touches.
var legacyVersions = []string{legacyVersion, "2025-06-18", "2025-03-26", "2024-11-05"}

// Protocols returns the versions of MCP that are spoken here, the newest first.
func Protocols() []string { return append([]string{modernVersion}, legacyVersions...) }

// A protocol is the one version of MCP that a server is to be spoken to with;
// "" is the best that it speaks.
type protocol string

func parseProtocol(version string) (protocol, error) {
	if version != "" && !slices.Contains(Protocols(), version) {
		return "", fmt.Errorf("protocol %.20q: want one of %s, or none for the newest that the server speaks",
			version, strings.Join(Protocols(), ", "))
	}
	return protocol(version), nil
}

// era is the one to open a connection with, and whether it may be out of date.
func (p protocol) era(known Known) (era Era, given bool) {
	switch p {
	case "":
		return known.Peer.Era, known.Peer.Era != Unknown
	case modernVersion:
		return Modern, false
	}
	return Legacy, false
}

// legacy is the version that is asked for in initialize.
func (p protocol) legacy() string {
	if p == "" {
		return legacyVersion
	}
	return string(p)
}

// wrong is the error of an opening whose server turned out to be of the other
// era than the one asked for: out of date, or not what it is set to.
func (p protocol) wrong(given bool, err error) *OpenError {
	if !given {
		err = fmt.Errorf("%w; the server is set to MCP %s alone", err, string(p))
	}
	return &OpenError{WrongEra: given, Permanent: !given, Err: err}
}

// ourselves is how we introduce ourselves to servers, as JSON: the clientInfo
// of either era.
var ourselves = sync.OnceValue(func() json.RawMessage {
	const module = "github.com/mcpool-dev/mcpool"
	version := "devel"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range append(info.Deps, &info.Main) {
			if m.Path == module && m.Version != "" && m.Version != "(devel)" {
				version = m.Version
			}
		}
	}
	us, _ := json.Marshal(map[string]string{"name": "mcpool", "version": version}) // strings always marshal
	return us
})

// modernMeta splices into a _meta object what every modern request carries,
// unless it is there, but for the version, which is ours to say (MCP
// 2026-07-28, basic, "_meta"). The caller must not modify it.
func modernMeta(meta json.RawMessage, caps rpc.Capabilities) (json.RawMessage, error) {
	if meta == nil && caps == (rpc.Capabilities{}) {
		return plainMeta(), nil // most calls'
	}
	return spliceMeta(meta, caps)
}

// plainMeta is the _meta of a modern request that has nothing else in it.
var plainMeta = sync.OnceValue(func() json.RawMessage {
	meta, _ := spliceMeta(nil, rpc.Capabilities{}) // there is nothing to be wrong with
	return meta
})

func spliceMeta(meta json.RawMessage, caps rpc.Capabilities) (json.RawMessage, error) {
	for _, member := range [...]struct{ key, value string }{
		{metaVersion, `"` + modernVersion + `"`},
		{metaClient, string(ourselves())},
		{metaCapabilities, string(caps.JSON())},
	} {
		if _, there := jsonrpc.Get(meta, member.key); there && member.key != metaVersion {
			continue
		}
		var err error
		if meta, err = jsonrpc.Set(meta, []byte(member.value), member.key); err != nil {
			return nil, err
		}
	}
	return meta, nil
}

// legacyMeta takes out of a _meta object what only modern requests carry.
func legacyMeta(meta json.RawMessage) json.RawMessage {
	for _, key := range [...]string{metaVersion, metaClient, metaCapabilities, metaLogLevel} {
		meta = jsonrpc.Delete(meta, key)
	}
	return meta
}

// readDiscover reads a DiscoverResult. It reports false if the server does not
// speak our modern version.
func readDiscover(result json.RawMessage) (Peer, bool) {
	if !listsModern(result, "supportedVersions") {
		return Peer{}, false
	}
	// The schema puts the server's name into _meta; some put it where
	// initialize has it.
	peer := Peer{Protocol: modernVersion, Era: Modern, Hello: result}
	for _, path := range [...][]string{{"serverInfo"}, {"_meta", metaPrefix + "serverInfo"}} {
		if info, ok := jsonrpc.Get(result, path...); ok {
			peer.Name, peer.Version = jsonrpc.GetString(info, "name"), jsonrpc.GetString(info, "version")
		}
	}
	return peer, true
}

// modernAfterAll reports whether an error that answers server/discover names
// our version among those supported: the server is modern, whatever it
// disliked (MCP 2026-07-28, versioning, "Backward Compatibility").
func modernAfterAll(e *rpc.Error) bool {
	return e.Code == rpc.CodeUnsupportedVersion && listsModern(e.Data, "supported")
}

func listsModern(data json.RawMessage, name string) bool {
	list, _ := jsonrpc.Get(data, name)
	var versions []string
	return json.Unmarshal(list, &versions) == nil && slices.Contains(versions, modernVersion)
}

// initializeCall is the request that opens a legacy connection on behalf of
// callers with these capabilities.
func initializeCall(caps rpc.Capabilities, version string) rpc.Call {
	params, _ := json.Marshal(map[string]any{ // strings always marshal
		"protocolVersion": version,
		"capabilities":    caps.JSON(),
		"clientInfo":      ourselves(),
	})
	return rpc.Call{Method: methodInitialize, Params: params}
}

// readInitialize reads an InitializeResult; said is its beginning, fit to be
// quoted. The error is an [*OpenError].
func readInitialize(result json.RawMessage, said string) (Peer, error) {
	version := jsonrpc.GetString(result, "protocolVersion")
	if version == "" {
		return Peer{}, &OpenError{Permanent: true,
			Err: fmt.Errorf("initialize was answered without a protocol version: %s", said)}
	}
	if !slices.Contains(legacyVersions, version) {
		return Peer{}, &OpenError{Permanent: true,
			Err: fmt.Errorf("no common protocol version: the server wants %.20q, we speak %s and %s",
				version, modernVersion, legacyVersion)}
	}
	return Peer{
		Name:     jsonrpc.GetString(result, "serverInfo", "name"),
		Version:  jsonrpc.GetString(result, "serverInfo", "version"),
		Protocol: version,
		Era:      Legacy,
		Hello:    result,
	}, nil
}

// initializeRefused says what a JSON-RPC error in answer to initialize means;
// said is its text, fit to be quoted. given tells that the era was given to
// Open and not asked for just now.
func initializeRefused(e *rpc.Error, said string, given bool) *OpenError {
	wrong := given && knowsNoInitialize(e)
	return &OpenError{Permanent: !wrong, WrongEra: wrong,
		Err: fmt.Errorf("the server refused initialize: %s", said)}
}

// knowsNoInitialize reports whether the error is one that a modern server
// gives to initialize: the method is unknown, and the request lacks the
// version and what else modern ones carry (MCP 2026-07-28, versioning,
// "Compatibility Matrix").
func knowsNoInitialize(e *rpc.Error) bool {
	switch e.Code {
	case rpc.CodeMethodNotFound, rpc.CodeInvalidParams, rpc.CodeUnsupportedVersion, rpc.CodeHeaderMismatch:
		return true
	}
	return false
}

// initializedFrame is the notification that ends a legacy opening.
func initializedFrame() []byte { return jsonrpc.AppendRequest(nil, nil, methodInitialized, nil) }

// settled returns what an error of an exchange means on a connection whose
// version is agreed on: refused for its version, the server has changed its
// era, and the connection is of no more use.
func settled(err error) error {
	var e *rpc.Error
	if errors.As(err, &e) && e.Code == rpc.CodeUnsupportedVersion {
		return &Failure{Fate: Refused, Dead: true, WrongEra: true,
			Err: fmt.Errorf("the server no longer speaks the version agreed on: %s", excerpt([]byte(e.Message)))}
	}
	return err
}

// checkCall is the request that asks for a sign of life: modern servers have
// no ping.
func checkCall(era Era) rpc.Call {
	if era == Modern {
		return rpc.Call{Method: methodDiscover}
	}
	return rpc.Call{Method: methodPing}
}

// checked reads the answer to checkCall. A server that answers ping with an
// error is alive.
func checked(err error) error {
	err = settled(err)
	if answered := (*rpc.Error)(nil); errors.As(err, &answered) {
		return nil
	}
	return err
}
