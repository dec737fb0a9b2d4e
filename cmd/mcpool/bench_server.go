package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpool-dev/mcpool/rpc"
)

const (
	benchTool  = "read_data" // what is called
	benchCount = 50_000      // what it must find in the sample database
)

var benchArguments = json.RawMessage(`{"query":"select count(*) from sales"}`)

// checkCount checks the structured content of what benchTool answered.
func checkCount(structured any) error {
	raw, err := json.Marshal(structured)
	if err != nil {
		return err
	}
	var result struct{ Rows [][]int }
	if json.Unmarshal(raw, &result) != nil || len(result.Rows) != 1 || !slices.Equal(result.Rows[0], []int{benchCount}) {
		return fmt.Errorf("wrong answer: want one row with %d, got %.200s", benchCount, raw)
	}
	return nil
}

// warmDatabase makes the call once, so that no contender pays for opening the
// database, and returns the database's tools.
func warmDatabase(ctx context.Context, db rpc.Handler) ([]*mcp.Tool, error) {
	result, err := callDatabase(ctx, db, benchTool, benchArguments)
	if err != nil {
		return nil, err
	}
	if err := checkCount(result.StructuredContent); err != nil {
		return nil, fmt.Errorf("sample database: %w", err)
	}
	answer, err := db.Do(ctx, rpc.Call{Method: "tools/list"})
	if err != nil {
		return nil, err
	}
	var list mcp.ListToolsResult
	err = json.Unmarshal(answer.Bytes(), &list)
	return list.Tools, err
}

// callDatabase calls a tool of the database, and reads what it answered as the
// SDK has it.
func callDatabase(ctx context.Context, db rpc.Handler, tool string, arguments json.RawMessage) (*mcp.CallToolResult, error) {
	params, err := json.Marshal(&mcp.CallToolParamsRaw{Name: tool, Arguments: arguments})
	if err != nil {
		return nil, err
	}
	answer, err := db.Do(ctx, rpc.Call{Method: "tools/call", Params: params})
	if err != nil {
		return nil, err
	}
	result := new(mcp.CallToolResult)
	return result, json.Unmarshal(answer.Bytes(), result)
}

// A benchServer is a database server that answers as slowly as a remote one.
// It is the official SDK's, with sessions, on a port of its own on loopback,
// and counts what it is asked for.
type benchServer struct {
	url                  string
	openDelay, callDelay time.Duration

	opened atomic.Int64 // connections, by their initialize requests

	mu    sync.Mutex
	times []seconds // what calls took in here
	late  seconds   // the most that a delay was longer than it should be

	life   context.Context // ends with close, and all delays with it
	end    context.CancelFunc
	mcp    *mcp.Server
	http   *http.Server
	served chan error // what came of serving
}

func startBenchServer(db rpc.Handler, tools []*mcp.Tool, openDelay, callDelay time.Duration) (*benchServer, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &benchServer{
		url:       "http://" + listener.Addr().String(),
		openDelay: openDelay,
		callDelay: callDelay,
		mcp:       mcp.NewServer(&mcp.Implementation{Name: "mcpool-bench", Version: version()}, nil),
		served:    make(chan error, 1),
	}
	s.life, s.end = context.WithCancel(context.Background())
	for _, tool := range tools {
		s.mcp.AddTool(tool, func(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			return callDatabase(ctx, db, r.Params.Name, r.Params.Arguments)
		})
	}
	s.mcp.AddReceivingMiddleware(s.slowly)
	s.http = &http.Server{
		Handler:           mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s.mcp }, nil),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	go func() { s.served <- s.http.Serve(listener) }()
	return s, nil
}

// slowly delays what a remote server is slow at, and counts it.
func (s *benchServer) slowly(next mcp.MethodHandler) mcp.MethodHandler {
	return func(ctx context.Context, method string, r mcp.Request) (mcp.Result, error) {
		switch method {
		case "initialize":
			s.opened.Add(1)
			if err := s.delay(ctx, s.openDelay); err != nil {
				return nil, err
			}
		case "tools/call":
			start := time.Now()
			defer func() {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.times = append(s.times, since(start))
			}()
			if err := s.delay(ctx, s.callDelay); err != nil {
				return nil, err
			}
		}
		return next(ctx, method, r)
	}
}

func (s *benchServer) delay(ctx context.Context, d time.Duration) error {
	start := time.Now()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		s.mu.Lock()
		defer s.mu.Unlock()
		s.late = max(s.late, since(start)-seconds(d))
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-s.life.Done():
		return errors.New("the server is closed")
	}
}

// lateness tells how busy the machine was: the most that a delay was longer
// than it should be.
func (s *benchServer) lateness() seconds {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.late
}

// callTimes returns what the calls so far took inside the server.
func (s *benchServer) callTimes() []seconds {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.times)
}

// close ends all sessions and waits until nothing is served any more.
func (s *benchServer) close() error {
	s.end()
	for session := range s.mcp.Sessions() {
		_ = session.Close() // of a client that is gone: there is nobody to tell
	}
	ctx, cancel := context.WithTimeout(context.Background(), benchCloseTimeout)
	defer cancel()
	err := errors.Join(s.http.Shutdown(ctx), s.http.Close())
	if served := <-s.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}
