package dbserver

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

// A request is a call of a tool on a database.
type request struct {
	server    *Server
	*database // nil for a tool that is about all
	args      arguments
	raw       json.RawMessage // the arguments as they came
	call      rpc.Call
	who       engine.Caller
	rows      int64 // returned or affected, for the audit
}

// callTool serves tools/call.
func (s *Server) callTool(ctx context.Context, call rpc.Call) (rpc.Answer, error) {
	name := jsonrpc.GetString(call.Params, "name")
	tool, ok := s.tools.tools[name]
	if !ok {
		return rpc.Answer{}, rpc.Errorf(rpc.CodeInvalidParams, "unknown tool %q", name)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(s.life, func() { cancel(ErrClosed) })()

	start := time.Now()
	r := &request{server: s, call: call, database: tool.database, who: engine.Caller{Principal: call.Caller.Principal, Tool: name}}
	r.raw, _ = jsonrpc.Get(call.Params, "arguments")
	err := tool.readArguments(r)
	if err == nil && r.database == nil && (r.args.Database != "" || !tool.anyDatabase || len(s.databases) == 1) {
		r.database, err = s.choose(r.args.Database)
	}
	if err == nil {
		err = r.bindParams()
	}
	var result []byte
	if err == nil {
		result, err = tool.serve(r, ctx)
	}
	code := ""
	if err != nil {
		told, err := explain(ctx, r, err)
		if err != nil {
			return rpc.Answer{}, errors.Join(fmt.Errorf("%s: %w", name, err), r.endAudit(verdictCancelled, time.Since(start)))
		}
		code = told.Code
		if result, err = errorResult(told); err != nil {
			return rpc.Answer{}, err
		}
	}
	if err := r.endAudit(cmp.Or(code, verdictOK), time.Since(start)); err != nil {
		return rpc.Answer{}, fmt.Errorf("%s: %w", name, err)
	}
	s.log.Debug("tool called", slog.String(keyDatabase, r.args.Database), slog.String(keyTool, name),
		slog.String(keyCode, code), slog.Duration(keyElapsed, time.Since(start)))
	return rpc.Result(result), nil
}

// choose returns the database of a name, the only one for no name.
func (s *Server) choose(name string) (*database, error) {
	var names []string
	for _, d := range s.databases {
		if d.Name == name || name == "" && len(s.databases) == 1 {
			return d, nil
		}
		names = append(names, d.Name)
	}
	return nil, &engine.Error{Code: engine.UnknownDatabase, Layer: engine.LayerInput,
		Message: fmt.Sprintf("no database is called %q", name), DidYouMean: engine.Near(name, names),
		Next: "call database_info for the names of databases"}
}

// explain turns the error of a call into what its caller is told. The error is
// returned as it is if the caller's own ctx ended: then nobody reads an answer.
func explain(ctx context.Context, r *request, err error) (*engine.Error, error) {
	var told *engine.Error
	if errors.As(err, &told) {
		return told, nil
	}
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, ErrClosed), errors.Is(err, ErrClosed): // which a statement can be told of before ctx
		return &engine.Error{Code: engine.Cancelled, Layer: engine.LayerPool, Retryable: true,
			Message: "the database server was stopped before the call ended", Next: "try again"}, nil
	case cause != nil:
		return nil, cause
	case errors.Is(err, engine.ErrTimeout):
		return &engine.Error{Code: engine.StatementTimeout, Layer: engine.LayerEngine,
			Message: fmt.Sprintf("the statement ran longer than %v and was ended", r.timeout()),
			Next:    "read less: filter, join on keys and indexed columns, or aggregate over fewer rows"}, nil
	}
	return nil, err
}

// timeout is how long the statement of the request may run: as the caller says,
// up to what the database allows.
func (r *request) timeout() time.Duration {
	if r.args.Timeout == 0 {
		return r.Timeout
	}
	return min(time.Duration(r.args.Timeout)*time.Millisecond, r.Timeout)
}
