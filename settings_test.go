package mcpool_test

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

// withSetting runs a test of what one variable does, on a pool that has its
// whole Config from the environment.
func withSetting(t *testing.T, variables map[string]string, test func(*testing.T, *server, *mcpool.Pool)) {
	t.Helper()
	for name, value := range variables {
		t.Setenv(name, value)
	}
	synctest.Test(t, func(t *testing.T) {
		config, err := mcpool.ConfigFromEnv()
		if err != nil {
			t.Fatal(err)
		}
		s := &server{}
		p := s.pool(t, func(c *mcpool.Config) { *c = config })
		test(t, s, p)
		closePool(t, p)
	})
}

// storm makes n calls at once that take a second each.
func storm(t *testing.T, p *mcpool.Pool, n int) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			if _, err := call(t.Context(), p, nobody, "sleep", fmt.Sprint(i), "ms", 1000); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

func TestSource_ConfigFromEnv_EightSettingsWithTheirDefaults(t *testing.T) {
	got, err := mcpool.ConfigFromEnv()
	if err != nil {
		t.Fatal(err)
	}
	want := mcpool.Config{
		MinConnections: 1, MaxConnections: 6, ConnectionTimeout: 35 * time.Second,
		IdleTimeout: 600 * time.Second, MaxConnectionAge: 7200 * time.Second,
		HealthCheckInterval: 300 * time.Second, RetryAttempts: 2, LazyInitialization: true, MaxWaiting: 10_000,
		LeakAfter: 600 * time.Second, Principal: "local",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestSetting_MCP_POOL_MIN_CONNECTIONS(t *testing.T) {
	withSetting(t, map[string]string{"MCP_POOL_MIN_CONNECTIONS": "3"}, func(t *testing.T, s *server, p *mcpool.Pool) {
		storm(t, p, 1)
		synctest.Wait()
		if n := p.Stats().Connections; n != 3 {
			t.Errorf("%d ready after first use, want 3", n)
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if n := p.Stats().Connections; n != 0 {
			t.Errorf("%d ready in a group that nobody uses, want 0", n)
		}
	})
}

func TestSetting_MCP_POOL_MAX_CONNECTIONS(t *testing.T) {
	withSetting(t, map[string]string{"MCP_POOL_MAX_CONNECTIONS": "2", "MCP_POOL_CALLS_PER_CONNECTION": "1"},
		func(t *testing.T, s *server, p *mcpool.Pool) {
			began := time.Now()
			storm(t, p, 6)
			if s.Sessions() != 2 || time.Since(began) != 3*time.Second {
				t.Errorf("%d sessions, took %v; want 2 and 3s", s.Sessions(), time.Since(began))
			}
		})
}

func TestSetting_MCP_POOL_CONNECTION_TIMEOUT(t *testing.T) {
	withSetting(t, map[string]string{"MCP_POOL_CONNECTION_TIMEOUT": "5.0"}, func(t *testing.T, s *server, p *mcpool.Pool) {
		s.network.SetDown(true)
		began := time.Now()
		_, err := call(t.Context(), p, nobody, "echo", "1")
		if took := time.Since(began); !errors.Is(err, mcpool.ErrAcquireTimeout) || !waitedOut(took, 5*time.Second) {
			t.Errorf("after %v: %v", took, err)
		}
	})
}

func TestSetting_MCP_POOL_IDLE_TIMEOUT(t *testing.T) {
	withSetting(t, map[string]string{"MCP_POOL_IDLE_TIMEOUT": "60"}, func(t *testing.T, s *server, p *mcpool.Pool) {
		storm(t, p, 1)
		time.Sleep(time.Minute - 1)
		synctest.Wait()
		if n := p.Stats().Closed[mcpool.ClosedIdle]; n != 0 {
			t.Errorf("%d closed too early", n)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if n := p.Stats().Closed[mcpool.ClosedIdle]; n != 1 || s.Open() != 0 {
			t.Errorf("%d closed, %d open on the server; want 1 and 0", n, s.Open())
		}
	})
}

func TestSetting_MCP_POOL_MAX_CONNECTION_AGE(t *testing.T) {
	withSetting(t, map[string]string{"MCP_POOL_MAX_CONNECTION_AGE": "1m"}, func(t *testing.T, s *server, p *mcpool.Pool) {
		storm(t, p, 1)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := p.Stats().Closed[mcpool.ClosedAge]; n != 1 || s.Sessions() != 2 {
			t.Errorf("%d closed at their age, %d sessions; want 1 replaced", n, s.Sessions())
		}
	})
}

func TestSetting_MCP_POOL_HEALTH_CHECK_INTERVAL(t *testing.T) {
	withSetting(t, map[string]string{"MCP_POOL_HEALTH_CHECK_INTERVAL": "10"}, func(t *testing.T, s *server, p *mcpool.Pool) {
		storm(t, p, 1)
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if n := s.Requests("ping"); n != 3 || p.Stats().HealthChecks != 3 {
			t.Errorf("%d pings in 30 s, want 3", n)
		}
		s.Expire()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if stats := p.Stats(); stats.HealthFailures != 1 || stats.Closed[mcpool.ClosedUnhealthy] != 1 || stats.Connections != 1 {
			t.Errorf("a lost session was not found and replaced: %+v", stats)
		}
	})
}

func TestSetting_MCP_POOL_RETRY_ATTEMPTS(t *testing.T) {
	for attempts, want := range map[string]int{"1": 1, "2": 2, "5": 5} {
		withSetting(t, map[string]string{"MCP_POOL_RETRY_ATTEMPTS": attempts}, func(t *testing.T, s *server, p *mcpool.Pool) {
			s.Fault = refuseSession
			_, err := call(t.Context(), p, nobody, "echo", "1")
			var failed *mcpool.Error
			if !errors.As(err, &failed) || failed.Attempts != want || s.Requests("tools/call") != want {
				t.Errorf("sent %d times: %v; want %d", s.Requests("tools/call"), err, want)
			}
		})
	}
}

func TestSetting_MCP_POOL_LAZY_INITIALIZATION(t *testing.T) {
	for lazy, want := range map[string]int{"true": 0, "false": 1, "True": 0, "0": 1} {
		withSetting(t, map[string]string{"MCP_POOL_LAZY_INITIALIZATION": lazy}, func(t *testing.T, s *server, p *mcpool.Pool) {
			synctest.Wait()
			if n := s.Sessions(); n != want {
				t.Errorf("%s: %d sessions before the first call, want %d", lazy, n, want)
			}
		})
	}
}

func TestSettingsThatMakeNoSense(t *testing.T) {
	for variable, values := range map[string][]string{
		"MCP_POOL_MIN_CONNECTIONS":       {"-1", "x", "1.5", "7"}, // 7 is more than the maximum of 6
		"MCP_POOL_MAX_CONNECTIONS":       {"0", "-1", "many", "99999999999999999999"},
		"MCP_POOL_CONNECTION_TIMEOUT":    {"0", "-1", "soon", "NaN", "Inf", "1e300"},
		"MCP_POOL_IDLE_TIMEOUT":          {"-0.5", "10 minutes"},
		"MCP_POOL_MAX_CONNECTION_AGE":    {"-1s", "old"},
		"MCP_POOL_HEALTH_CHECK_INTERVAL": {"-1", "often"},
		"MCP_POOL_RETRY_ATTEMPTS":        {"0", "-2", "2.0"},
		"MCP_POOL_LAZY_INITIALIZATION":   {"maybe", "2"},
		"MCP_POOL_SHARING":               {"everyone"},
		"MCP_POOL_MAX_CONNECTIONS_TOTAL": {"-1", "5"}, // 5 is less than the maximum of a group
		"MCP_POOL_CALLS_PER_CONNECTION":  {"-1", "?"},
		"MCP_POOL_MAX_WAITING":           {"-1", "?"},
		"MCP_POOL_MAX_CONNECTION_CALLS":  {"-1", "?"},
		"MCP_POOL_LEAK_AFTER":            {"-1", "late"},

		"MCP_POOL_MAX_CONNECTIONS_PER_PRINCIPAL": {"-1", "?"},
		"MCP_POOL_MAX_WAITING_PER_PRINCIPAL":     {"-1", "?"},
	} {
		for _, value := range values {
			t.Run(variable+"="+value, func(t *testing.T) {
				t.Setenv(variable, value)
				_, err := mcpool.ConfigFromEnv()
				if err == nil {
					t.Fatal("taken")
				}
				name := strings.ToLower(strings.TrimPrefix(variable, mcpool.EnvPrefix))
				if !strings.Contains(err.Error(), variable) && !strings.Contains(err.Error(), name) ||
					!strings.Contains(err.Error(), value) || !strings.Contains(err.Error(), "want") && !strings.Contains(err.Error(), "than") {
					t.Errorf("the error does not name the setting, the value and what is allowed: %v", err)
				}
			})
		}
	}
}

// TestTimesHaveAnUpperBound: a time that means never is 0, not the longest there
// is, with which sums overflow.
func TestTimesHaveAnUpperBound(t *testing.T) {
	for name, set := range map[string]func(*mcpool.Config){
		"connection_timeout":    func(c *mcpool.Config) { c.ConnectionTimeout = math.MaxInt64 },
		"idle_timeout":          func(c *mcpool.Config) { c.IdleTimeout = math.MaxInt64 },
		"max_connection_age":    func(c *mcpool.Config) { c.MaxConnectionAge = math.MaxInt64 },
		"health_check_interval": func(c *mcpool.Config) { c.HealthCheckInterval = math.MaxInt64 },
		"leak_after":            func(c *mcpool.Config) { c.LeakAfter = math.MaxInt64 },
		"calls_per_connection":  func(c *mcpool.Config) { c.CallsPerConnection = 65_536 },
	} {
		config := mcpool.DefaultConfig()
		set(&config)
		if err := config.Validate(); err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "at most") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNewRefusesAZeroConfig(t *testing.T) {
	_, err := mcpool.New(mcpool.Server{Name: "x", URL: "http://a"}, &mcpool.Config{})
	if err == nil || !strings.Contains(err.Error(), "DefaultConfig") {
		t.Errorf("got %v, want to be told where to start", err)
	}
}

func TestCallsPerConnectionHasADefaultForEachKind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for sharing, want := range map[mcpool.Sharing]int{"": 8, mcpool.ShareSession: 1} {
			s := &server{Server: mcptest.Server{}}
			p := s.pool(t, func(c *mcpool.Config) { c.Sharing = sharing })
			storm(t, p, 1)
			if n := p.Conns()[0].Slots(); n != want {
				t.Errorf("%q: %d slots, want %d", sharing, n, want)
			}
			closePool(t, p)
		}
	})
}
