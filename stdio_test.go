package mcpool_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

// A server that exits as soon as it is started is started again with back-off:
// each pause is drawn from up to 50 ms, 100 ms and so on, at most 500 ms while
// callers wait. That is about ten tries in a second and a half, after one for
// each of the openings that may begin at once; and each try starts it twice, as
// long as the era is not known. Without pauses it is started hundreds of times.
func TestServerThatExitsAtOnceIsRestartedWithBackOff(t *testing.T) {
	before := look(t)
	starts := filepath.Join(t.TempDir(), "starts")
	config := mcpool.DefaultConfig()
	config.Sharing = mcpool.ShareAll
	p, err := mcpool.New(mcpool.Server{Name: "child", Command: "/bin/sh", Args: []string{"-c", `echo >>"$0"`, starts}}, &config)
	if err != nil {
		t.Fatal(err)
	}
	n, rounds := 0, 0
	var last error
	for n < 4 { // the first take longer where the machine is busy
		if rounds++; rounds > 20 {
			t.Fatalf("it was started %d times: %v", n, last)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		var callers sync.WaitGroup
		for i := range 8 {
			callers.Go(func() {
				_, err := call(ctx, p, nobody, "echo", "1")
				if err == nil {
					t.Error("a call was answered")
				}
				if i == 0 {
					last = err
				}
			})
		}
		callers.Wait()
		cancel()
		text, _ := os.ReadFile(starts) // it is made by the first
		n = strings.Count(string(text), "\n")
	}
	closePool(t, p)
	if !strings.Contains(fmt.Sprint(last), "sh: sh has") {
		t.Errorf("callers are told %v", last)
	}
	if n > 80*rounds {
		t.Errorf("it was started %d times in %d rounds", n, rounds)
	} else {
		t.Logf("it was started %d times in %d rounds", n, rounds)
	}
	leavesNothing(t, before)
}

// CloseGrace is the time between the end of the input and SIGTERM, and between
// SIGTERM and SIGKILL.
func TestCloseGraceIsTheServers(t *testing.T) {
	for name, test := range map[string]struct {
		grace, least time.Duration
	}{
		"given":      {450 * time.Millisecond, 900 * time.Millisecond},
		"by default": {0, 600 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path, args, env := mcptest.Child(mcptest.Stubborn)
			config := mcpool.DefaultConfig()
			p, err := mcpool.New(mcpool.Server{Name: "child", Command: path, Args: args, Env: env, CloseGrace: test.grace}, &config)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := call(t.Context(), p, nobody, "echo", "1"); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			closePool(t, p)
			if took := time.Since(began); took < test.least || took > test.least+30*time.Second {
				t.Errorf("Close took %v, want %v", took, test.least)
			}
		})
	}
}
