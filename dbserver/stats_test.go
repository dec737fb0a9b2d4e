package dbserver

import (
	"context"
	"maps"
	"testing"
	"testing/synctest"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
	"github.com/mcpool-dev/mcpool/rpc"
)

// open has an engine say how many connections are open.
type open struct {
	engine.Database
	connections int
}

func (o open) Open() int { return o.connections }

func TestStats(t *testing.T) { synctest.Test(t, testStats) }

func testStats(t *testing.T) {
	arrived, free := make(chan struct{}), make(chan struct{})
	s := serveFake(t, Options{}, Database{Name: "a", MaxConnections: 2, MaxRows: 10}, func(ctx context.Context, s engine.Statement, out *result.Writer) error {
		switch s.SQL {
		case "wait":
			arrived <- struct{}{}
			select {
			case <-free:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		case "fail":
			return &engine.Error{Code: engine.SyntaxError, Message: "no"}
		case "time":
			return engine.ErrTimeout
		}
		numbers(out, 25)
		return nil
	})
	d := s.databases[0]
	turns := d.engine.(inTurns)
	turns.Database = open{turns.Database, 7}
	d.engine = turns
	ctx, cancel := context.WithCancel(t.Context())
	do := func(ctx context.Context, sql, who string) {
		c := mcptest.CallTool("read_data", map[string]string{"query": sql})
		c.Caller = rpc.Caller{Principal: who}
		_, _ = s.Do(ctx, c)
	}
	for _, sql := range []string{"rows", "fail", "fail", "time"} {
		do(ctx, sql, "a")
		synctest.Wait() // what is behind a page is still being read
	}
	done := make(chan struct{})
	for i, who := range []string{"a", "b", "c"} {
		go func() { defer func() { done <- struct{}{} }(); do(ctx, "wait", who) }()
		if i < 2 {
			<-arrived
		}
	}
	synctest.Wait()
	got := s.Stats()[0]
	statements := map[string]uint64{"ok": 1, "syntax_error": 2, "statement_timeout": 1}
	if got.Database != "a" || got.MaxConnections != 2 || got.Open != 7 || got.InUse != 2 || got.Waiting != 1 || got.Waited != 1 ||
		got.SpooledRows != 15 || !maps.Equal(got.Statements, statements) {
		t.Errorf("got %+v", got)
	}
	close(free)
	<-arrived // the third
	for range 3 {
		<-done
	}
	cancel()
	got = s.Stats()[0]
	if got.InUse != 0 || got.Waiting != 0 || got.Waited != 1 || got.Statements["ok"] != 4 {
		t.Errorf("afterwards %+v", got)
	}
}
