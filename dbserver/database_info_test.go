package dbserver

import (
	"context"
	"encoding/json"
	"fmt"
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

// TestMoreConnectionsThanTheServerTakesAreFound is about databases of one
// server, whose connections count together.
func TestMoreConnectionsThanTheServerTakesAreFound(t *testing.T) {
	info := func(context.Context) (engine.Info, error) {
		return engine.Info{Status: "ready", MaxConnections: 20, Pool: map[string]int64{}}, nil
	}
	shop, crm := "mysql://a:b@db.example:3306/shop", "mariadb://c:d@DB.example:3306/crm"
	for _, c := range []struct {
		databases []Database
		opens     int // zero for no finding
	}{
		{[]Database{{DSN: shop}}, 0},
		{[]Database{{DSN: shop, MaxConnections: 18}}, 0},
		{[]Database{{DSN: shop, MaxConnections: 19}}, 21},
		{[]Database{{DSN: shop, MaxConnections: 10, Mode: Write}}, 22},
		{[]Database{{Name: "a", DSN: shop}, {Name: "b", DSN: crm}}, 0},
		{[]Database{{Name: "a", DSN: shop, MaxConnections: 9}, {Name: "b", DSN: crm}}, 21},
		{[]Database{{Name: "a", DSN: shop, MaxConnections: 9}, {Name: "b", DSN: "mysql://a:b@other.example:3306/shop"}}, 0},
		{[]Database{{Name: "a", DSN: shop, MaxConnections: 9}, {Name: "b", DSN: "x.db"}}, 0},
	} {
		var fakes []*fakeEngine
		for range c.databases {
			fakes = append(fakes, &fakeEngine{info: info})
		}
		s := serveFakes(t, Options{Databases: c.databases}, fakes...)
		var told databaseInfo
		args := object{}
		if len(c.databases) > 1 {
			args["database"] = "a"
		}
		if err := json.Unmarshal(call(t, s, "database_info", args).structured, &told); err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("the server takes 20 connections, and the pools of the databases on it may have %d", c.opens)
		if found := len(told.Findings) == 1 && told.Findings[0].Message == want; found != (c.opens > 0) || !found && len(told.Findings) > 0 {
			t.Errorf("%+v: got %+v", c.databases, told.Findings)
		}
	}
}
