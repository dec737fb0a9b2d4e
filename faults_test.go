package mcpool_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
	"github.com/mcpool-dev/mcpool/rpc"
)

// schedules is how many TestFaults runs; MCPOOL_SCHEDULES says otherwise.
const schedules = 300

// TestFaults runs callers over a server and a network with every kind of fault,
// many times and differently each time. A schedule is made of bytes, and those
// of a seed: one that fails is run again by its name, as in
//
//	MCPOOL_SCHEDULES=100000 go test -run 'TestFaults/seeds/seed=4711$' .
//
// After each it asserts
//
//   - I-RETRYSAFE: a call whose tool has no hint ran at most once, and any other
//     at most RetryAttempts times; not at all if SafeToRetry said so; and at
//     least once if it was answered;
//   - I-ISOLATE: an answer, and what is notified before it, is that of the very
//     call; no session of the server served two principals under
//     SharePrincipal, nor two sessions under ShareSession;
//   - I-DEADLINE: a caller is back when its ctx ends, and has waited for
//     ConnectionTimeout at most besides the time that its requests took;
//   - I-STATE: under ShareSession a session goes on with a fresh state only after
//     somebody was told ErrSessionLost, or EndSession;
//   - I-RECOVER: when the faults are over, calls are answered;
//   - I-CLOSEONCE: after Close, each session that the server has told us of was
//     deleted once or is known to be lost, and nothing is in flight;
//
// and that no goroutine is left, which synctest does.
func TestFaults(t *testing.T) {
	n := schedules
	if value := os.Getenv("MCPOOL_SCHEDULES"); value != "" {
		var err error
		if n, err = strconv.Atoi(value); err != nil {
			t.Fatalf("MCPOOL_SCHEDULES: %v", err)
		}
	}
	var mu sync.Mutex // guards all
	var all tally
	t.Run("seeds", func(t *testing.T) {
		for seed := range n {
			t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
				t.Parallel()
				saw := runSchedule(t, randomBytes(uint64(seed)))
				mu.Lock()
				defer mu.Unlock()
				all.add(saw)
			})
		}
	})
	if all.schedules >= schedules {
		all.check(t)
	}
}

// FuzzFaults has bytes make the schedule, see TestFaults.
func FuzzFaults(f *testing.F) {
	for _, fault := range mcptest.AllFaults() {
		f.Add([]byte{byte(fault)})
		f.Add(randomBytes(uint64(fault))[:64])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) <= 4096 {
			runSchedule(t, data)
		}
	})
}

// randomBytes returns the bytes of a seed. From a calm network to a bad one,
// some of them stand for faults.
func randomBytes(seed uint64) []byte {
	random := rand.New(rand.NewPCG(seed, 1))
	bad := random.Float64() / 2
	data := make([]byte, 1024)
	for i := range data {
		data[i] = byte(random.IntN(256))
		if random.Float64() < bad {
			data[i] = byte(1 + random.IntN(len(mcptest.AllFaults())))
		}
	}
	return data
}

// tally is what all schedules together have seen.
type tally struct {
	schedules  int
	met        map[mcptest.Fault]int
	answered   int
	safe       int // failed, and SafeToRetry
	mayHaveRun int
	retries    uint64
	twice      int // ran more than once
}

func (a *tally) add(b tally) {
	a.schedules++
	a.answered += b.answered
	a.safe += b.safe
	a.mayHaveRun += b.mayHaveRun
	a.retries += b.retries
	a.twice += b.twice
	if a.met == nil {
		a.met = make(map[mcptest.Fault]int)
	}
	for fault, n := range b.met {
		a.met[fault] += n
	}
}

// check holds that the schedules were worth running.
func (a *tally) check(t *testing.T) {
	for _, fault := range mcptest.AllFaults() {
		if a.met[fault] < a.schedules/10 {
			t.Errorf("only %d requests met the fault %q", a.met[fault], fault)
		}
	}
	if min(a.answered, a.safe, a.mayHaveRun, int(a.retries), a.twice) < a.schedules/10 {
		t.Errorf("%d calls answered, %d safe to retry, %d may have run, %d retries, %d ran twice: too few of some",
			a.answered, a.safe, a.mayHaveRun, a.retries, a.twice)
	}
	t.Logf("%d schedules: %d calls answered, %d safe to retry, %d may have run, %d retries, %d ran more than once; faults %v",
		a.schedules, a.answered, a.safe, a.mayHaveRun, a.retries, a.twice, a.met)
}

// choices reads bytes as choices, over and over.
type choices struct {
	data []byte
	at   int
}

func (c *choices) next(n int) int {
	if len(c.data) == 0 {
		return 0
	}
	b := c.data[c.at%len(c.data)]
	c.at++
	return int(b) % n
}

// ms returns up to n times 16 milliseconds, and never a round number of them.
func (c *choices) ms(n int) time.Duration {
	return time.Duration(c.next(n)*16+c.next(16))*time.Millisecond + time.Duration(c.at)*time.Microsecond
}

// A schedule is a pool, a server and what becomes of the calls in between.
type schedule struct {
	t       *testing.T
	data    []byte
	faults  *mcptest.Faults
	network *mcptest.Network
	wire    *wire
	config  mcpool.Config
	pool    *mcpool.Pool

	mu       sync.Mutex // guards what follows
	outcomes []outcome
	states   map[rpc.Caller]map[string]bool // server's sessions that answered a caller
	told     map[rpc.Caller]int             // how often a caller's state was said to be lost
}

// An outcome is what a caller was told of a call.
type outcome struct {
	id, tool string
	err      error
}

const callersOfSchedule = 8

func runSchedule(t *testing.T, data []byte) (saw tally) {
	synctest.Test(t, func(t *testing.T) {
		c := choices{data: data}
		s := &schedule{t: t, data: data, config: mcpool.DefaultConfig(),
			states: map[rpc.Caller]map[string]bool{}, told: map[rpc.Caller]int{}}
		server := &mcptest.Server{
			Modern: c.next(4) == 0, SSE: c.next(2) == 0,
			OpenDelay: c.ms(16), CallDelay: c.ms(8),
		}
		s.config.Sharing = []mcpool.Sharing{mcpool.ShareAll, mcpool.SharePrincipal, mcpool.ShareSession}[c.next(3)]
		s.config.RetryAttempts = 1 + c.next(3)
		s.config.ConnectionTimeout = 2*time.Second + c.ms(256)
		s.config.MinConnections = c.next(2)
		s.config.MaxConnections = 1 + c.next(3)
		s.config.CallsPerConnection = c.next(4)
		for _, period := range []*time.Duration{&s.config.IdleTimeout, &s.config.MaxConnectionAge, &s.config.HealthCheckInterval} {
			if *period = 0; c.next(2) == 0 { // otherwise never
				*period = 100*time.Millisecond + c.ms(256) // shorter ones are work without end
			}
		}
		s.faults = &mcptest.Faults{Server: server, Plan: data}
		s.network = &mcptest.Network{Handler: s.faults}
		s.wire = newWire(t, s.network, s.config.Sharing)
		var err error
		if s.pool, err = mcpool.New(s.server(""), &s.config); err != nil {
			t.Fatal(err)
		}

		var callers, operator sync.WaitGroup
		for n := range callersOfSchedule {
			callers.Go(func() { s.callOften(n) })
		}
		over := make(chan struct{})
		closed, cutOff := false, false
		operator.Go(func() { closed, cutOff = s.operate(over) })
		callers.Wait()
		close(over)
		operator.Wait()
		if !closed {
			s.recover()
		}
		closePool(t, s.pool) // perhaps again
		synctest.Wait()

		s.wire.settled(cutOff)
		s.keptState()
		stats := s.pool.Stats()
		if n := s.faults.Running() + stats.CallsInFlight + stats.Settling + stats.Waiting + stats.Opening; n != 0 {
			t.Errorf("I-CLOSEONCE: after Close the server handles %d requests, and the pool has %+v", s.faults.Running(), stats)
		}
		saw = checkLedger(t, s.outcomes, server.Executions(), s.config.RetryAttempts)
		saw.met, saw.retries = s.faults.Met(), stats.RetriesTotal()
	})
	return saw
}

// server is the server under test; another header makes it another one.
func (s *schedule) server(header string) mcpool.Server {
	return mcpool.Server{Name: "test", URL: "http://server.test/mcp",
		Header: http.Header{"X-Is": {header}}, RoundTripper: s.wire}
}

// operate does to the pool and the network what operators and cables do, until
// over. It reports whether it has closed the pool, and cut calls off.
func (s *schedule) operate(over <-chan struct{}) (closed, cutOff bool) {
	c := choices{s.data, 40}
	for range 12 {
		select {
		case <-over:
			return false, false
		case <-time.After(c.ms(128)):
		}
		ctx, cancel := context.WithTimeout(s.t.Context(), c.ms(128))
		switch c.next(12) {
		case 0:
			s.faults.Server.Expire()
		case 1:
			s.network.SetDown(true)
			<-ctx.Done()
			s.network.SetDown(false)
		case 2:
			s.pool.Reset()
		case 3:
			_ = s.pool.Drain(ctx)
		case 4:
			_ = s.pool.Pause(ctx)
			<-ctx.Done()
			s.pool.Resume()
		case 5:
			s.config.MaxConnections = 1 + c.next(3)
			s.reload("")
		case 6:
			s.reload(fmt.Sprint(c.next(3)))
		case 7:
			who := callerOf(c.next(callersOfSchedule))
			s.tell(who, mcpool.ErrSessionLost) // who ends a session knows
			s.pool.EndSession(who)
		case 8:
			_, _ = s.pool.ListTools(ctx)
		case 9:
			for _, conn := range s.pool.Conns() {
				_ = conn.State()
			}
		case 10:
			if c.next(4) == 0 {
				cutOff = s.pool.Close(ctx) != nil
				cancel()
				return true, cutOff
			}
		}
		cancel()
	}
	return false, false
}

// recover ends the faults and has every caller make calls until one is
// answered. An opening that hangs fails at ConnectionTimeout, and the next one
// is put off for 30 s at most.
func (s *schedule) recover() {
	s.faults.Heal()
	healed := time.Now()
	for n := range callersOfSchedule {
		who := callerOf(n)
		for i := 0; ; i++ {
			id := fmt.Sprintf("%s/%s#%d.recovered.%d", who.Principal, who.Session, n, i)
			session, err := call(s.t.Context(), s.pool, who, "write", id)
			s.note(who, outcome{id, "write", err}, session)
			if err == nil {
				break
			}
			if time.Since(healed) > s.config.ConnectionTimeout+31*time.Second {
				s.t.Errorf("I-RECOVER: %v after the last fault: %v", time.Since(healed), err)
				return
			}
			time.Sleep(time.Second)
		}
	}
}

// note takes in what became of a call, and which session has answered it.
func (s *schedule) note(who rpc.Caller, o outcome, session string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outcomes = append(s.outcomes, o)
	if o.err != nil {
		s.tellLocked(who, o.err)
		return
	}
	if s.states[who] == nil {
		s.states[who] = map[string]bool{}
	}
	s.states[who][session] = true
}

// tell notes an error that a caller was given.
func (s *schedule) tell(who rpc.Caller, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tellLocked(who, err)
}

func (s *schedule) tellLocked(who rpc.Caller, err error) {
	if errors.Is(err, mcpool.ErrSessionLost) {
		s.told[who]++
	}
}

// keptState holds that no caller met a fresh state unawares.
func (s *schedule) keptState() {
	for who, states := range s.states {
		if s.config.Sharing == mcpool.ShareSession && who.Session != "" && len(states) > 1+s.told[who] {
			s.t.Errorf("I-STATE: %+v was answered by %d sessions and told %d times of a loss", who, len(states), s.told[who])
		}
	}
}

func (s *schedule) reload(header string) {
	if err := s.pool.Reload(s.server(header), &s.config); err != nil {
		s.t.Error(err)
	}
}

// callerOf returns one of three principals, two of which have several sessions.
func callerOf(n int) rpc.Caller {
	return []rpc.Caller{
		{Principal: "ann", Session: "1"}, {Principal: "ann", Session: "2"}, {Principal: "ann"},
		{Principal: "bob", Session: "1"}, {Principal: "bob", Session: "2"}, {Principal: "bob"},
		{Principal: "eve", Session: "1"}, {Principal: "eve", Session: "1"},
	}[n]
}

// callOften makes calls, some of them with a lease.
func (s *schedule) callOften(n int) {
	c := choices{s.data, 97 * (n + 1)}
	who := callerOf(n)
	if n%3 == 0 {
		ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
		_, err := s.pool.Do(ctx, rpc.Call{Method: "tools/list", Caller: who})
		s.tell(who, err)
		cancel()
	}
	for i := range 8 {
		time.Sleep(c.ms(32))
		ctx, limit, cancel := s.limit(&c)
		id := fmt.Sprintf("%s/%s#%d.%d", who.Principal, who.Session, n, i)
		if c.next(5) == 0 {
			s.callOnLease(ctx, limit, &c, who, id)
		} else {
			s.call(ctx, limit, &c, s.pool, who, id, s.config.ConnectionTimeout)
		}
		cancel()
	}
}

// limit returns a ctx that ends at a time, or is cancelled then.
func (s *schedule) limit(c *choices) (ctx context.Context, limit time.Time, cancel context.CancelFunc) {
	d := c.ms(64)
	if c.next(3) > 0 {
		d *= 40
	}
	limit = time.Now().Add(d)
	if c.next(2) == 0 {
		ctx, cancel = context.WithDeadline(s.t.Context(), limit)
		return ctx, limit, cancel
	}
	ctx, end := context.WithCancel(s.t.Context())
	timer := time.AfterFunc(d, end)
	return ctx, limit, func() { timer.Stop(); end() }
}

func (s *schedule) callOnLease(ctx context.Context, limit time.Time, c *choices, who rpc.Caller, id string) {
	began := time.Now()
	lease, err := s.pool.Acquire(ctx, who, []mcpool.Take{mcpool.Slot, mcpool.Whole}[c.next(2)])
	s.inTime("Acquire for "+id, time.Now(), began, limit, s.config.ConnectionTimeout)
	if err != nil {
		s.tell(who, err)
		return
	}
	defer lease.Release()
	for i := range 1 + c.next(3) {
		s.call(ctx, limit, c, lease, who, fmt.Sprint(id, ".", i), 0)
	}
}

// call makes one call. Besides the time that its requests take it may wait for
// patience.
func (s *schedule) call(ctx context.Context, limit time.Time, c *choices, h rpc.Handler, who rpc.Caller, id string, patience time.Duration) {
	tool := []string{"write", "echo", "put", "progress"}[c.next(4)]
	call := mcptest.CallTool(tool, map[string]any{"id": id, "text": "for " + id, "steps": c.next(3), "ms": c.ms(64).Milliseconds()})
	call.Caller = who
	call.Events = mcptest.Events{OnNotify: func(method string, params json.RawMessage) {
		if method == "notifications/message" && !strings.Contains(string(params), `"`+id+`"`) {
			s.t.Errorf("I-ISOLATE: call %s was notified of %s", id, params)
		}
	}}
	began := time.Now()
	answer, err := h.Do(ctx, call)
	now := time.Now()
	s.inTime("call "+id, now, began, limit, now.Sub(began))
	s.inTime("waiting for "+id, now, began.Add(s.wire.took(id)), now, patience+time.Duration(s.config.RetryAttempts)*mostRetryPause)
	var session string
	if err == nil {
		var wrong error
		if session, wrong = readAnswer(answer, id); wrong != nil {
			s.t.Errorf("I-ISOLATE: %v", wrong)
		}
	}
	s.note(who, outcome{id, tool, err}, session)
}

// mostRetryPause is twice the retryPause of do.go.
const mostRetryPause = 100 * time.Millisecond

// inTime holds that what began ended by its limit and took no longer than most.
// Time is virtual: nothing is allowed for.
func (s *schedule) inTime(what string, now, began, limit time.Time, most time.Duration) {
	if now.After(limit) {
		s.t.Errorf("I-DEADLINE: %s was back %v after its ctx had ended", what, now.Sub(limit))
	}
	if took := now.Sub(began); took > most {
		s.t.Errorf("I-DEADLINE: %s took %v, want %v at most", what, took, most)
	}
}

// checkLedger compares what callers were told with what ran.
func checkLedger(t *testing.T, outcomes []outcome, ran map[string]int, attempts int) (saw tally) {
	t.Helper()
	for _, o := range outcomes {
		n, most := ran[o.id], attempts
		delete(ran, o.id)
		if o.tool == "write" || o.tool == "sleep" {
			most = 1
		}
		if n > most {
			t.Errorf("I-RETRYSAFE: %s %s ran %d times, want %d at most (%v)", o.tool, o.id, n, most, o.err)
		}
		if n > 1 {
			saw.twice++
		}
		switch {
		case o.err == nil:
			saw.answered++
			if n == 0 {
				t.Errorf("I-RETRYSAFE: %s %s was answered and never ran", o.tool, o.id)
			}
		case mcpool.SafeToRetry(o.err):
			saw.safe++
			if n != 0 {
				t.Errorf("I-RETRYSAFE: %s %s ran %d times and its caller was told that it did not: %v", o.tool, o.id, n, o.err)
			}
		default:
			saw.mayHaveRun++
			if !lawful(o.err) {
				t.Errorf("I-ISOLATE: %s %s: %v", o.tool, o.id, o.err)
			}
		}
	}
	for id, n := range ran {
		t.Errorf("I-RETRYSAFE: %s ran %d times and nobody has called it", id, n)
	}
	return saw
}

// lawful reports whether an error of call is one that pools return. Otherwise
// the answer was somebody else's.
func lawful(err error) bool {
	var failed *mcpool.Error
	var answer *rpc.Error
	return err == nil || errors.As(err, &failed) || errors.As(err, &answer)
}
