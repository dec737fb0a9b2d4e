package rpc

import "strings"

// Keys of the trace context in params._meta (MCP 2026-07-28, basic, "_meta"; it
// is used in the legacy era, too). Headers of HTTP have the same names.
const (
	TraceParentKey  = "traceparent"
	TraceStateKey   = "tracestate"
	TraceBaggageKey = "baggage"
)

// Most bytes of what is carried: of a tracestate, 512 have to be (W3C Trace
// Context, 3.3.1.5), and 8192 of a baggage (W3C Baggage, 3.3.2).
const (
	maxTraceState   = 512
	maxTraceBaggage = 8192
)

// A Trace is the trace that a call is part of, in the words of W3C Trace Context
// and W3C Baggage. It is not modified once it is made.
type Trace struct {
	Parent  string // the traceparent; "" for none
	State   string // the tracestate, which only a Parent can have; "" for none
	Baggage string // "" for none
}

// ReadTrace returns what of these values can be carried, in a header also, or
// nil if there is nothing: a Parent of version 00 with ids that are not zero,
// and of the others what is printable ASCII and not too long.
func ReadTrace(parent, state, baggage string) *Trace {
	var t Trace
	if isTraceParent(parent) {
		t.Parent = parent
		if isPrintable(state, maxTraceState) {
			t.State = state
		}
	}
	if isPrintable(baggage, maxTraceBaggage) {
		t.Baggage = baggage
	}
	if t == (Trace{}) {
		return nil
	}
	return &t
}

// isTraceParent reports whether a value is a traceparent of version 00 (W3C
// Trace Context, 3.2).
func isTraceParent(s string) bool {
	const zeros = "00000000000000000000000000000000"
	if len(s) != len("00-")+32+1+16+len("-00") || s[:3] != "00-" || s[35] != '-' || s[52] != '-' {
		return false
	}
	trace, span, flags := s[3:35], s[36:52], s[53:]
	return isHex(trace) && isHex(span) && isHex(flags) && trace != zeros && span != zeros[:16]
}

func isHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }

func isPrintable(s string, most int) bool {
	return len(s) <= most && strings.IndexFunc(s, func(c rune) bool { return c < ' ' || c > '~' }) < 0
}
