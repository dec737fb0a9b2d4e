package transport

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

// The hazards of children, beside those of hazard_test.go. Each test asserts
// what the call that met the fault gets, that a call in flight beside it
// finishes where the child lives, that the next call succeeds, how long all of
// it takes, and that no goroutine, process or file stays.

// soon bounds what takes a moment, on a machine that has much else to do.
const soon = 30 * time.Second

// testLimit is what a message may be large in these tests.
const testLimit = 1 << 20

// leavesNothing checks after all else that the test has left nothing.
func leavesNothing(t *testing.T) {
	t.Helper()
	goroutines := goleak.IgnoreCurrent()
	before := openFiles(t)
	t.Cleanup(func() {
		mcptest.VerifyNone(t, goroutines)
		// The other end of a socket, in this process, too, is closed a moment
		// later; so may some be that an earlier test has left.
		after := openFiles(t)
		for end := time.Now().Add(soon); after > before && time.Now().Before(end); after = openFiles(t) {
			time.Sleep(time.Millisecond)
		}
		if after > before {
			t.Errorf("%d files are open, %d were before", after, before)
		}
	})
}

func openFiles(t testing.TB) int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("needs /proc")
	}
	return len(files)
}

// stdioOf returns the endpoint of a child of an era.
func stdioOf(t testing.TB, era Era, mode string, changes ...func(*Command)) *Endpoint {
	t.Helper()
	return stdioWith(t, func(c *Command) {
		if era == Modern {
			c.Inherited = append(c.Inherited, mcptest.SpeakModern)
		}
		for _, change := range changes {
			change(c)
		}
	}, mode)
}

// onStdio tests children of both eras.
func onStdio(t *testing.T, test func(t *testing.T, era Era)) {
	t.Helper()
	for _, era := range bothEras {
		t.Run(era.String(), func(t *testing.T) {
			leavesNothing(t)
			test(t, era)
		})
	}
}

// isGone checks that nothing is left of the child of a connection. What was
// killed is off the list of processes a moment later, and nobody tells us.
func isGone(t testing.TB, conn Conn) {
	t.Helper()
	group := conn.(*stdioConn).child.Process.Pid
	for deadline := time.Now().Add(soon); groupSize(t, group) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d processes are left", groupSize(t, group))
		}
	}
}

// misbehaving is a call that is answered in such a way.
func misbehaving(how string, steps int, patience time.Duration) func(*testing.T, Conn) ([]byte, error) {
	return func(t *testing.T, conn Conn) ([]byte, error) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		return call(ctx, conn, "misbehave", args{"id": "faulty", "text": how, "steps": steps})
	}
}

func TestHazardStdioCall(t *testing.T) { onStdio(t, hazardStdioCall) }

func hazardStdioCall(t *testing.T, era Era) {
	const quick, patience = time.Second, 2 * soon
	large := strings.Repeat("x", testLimit)
	answered := func(text string) func(*testing.T, []byte, error) {
		return func(t *testing.T, result []byte, err error) {
			t.Helper()
			if err != nil || !strings.Contains(string(result), `"text":"`+text+`"`) {
				t.Errorf("got %.200s, %v", result, err)
			}
		}
	}
	failed := func(check func(*testing.T, error)) func(*testing.T, []byte, error) {
		return func(t *testing.T, _ []byte, err error) { t.Helper(); check(t, err) }
	}
	timeIsUp := func(fate Fate) func(*testing.T, []byte, error) {
		return func(t *testing.T, _ []byte, err error) {
			t.Helper()
			if wantFailure(t, err, fate, false); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v, want that its time is up", err)
			}
		}
	}
	tooLarge := failed(fails(MayHaveRun, false, "too large"))
	for name, test := range map[string]struct {
		call  func(*testing.T, Conn) ([]byte, error)
		check func(*testing.T, []byte, error)
		lives bool
	}{
		"a stray line on stdout":         {misbehaving(mcptest.StrayLine, 0, patience), answered("misbehaved"), true},
		"the beginning of a stray line":  {misbehaving(mcptest.StrayPart, 0, quick), timeIsUp(MayHaveRun), true},
		"the answer is cut, then exit":   {misbehaving(mcptest.CutAnswer, 0, patience), failed(fails(MayHaveRun, true, "exit status 6")), false},
		"killed":                         {misbehaving(mcptest.KillSelf, 0, patience), failed(fails(MayHaveRun, true, "signal: killed")), false},
		"stderr is flooded":              {misbehaving(mcptest.FloodStderr, 0, patience), answered("misbehaved"), true},
		"stdout is flooded":              {misbehaving(mcptest.FloodStdout, 0, patience), answered("misbehaved"), true},
		"a large answer":                 {misbehaving(mcptest.LargeAnswer, 2, patience), tooLarge, true},
		"a large answer, id last":        {misbehaving(mcptest.LargeAnswerIDLast, 2, patience), tooLarge, true},
		"a large answer, no id":          {misbehaving(mcptest.LargeAnswerNoID, 2, patience), failed(fails(MayHaveRun, true, "too large", "whose answer it is")), false},
		"a large request of the child's": {misbehaving(mcptest.LargeRequest, 2, patience), answered("misbehaved"), true},
		"a large line that is no JSON":   {misbehaving(mcptest.LargeLine, 2, patience), failed(fails(MayHaveRun, true, "whose answer it is")), false},
		"an answer under an unknown id":  {misbehaving(mcptest.UnknownID, 0, quick), timeIsUp(MayHaveRun), true},
		// What the payload is, is between the server and the caller.
		"an answer that is not UTF-8": {misbehaving(mcptest.InvalidUTF8, 0, patience), answered("misbehaved \xff\xc0"), true},
		"an answer twice":             {misbehaving(mcptest.AnswerTwice, 0, patience), answered("misbehaved"), true},
		"an answer in a batch":        {misbehaving(mcptest.AnswerInBatch, 0, patience), answered("misbehaved"), true},
		"the caller goes while its answer arrives": {func(t *testing.T, conn Conn) ([]byte, error) {
			ctx, cancel := context.WithTimeout(t.Context(), quick)
			defer cancel()
			return call(ctx, conn, "misbehave", args{"id": "faulty", "text": mcptest.SlowAnswer, "ms": 3000})
		}, timeIsUp(MayHaveRun), true},
		"exit": {func(t *testing.T, conn Conn) ([]byte, error) {
			return call(t.Context(), conn, "exit", args{"id": "faulty"})
		}, failed(fails(MayHaveRun, true, "exit status 4")), false},
		"stdin is not read, a call of 1 MiB": {func(t *testing.T, conn Conn) ([]byte, error) {
			if _, err := call(t.Context(), conn, "deafen", args{"ms": 3000}); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), quick)
			defer cancel()
			return call(ctx, conn, "echo", args{"id": "faulty", "text": large})
		}, timeIsUp(MayHaveRun), true},
	} {
		t.Run(name, func(t *testing.T) {
			leavesNothing(t)
			endpoint := stdioOf(t, era, mcptest.Normal, func(c *Command) { c.CloseGrace, c.MaxMessageBytes = 50*time.Millisecond, testLimit })
			conn := open(t, endpoint, era)
			beside := args{"id": "bystander", "ms": 300}
			if !test.lives {
				beside["ms"] = 60000 // the end of the child is to find it in flight
			}
			bystander := begin(context.Background(), t, conn, "sleep", beside)
			mustEcho(t, conn, "so the other is written")

			began := time.Now()
			result, err := test.call(t, conn)
			took := time.Since(began)
			test.check(t, result, err)
			if took > soon {
				t.Errorf("the call took %v", took)
			}
			if err := <-bystander; test.lives && err != nil {
				t.Errorf("the call beside it: %v", err)
			} else if !test.lives {
				wantFailure(t, err, MayHaveRun, true)
			}
			if !test.lives {
				<-conn.Done()
				_, err := call(t.Context(), conn, "echo", args{})
				wantFailure(t, err, NotSent, true)
				conn.Close(context.Background())
				isGone(t, conn)
				conn = open(t, endpoint, era)
			}
			mustEcho(t, conn, "next")
			conn.Close(context.Background())
			isGone(t, conn)
		})
	}
}

// The limit as it is: a message is read to its end beyond it, and none below it
// is harmed.
func TestHazardStdioRealLimit(t *testing.T) {
	leavesNothing(t)
	conn := open(t, stdio(t, mcptest.Normal), Legacy)
	result, err := call(t.Context(), conn, "misbehave", args{"text": mcptest.LargeAnswer, "steps": DefaultMaxMessageBytes>>20 - 1})
	if err != nil || len(result) < DefaultMaxMessageBytes-1<<20 {
		t.Errorf("got %d bytes, %v", len(result), err)
	}
	_, err = call(t.Context(), conn, "misbehave", args{"text": mcptest.LargeAnswer, "steps": DefaultMaxMessageBytes >> 20})
	fails(MayHaveRun, false, "too large: max_message_bytes")(t, err)
	mustEcho(t, conn, "next")
}

func TestHazardStdioOpen(t *testing.T) {
	for name, test := range map[string]struct {
		mode  string
		args  []string
		least time.Duration
	}{
		"answers initialize only":          {mcptest.IgnoreDiscover, nil, 100 * time.Millisecond},
		"exits on the first unknown call":  {mcptest.DieOnDiscover, nil, 0},
		"is slow to start":                 {mcptest.SlowStart, []string{"300ms"}, 300 * time.Millisecond},
		"is slow with the first answer":    {mcptest.LateDiscover, nil, 100 * time.Millisecond},
		"writes what is no message before": {mcptest.Chatty, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			leavesNothing(t)
			endpoint := stdio(t, test.mode, test.args...)
			endpoint.opener.(*stdioEndpoint).silence = 100 * time.Millisecond
			began := time.Now()
			conn := open(t, endpoint, Unknown)
			if took := time.Since(began); took < test.least || took > test.least+soon {
				t.Errorf("opening took %v, want %v", took, test.least)
			}
			if conn.Peer().Era != Legacy {
				t.Errorf("Peer() = %+v", conn.Peer())
			}
			mustEcho(t, conn, "next")
			conn.Close(context.Background())
			isGone(t, conn)
		})
	}
}

func TestHazardStdioClose(t *testing.T) { onStdio(t, hazardStdioClose) }

func hazardStdioClose(t *testing.T, era Era) {
	const grace = 100 * time.Millisecond
	for name, test := range map[string]struct {
		mode  string
		wrap  string        // a script around the child
		least time.Duration // that Close takes: two graces are needed where SIGKILL is
	}{
		"obeys the end of its input":           {mcptest.Normal, "", 0},
		"ignores the end of its input":         {mcptest.Heedless, "", grace},
		"ignores it and SIGTERM":               {mcptest.Stubborn, "", 2 * grace},
		"a wrapper":                            {mcptest.Heedless, `"$0"; true`, grace},
		"a wrapper that swallows signals":      {mcptest.Stubborn, `trap "" TERM; "$0"; true`, 2 * grace},
		"a wrapper around a wrapper":           {mcptest.Stubborn, `sh -c '"$0"; true' "$0"; true`, 2 * grace},
		"what it has started holds its stderr": {mcptest.Normal, `sleep 60 & exec "$0"`, 0},
	} {
		t.Run(name, func(t *testing.T) {
			leavesNothing(t)
			endpoint := stdioOf(t, era, test.mode, func(c *Command) {
				c.CloseGrace = grace
				if test.wrap != "" {
					c.Args = []string{"-c", test.wrap, c.Path}
					c.Path = "/bin/sh"
				}
			})
			conn := open(t, endpoint, era)
			faulty := begin(context.Background(), t, conn, "sleep", args{"ms": 60000})
			mustEcho(t, conn, "so the other is written")
			began := time.Now()
			conn.Close(context.Background())
			if took := time.Since(began); took < test.least || took > test.least+soon {
				t.Errorf("Close took %v, want %v", took, test.least)
			}
			wantFailure(t, <-faulty, MayHaveRun, true)
			isGone(t, conn)
			mustEcho(t, open(t, endpoint, era), "next")
		})
	}
}

// Whoever answers is alive, whatever it answers; whoever is silent is not taken
// for dead by that alone.
func TestHazardStdioCheck(t *testing.T) {
	onStdio(t, func(t *testing.T, era Era) {
		for mode, alive := range map[string]bool{mcptest.Normal: true, mcptest.NoPing: true, mcptest.Deaf: false} {
			if mode == mcptest.Deaf && era == Modern {
				continue // only a legacy child is told that it is initialized
			}
			endpoint := stdioOf(t, era, mode, func(c *Command) { c.CloseGrace = 50 * time.Millisecond })
			conn := open(t, endpoint, era)
			bystander := begin(context.Background(), t, conn, "sleep", args{"id": "bystander", "ms": 100})
			patience := 2 * soon
			if !alive {
				patience = 200 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			began := time.Now()
			err := conn.Check(ctx)
			cancel()
			if took := time.Since(began); took > soon {
				t.Errorf("%s: the check took %v", mode, took)
			}
			if alive {
				if err != nil {
					t.Errorf("%s: %v", mode, err)
				}
				if err := <-bystander; err != nil {
					t.Errorf("%s: the call beside it: %v", mode, err)
				}
				mustEcho(t, conn, "next")
				conn.Close(context.Background())
			} else {
				wantFailure(t, err, MayHaveRun, false)
				conn.Close(context.Background())
				wantFailure(t, <-bystander, MayHaveRun, true)
			}
			isGone(t, conn)
		}
	})
}
