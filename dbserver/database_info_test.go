package dbserver

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

func TestInfoOfABusyDatabaseDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		s := serveFakes(t, Options{Databases: []Database{{Name: "shop", MaxConnections: 1, AcquireTimeout: time.Minute}}}, &fakeEngine{
			read: takes(func(string) {}),
			info: func(context.Context) (engine.Info, error) {
				asked++
				return engine.Info{Engine: "fake", Version: "7", Status: "ready", Pool: map[string]int64{}, Proof: &engine.Proof{Verified: true}}, nil
			}})
		ask := func() (info databaseInfo) {
			t.Helper()
			start := time.Now()
			if err := json.Unmarshal(call(t, s, "database_info", object{}).structured, &info); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(start); took > 0 {
				t.Errorf("it took %v", took)
			}
			return info
		}
		busy := func(check func(info databaseInfo)) {
			var running sync.WaitGroup
			for range 2 {
				running.Go(func() { call(t, s, "read_data", object{"query": "SELECT 1"}) })
			}
			synctest.Wait()
			info := ask()
			if info.Status != "busy" || info.Pool["in_use"] != 1 || info.Pool["waiting"] != 1 || info.Pool["open"] != 1 || info.Pool["max_connections"] != 1 {
				t.Errorf("got %+v", info)
			}
			check(info)
			running.Wait()
		}
		busy(func(info databaseInfo) {
			if info.Engine != "sqlite" || info.Version != "" || info.ReadOnly != nil {
				t.Errorf("before anything was known: got %+v", info)
			}
		})
		if info := ask(); info.Status != "ready" || info.Version != "7" {
			t.Errorf("got %+v", info)
		}
		busy(func(info databaseInfo) {
			if info.Engine != "fake" || info.Version != "7" || info.ReadOnly == nil {
				t.Errorf("what was known is not told: %+v", info)
			}
		})
		if asked != 1 {
			t.Errorf("the database was asked %d times", asked)
		}
	})
}

func TestInfoAsksDatabasesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silent := &fakeEngine{info: func(ctx context.Context) (engine.Info, error) {
			<-ctx.Done()
			return engine.Info{Engine: "fake"}, context.Cause(ctx)
		}}
		ready := &fakeEngine{info: func(context.Context) (engine.Info, error) {
			time.Sleep(time.Second)
			return engine.Info{Engine: "fake", Status: "ready"}, nil
		}}
		s := serveFakes(t, Options{Databases: []Database{{Name: "a"}, {Name: "b"}, {Name: "c"}, {Name: "d"}}}, silent, ready, silent, ready)
		start := time.Now()
		var told struct{ Databases []databaseInfo }
		if err := json.Unmarshal(call(t, s, "database_info", object{}).structured, &told); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != infoTime {
			t.Errorf("it took %v", took)
		}
		got := ""
		for _, d := range told.Databases {
			got += d.Database + " " + d.Status + " " + d.LastError + ";"
			if d.Status == "down" && d.Pool == nil {
				t.Errorf("%s has no pool", d.Database)
			}
		}
		if got != "a down it did not answer in 3s;b ready ;c down it did not answer in 3s;d ready ;" {
			t.Errorf("got %s", got)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := tryAs(ctx, s, "", "database_info", object{"database": "a"}); err == nil {
			t.Error("the caller's own end was taken for that of the database")
		}
	})
}
