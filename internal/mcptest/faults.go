package mcptest

import (
	"bytes"
	"hash/fnv"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
)

// A Fault is what goes wrong with one request.
type Fault byte

const (
	None            Fault = iota
	Late                  // it is taken in late
	LateAnswer            // it has run, and is answered late
	SessionGone           // its session is forgotten, so it gets 404; a modern server says 404 too
	AllSessionsGone       // all sessions are forgotten, as in a restart
	Error500              // it has run, and is answered by HTTP 500
	Error503              // HTTP 503, nothing has run
	ResetUnread           // the connection is reset, nothing has run
	ResetAnswer           // it has run, and the connection is reset without a byte
	CutBefore             // it is reset before the answer, after the header
	CutWithin             // it is reset in the middle of the answer
	CutAfter              // it is reset right after the answer
	Swallow               // half-open TCP: nothing comes back, nothing has run
	SwallowAnswer         // half-open TCP: nothing comes back, and it has run
	Stall                 // it has run; a stream begins, and then nothing more comes
	faults
)

var faultNames = [faults]string{"none", "late", "late answer", "session gone", "all sessions gone",
	"500", "503", "reset unread", "reset answer", "cut before", "cut within", "cut after",
	"swallow", "swallow answer", "stall"}

func (f Fault) String() string { return faultNames[f] }

// AllFaults returns every Fault but None.
func AllFaults() []Fault {
	all := make([]Fault, 0, faults-1)
	for f := None + 1; f < faults; f++ {
		all = append(all, f)
	}
	return all
}

// Faults stands between a Server and its clients and lets requests meet
// faults. What hangs, hangs until the client goes away.
type Faults struct {
	Server *Server
	// Plan chooses. A request meets the fault that a byte of it stands for;
	// bytes that stand for none are None, and so is an empty plan. Which byte
	// it is depends on the request alone (its method, the id of its call, how
	// often that came before), not on the order in which goroutines run.
	Plan []byte

	running atomic.Int64
	healed  atomic.Bool
	mu      sync.Mutex // guards what follows
	came    map[string]int
	met     map[Fault]int
}

// longest bounds how late Late is. It is no round number, so that nothing
// happens at the very moment when a timeout of a test's ends.
const longest = 13_337 * time.Millisecond

func (f *Faults) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.running.Add(1)
	defer f.running.Add(-1)
	fault, late := f.choose(r)
	switch fault {
	case None:
		f.Server.ServeHTTP(w, r)
	case Late:
		if wait(r.Context(), late) != nil {
			reset()
		}
		f.Server.ServeHTTP(w, r)
	case SessionGone, AllSessionsGone:
		if fault == AllSessionsGone {
			f.Server.Expire()
		}
		f.Server.forget(r.Header.Get("Mcp-Session-Id"))
		if f.Server.Modern {
			http.NotFound(w, r)
			return
		}
		f.Server.ServeHTTP(w, r)
	case Error503:
		http.Error(w, "come again", http.StatusServiceUnavailable)
	case ResetUnread:
		reset()
	case Swallow:
		<-r.Context().Done()
		reset()
	default:
		f.spoil(w, r, fault, late)
	}
}

// spoil has the server answer, and passes on what the fault leaves of it.
func (f *Faults) spoil(w http.ResponseWriter, r *http.Request, fault Fault, late time.Duration) {
	answer := httptest.NewRecorder()
	f.Server.ServeHTTP(answer, r)
	body := answer.Body.Bytes()
	begin := max(0, bytes.LastIndex(body, []byte("event: message\n"))) // of the answer, if the body is a stream
	switch fault {
	case LateAnswer:
		_ = wait(r.Context(), late)
	case ResetAnswer:
		reset()
	case CutBefore:
		body = body[:begin]
	case CutWithin:
		body = body[:begin+(len(body)-begin)/2]
	case Error500:
		answer.Code, body = http.StatusInternalServerError, []byte("out of order")
	case SwallowAnswer:
		<-r.Context().Done()
		reset()
	case Stall:
		answer.Code = http.StatusOK
		answer.Header().Set("Content-Type", "text/event-stream")
		body = []byte(": one moment\n\nevent: message\n" +
			`data: {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}` + "\n\n")
	}
	maps.Copy(w.Header(), answer.Header())
	w.WriteHeader(answer.Code)
	_, _ = w.Write(body)
	_ = http.NewResponseController(w).Flush()
	if fault == Stall {
		<-r.Context().Done()
	}
	if fault != LateAnswer && fault != Error500 {
		reset()
	}
}

// reset resets the connection of the request that is being handled.
func reset() { panic(http.ErrAbortHandler) }

// choose returns the fault of a request, and how late it is if it is late.
func (f *Faults) choose(r *http.Request) (fault Fault, late time.Duration) {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	if len(f.Plan) == 0 || f.healed.Load() {
		return None, 0
	}
	m, _ := jsonrpc.Parse(body)
	key := r.Method + " " + m.Method + " " + jsonrpc.GetString(m.Params, "arguments", "id")
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.came == nil {
		f.came, f.met = make(map[string]int), make(map[Fault]int)
	}
	f.came[key]++
	hash := fnv.New64a()
	_, _ = io.WriteString(hash, key+" "+strconv.Itoa(f.came[key]))
	sum := hash.Sum64()
	if fault = Fault(f.Plan[sum%uint64(len(f.Plan))]); fault >= faults {
		fault = None
	}
	f.met[fault]++
	return fault, time.Duration(sum>>16) % longest
}

// Heal ends all faults for requests that come from now on.
func (f *Faults) Heal() { f.healed.Store(true) }

// Met returns how many requests met each fault.
func (f *Faults) Met() map[Fault]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.met)
}

// Running returns how many requests are being handled, those that hang
// included.
func (f *Faults) Running() int { return int(f.running.Load()) }
