package transport

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

// maxRounds bounds how often a modern server may ask for input before it
// answers one call: one that never has enough is not to hold its caller.
const maxRounds = 16

// withInput makes a call, and again with what a modern server asks of the
// caller before it answers (MCP 2026-07-28, "Multi Round-Trip Requests"): so
// to the caller it is the request of a legacy server during the call. A
// caller that makes the rounds itself, or can answer nothing, gets the server's
// question as the result, to go on as it likes. Errors are as settled has them.
func withInput(ctx context.Context, call rpc.Call, once func(rpc.Call) (json.RawMessage, error)) (json.RawMessage, error) {
	asked := false
	for range maxRounds {
		result, err := once(call)
		err = settled(err)
		if asked {
			err = hasRun(err)
		}
		if err != nil || call.MultiRound || answerable(call) == (rpc.Capabilities{}) ||
			jsonrpc.GetString(result, "resultType") != "input_required" {
			return result, err
		}
		if call.Params, err = answerInput(ctx, call, result); err != nil {
			return nil, err
		}
		asked = true
	}
	return nil, &Failure{Fate: MayHaveRun, Err: fmt.Errorf("the server has asked for input %d times and not answered %s", maxRounds, call.Method)}
}

// hasRun is the error of a later round: what came before has run, whatever
// became of that one. Turned away unread for its headers, it is not to be made
// again from the beginning either.
func hasRun(err error) error {
	failure, answered := (*Failure)(nil), (*rpc.Error)(nil)
	switch {
	case errors.As(err, &failure):
		failure.Fate = MayHaveRun
	case errors.As(err, &answered) && answered.Code == rpc.CodeHeaderMismatch:
		return &Failure{Fate: MayHaveRun, Err: fmt.Errorf("the server refused the answer to what it asks: %v", answered)}
	}
	return err
}

// answerable is which requests of a server the caller of a call can answer.
func answerable(call rpc.Call) rpc.Capabilities {
	if call.Events == nil && !call.MultiRound {
		return rpc.Capabilities{}
	}
	return call.Caller.Capabilities
}

// answerInput has the caller answer what the result asks for, in the order of
// the keys, and returns the params of the next round. What the caller has
// no answer to ends the call.
func answerInput(ctx context.Context, call rpc.Call, result json.RawMessage) (json.RawMessage, error) {
	var asked struct {
		InputRequests map[string]struct {
			Method string
			Params json.RawMessage
		}
	}
	failed := func(format string, args ...any) error {
		return &Failure{Fate: MayHaveRun, Err: fmt.Errorf(format, args...)}
	}
	if err := json.Unmarshal(result, &asked); err != nil {
		return nil, failed("the server asks for input that cannot be read: %w", err)
	}
	state, stateful := jsonrpc.Get(result, "requestState")
	if len(asked.InputRequests) == 0 && !stateful {
		return nil, failed("the server asks for input and does not say which")
	}
	params := jsonrpc.Delete(jsonrpc.Delete(call.Params, "inputResponses"), "requestState")
	answers := make(map[string]json.RawMessage, len(asked.InputRequests))
	for _, key := range slices.Sorted(maps.Keys(asked.InputRequests)) {
		request := asked.InputRequests[key]
		if e := undeclared(call.Caller.Capabilities, request.Method, request.Params); e != nil {
			return nil, failed("the server asks for what was not declared: %v", e)
		}
		answer, err := call.Events.Ask(ctx, request.Method, request.Params)
		switch {
		case ctx.Err() != nil:
			return nil, failed("%w", context.Cause(ctx))
		case err != nil: // %v: an error of the caller's is no answer of the server's
			return nil, failed("the server asks for %s, and there is no answer: %v", request.Method, err)
		case jsonrpc.ValidObject(answer) != nil:
			return nil, failed("the server asks for %s, and the answer is no object", request.Method)
		}
		answers[key] = answer
	}
	var err error
	if len(answers) > 0 {
		all, _ := json.Marshal(answers) // they are valid
		if params, err = jsonrpc.Set(params, all, "inputResponses"); err != nil {
			return nil, badParams(err)
		}
	}
	if stateful {
		if params, err = jsonrpc.Set(params, state, "requestState"); err != nil {
			return nil, badParams(err)
		}
	}
	return params, nil
}
