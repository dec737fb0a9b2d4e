package mcpool_test

import (
	"context"
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
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			if _, err := call(ctx, p, nobody, "echo", "1"); err == nil || !strings.Contains(err.Error(), "sh: sh has") {
				t.Errorf("got %v", err)
			}
		})
	}
	callers.Wait()
	closePool(t, p)
	text, err := os.ReadFile(starts)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), "\n"); n < 4 || n > 80 {
		t.Errorf("it was started %d times", n)
	} else {
		t.Logf("it was started %d times", n)
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
