package rpc

import "encoding/json"

// Capabilities says which requests of a server a caller can answer while its
// call runs; it is asked no others. A legacy connection declares them when it
// is opened, so only callers with equal capabilities share one.
type Capabilities struct {
	Roots bool // roots/list
	// Sampling is sampling/createMessage, SamplingTools that with tools, and
	// SamplingContext that with the context of other servers. The two mean
	// nothing without Sampling.
	Sampling, SamplingTools, SamplingContext bool
	// Elicitation is elicitation/create by a form, ElicitationURL by sending the
	// user to a URL.
	Elicitation, ElicitationURL bool
}

// ReadCapabilities reads the capabilities object of a client, of either era
// (MCP 2025-11-25 and 2026-07-28, ClientCapabilities). What is not known, or is
// not an object, counts as not declared. An elicitation that names no mode is
// by form, as it was before there were modes.
func ReadCapabilities(raw json.RawMessage) Capabilities {
	declared := members(raw)
	sampling, elicitation := members(declared["sampling"]), members(declared["elicitation"])
	has := func(object map[string]json.RawMessage, name string) bool { return members(object[name]) != nil }
	byURL := has(elicitation, "url")
	return Capabilities{
		Roots:           has(declared, "roots"),
		Sampling:        sampling != nil,
		SamplingTools:   has(sampling, "tools"),
		SamplingContext: has(sampling, "context"),
		Elicitation:     elicitation != nil && (!byURL || has(elicitation, "form")),
		ElicitationURL:  byURL,
	}
}

// members are those of an object; nil if raw is none.
func members(raw json.RawMessage) map[string]json.RawMessage {
	var object map[string]json.RawMessage
	if json.Unmarshal(raw, &object) != nil {
		return nil
	}
	return object
}

// JSON returns the capabilities as a client declares them, the same in either
// era: what [ReadCapabilities] reads.
func (c Capabilities) JSON() json.RawMessage {
	if c == (Capabilities{}) {
		return json.RawMessage("{}") // nearly always
	}
	type object map[string]struct{}
	declared := map[string]object{}
	declare := func(name string, has bool, modes object) {
		if has {
			declared[name] = modes
		}
	}
	sampling := object{}
	if c.SamplingTools {
		sampling["tools"] = struct{}{}
	}
	if c.SamplingContext {
		sampling["context"] = struct{}{}
	}
	elicitation := object{} // form alone, also to servers that know no modes
	if c.ElicitationURL {
		elicitation["url"] = struct{}{}
		if c.Elicitation {
			elicitation["form"] = struct{}{}
		}
	}
	declare("roots", c.Roots, object{})
	declare("sampling", c.Sampling, sampling)
	declare("elicitation", c.Elicitation || c.ElicitationURL, elicitation)
	raw, _ := json.Marshal(declared) // strings always marshal
	return raw
}
