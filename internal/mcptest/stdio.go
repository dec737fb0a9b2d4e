package mcptest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/rpc"
)

// How a child behaves. The tools are those of [Server], and three more:
//
//	exit {code}              exits in the middle of the call, with a line on stderr
//	deafen {ms}              answers, and stops reading stdin for that long; 0 is for ever
//	misbehave {text, steps}  answers in the way that text says, such as [StrayLine]
const (
	Normal         = "normal"          // a legacy server without faults
	Modern         = "modern"          // a modern one
	SlowStart      = "slow-start"      // begins to read after its argument, a duration
	Stubborn       = "stubborn"        // ignores the end of stdin, SIGTERM and SIGHUP
	Heedless       = "heedless"        // ignores the end of stdin alone
	Deaf           = "deaf"            // stops reading stdin when it is initialized
	Chatty         = "chatty"          // writes lines to stdout that are no messages
	Dead           = "dead"            // exits at once with status 3 and five lines on stderr
	DiesInCall     = "dies-in-call"    // exits in the first tools/call
	IgnoreDiscover = "ignore-discover" // a legacy server that does not answer server/discover
	DieOnDiscover  = "die-on-discover" // one that exits when it comes
	LateDiscover   = "late-discover"   // one that answers it only after initialize
	Mute           = "mute"            // reads, and never answers
	NoPing         = "no-ping"         // knows no ping; if modern, server/discover once and no more
	IgnoreListen   = "ignore-listen"   // does not answer subscriptions/listen
)

// SpeakModern is the setting for the environment of a child that has it speak
// the modern era, however it behaves.
const SpeakModern = childModern + "=1"

const (
	childMode   = "MCPTEST_CHILD"
	childModern = "MCPTEST_MODERN"
	childLedger = "MCPTEST_LEDGER"
)

// KeepLedger returns the setting for the environment of children that has them
// enter each execution into a file, before the tool runs. They may share one.
func KeepLedger(file string) string { return childLedger + "=" + file }

// ReadLedger returns how often each call ran, as children have entered it into
// a file.
func ReadLedger(file string) (map[string]int, error) {
	text, err := os.ReadFile(file)
	ran := make(map[string]int)
	for id := range strings.Lines(string(text)) {
		ran[strings.TrimSuffix(id, "\n")]++
	}
	return ran, err
}

// Child returns the command of a child process that behaves as mode says: the
// running test binary, which has to begin with [StdioMain]. env is its whole
// environment.
func Child(mode string, args ...string) (path string, argv, env []string) {
	path, err := os.Executable()
	if err != nil {
		panic("mcptest: " + err.Error())
	}
	// Under the race detector a process takes a second to exit, of its own.
	return path, args, append(os.Environ(), childMode+"="+mode, "GORACE=atexit_sleep_ms=0")
}

// StdioMain is the main function of a child. Where the process was not started
// as [Child] says it does nothing; otherwise it serves and exits. Call it
// first of all:
//
//	func TestMain(m *testing.M) {
//		mcptest.StdioMain()
//		os.Exit(m.Run())
//	}
func StdioMain() {
	mode, ok := os.LookupEnv(childMode)
	if !ok {
		return
	}
	c := &childServer{
		mode:   mode,
		engine: engine{modern: mode == Modern || os.Getenv(childModern) != "", name: "mcptest-child"},
		asked:  make(map[string]chan jsonrpc.Message),
		runs:   make(map[string]context.CancelFunc),
	}
	if file := os.Getenv(childLedger); file != "" {
		book, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			fmt.Fprintln(os.Stderr, "the ledger:", err)
			os.Exit(5)
		}
		c.engine.book = book
	}
	c.main(os.Args[1:])
	os.Exit(0)
}

// A childServer is a server over stdio.
type childServer struct {
	mode   string
	engine engine

	mu    sync.Mutex // guards stdout and what follows
	asks  int
	asked map[string]chan jsonrpc.Message
	runs  map[string]context.CancelFunc
	late  []byte // the answer to server/discover that is held back
	met   bool   // server/discover was answered; only of NoPing
}

func (c *childServer) main(args []string) {
	switch c.mode {
	case Dead:
		for line := range 5 {
			fmt.Fprintf(os.Stderr, "cannot go on, reason %d\n", line+1)
		}
		os.Exit(3)
	case SlowStart:
		delay, err := time.ParseDuration(args[0])
		if err != nil {
			panic(err)
		}
		time.Sleep(delay)
	case Stubborn:
		signal.Ignore(syscall.SIGTERM, syscall.SIGHUP)
	}
	in := bufio.NewReader(os.Stdin)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			break
		}
		m, err := jsonrpc.Parse(line)
		if err != nil {
			fmt.Fprintln(os.Stderr, "not a message:", err)
			continue
		}
		c.take(&m)
	}
	if c.mode == Stubborn || c.mode == Heedless {
		time.Sleep(time.Hour)
	}
}

// take takes in one message. It blocks for as long as the child is deaf.
func (c *childServer) take(m *jsonrpc.Message) {
	switch {
	case c.mode == Mute:
	case m.IsResponse():
		c.mu.Lock()
		reply := c.asked[string(m.ID)]
		c.mu.Unlock()
		if reply != nil {
			reply <- *m
		}
	case m.Method == "notifications/initialized" && c.mode == Deaf:
		time.Sleep(time.Hour)
	case m.Method == "notifications/cancelled":
		id, _ := jsonrpc.Get(m.Params, "requestId")
		c.mu.Lock()
		cancel := c.runs[string(id)]
		c.mu.Unlock()
		if cancel != nil {
			cancel()
		}
	case m.IsNotification():
	case c.mode == IgnoreListen && m.Method == "subscriptions/listen":
	case c.mode == NoPing && (m.Method == "ping" || c.met && m.Method == "server/discover"):
		c.write(jsonrpc.AppendError(nil, m.ID, rpc.Errorf(rpc.CodeMethodNotFound, "Method not found: %s", m.Method)))
	case c.open(m):
	case m.Method == "tools/call" && jsonrpc.GetString(m.Params, "name") == "deafen":
		var args arguments
		raw, _ := jsonrpc.Get(m.Params, "arguments")
		_ = json.Unmarshal(raw, &args)
		c.write(jsonrpc.AppendResult(nil, m.ID, json.RawMessage(`{"content":[]}`)))
		if args.MS == 0 {
			args.MS = int(time.Hour / time.Millisecond)
		}
		time.Sleep(time.Duration(args.MS) * time.Millisecond)
	default:
		ctx, cancel := context.WithCancel(context.Background())
		c.mu.Lock()
		c.runs[string(m.ID)] = cancel
		c.mu.Unlock()
		go c.answer(ctx, *m)
	}
}

// open answers what opens a connection, and reports whether that was it.
func (c *childServer) open(m *jsonrpc.Message) bool {
	unknown := rpc.Errorf(rpc.CodeMethodNotFound, "Method not found: %s", m.Method)
	switch {
	case c.engine.modern:
		if requestedVersion(m) == ModernVersion {
			c.met = true
			return false
		}
		c.write(jsonrpc.AppendError(nil, m.ID, versionError(requestedVersion(m))))
	case m.Method == "initialize":
		c.write(jsonrpc.AppendResult(nil, m.ID, c.engine.initialize()))
		if c.late != nil {
			c.write(c.late)
		}
	case m.Method != "server/discover":
		return false
	case c.mode == IgnoreDiscover:
	case c.mode == DieOnDiscover:
		fmt.Fprintln(os.Stderr, "expected initialize")
		os.Exit(1)
	case c.mode == LateDiscover:
		c.late = jsonrpc.AppendError(nil, m.ID, unknown)
	default:
		c.write(jsonrpc.AppendError(nil, m.ID, unknown))
	}
	return true
}

func (c *childServer) answer(ctx context.Context, m jsonrpc.Message) {
	if m.Method == "tools/call" {
		name := jsonrpc.GetString(m.Params, "name")
		if c.mode == DiesInCall || name == "exit" {
			fmt.Fprintln(os.Stderr, "exit in a call")
			os.Exit(4)
		}
		var args arguments
		raw, _ := jsonrpc.Get(m.Params, "arguments")
		if _ = json.Unmarshal(raw, &args); name == "misbehave" && c.misbehave(&m, &args) {
			return
		}
	}
	result, e := c.engine.answer(ctx, &m, "", c)
	if e != nil {
		c.write(jsonrpc.AppendError(nil, m.ID, e))
		return
	}
	c.write(jsonrpc.AppendResult(nil, m.ID, result))
}

func (c *childServer) write(frame []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mode == Chatty {
		fmt.Printf("2026-01-01 INFO about to answer\n\n{\"level\":\"info\"}\n")
	}
	_, _ = os.Stdout.Write(append(frame, '\n'))
}

func (c *childServer) notify(method string, params any) {
	c.write(jsonrpc.AppendRequest(nil, nil, method, marshal(params)))
}

func (c *childServer) ask(ctx context.Context, method string, params json.RawMessage) (json.RawMessage, error) {
	reply := make(chan jsonrpc.Message, 1)
	c.mu.Lock()
	c.asks++
	id := json.RawMessage(fmt.Sprintf(`"ask-%d"`, c.asks))
	c.asked[string(id)] = reply
	c.mu.Unlock()
	c.write(jsonrpc.AppendRequest(nil, id, method, params))
	return await(ctx, reply)
}
