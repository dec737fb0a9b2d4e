package gateway

import (
	"encoding/json"
	"slices"
	"strings"
	"sync"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

// logLevels are the severities of log messages, the least severe first
// (MCP 2026-07-28, server/utilities/logging "Log Levels").
var logLevels = []string{"debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"}

// noLog is more severe than every log message. defaultLevel is that of a legacy
// client that has set none.
const (
	noLog        = 1 << 10
	defaultLevel = "info"
)

// logLevel returns the rank of a severity, and noLog for what is none.
func logLevel(name string) int {
	if i := slices.Index(logLevels, name); i >= 0 {
		return i
	}
	return noLog
}

func unknownLevel(where, level string) *rpc.Error {
	return rpc.Errorf(rpc.CodeInvalidParams, "%s is %q: want one of %s", where, level, strings.Join(logLevels, ", "))
}

// setLevel answers logging/setLevel of a legacy client: it is for the calls of
// its session alone.
func (q *request) setLevel() (json.RawMessage, error) {
	level := jsonrpc.GetString(q.params, "level")
	if logLevel(level) == noLog {
		return nil, unknownLevel("params.level", level)
	}
	q.gateway.levels.set(q.session.name, logLevel(level))
	return json.RawMessage("{}"), nil
}

// maxLevels bounds the sessions whose log level is remembered; beyond it the
// one that was set first is forgotten.
const maxLevels = 1 << 14

// levels are the log levels that legacy sessions have set.
type levels struct {
	mu sync.Mutex // guards of
	of recent[int]
}

func (l *levels) set(session string, level int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.of.set(session, level)
}

func (l *levels) get(session string) (level int, set bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.of.get(session)
}
