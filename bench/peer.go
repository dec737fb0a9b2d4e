package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/internal/transport"
	"github.com/mcpool-dev/mcpool/rpc"
)

// The peer is the MCP server that clients are measured against. It does no
// more than the protocol asks of a server, and runs in a process of its own,
// this program again, so that what the bench uses is the client's.

// peerEnv is set for that process: to httpPeer, to the era that a peer over
// stdio speaks, or to a hop (see hop.go).
const (
	peerEnv  = "MCPOOL_BENCH_PEER"
	httpPeer = "http"
)

// servePeer runs the peer until its input ends, if this process is one.
func servePeer() (served bool) {
	how := os.Getenv(peerEnv)
	switch how {
	case "":
		return false
	case httpPeer:
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		must(err)
		fmt.Println("http://" + listener.Addr().String())
		go http.Serve(listener, peerHandler()) // ends with the process
		_, _ = io.Copy(io.Discard, os.Stdin)
	case transport.Legacy.String():
		serveLines(transport.Legacy)
	case transport.Modern.String():
		serveLines(transport.Modern)
	case gatewayHop, proxyHop, bufferedHop:
		serveHop(how, os.Getenv(upstreamEnv))
	default:
		panic(peerEnv + ": " + how)
	}
	return true
}

// startPeer starts the peer over HTTP and returns its URL.
func startPeer() (url string, stop func()) {
	p := startProcess(peerEnv + "=" + httpPeer)
	return p.said(), p.stop
}

// A process is this program again, started by itself for what env says.
type process struct {
	command *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
}

func startProcess(env ...string) *process {
	command := exec.Command(thisProgram())
	command.Env = append(os.Environ(), env...)
	command.Stderr = os.Stderr
	in, err := command.StdinPipe()
	must(err)
	out, err := command.StdoutPipe()
	must(err)
	must(command.Start())
	return &process{command, in, bufio.NewReader(out)}
}

// said is the next line that the process writes.
func (p *process) said() string {
	line, err := p.out.ReadString('\n')
	must(err)
	return strings.TrimSpace(line)
}

// stop ends the process, which ends with its input.
func (p *process) stop() {
	must(p.in.Close())
	must(p.command.Wait())
}

func thisProgram() string {
	path, err := os.Executable()
	must(err)
	return path
}

// peerResult is the answer to every call of a tool that has no large one: 100
// bytes, most of which are its peerContent.
var (
	peerResult  = []byte(`{"resultType":"complete",` + string(peerContent) + `}`)
	peerContent = []byte(`"content":[{"type":"text","text":"` + strings.Repeat("x", 37) + `"}]`)
)

// peerAnswer is what a server of an era says to a request.
func peerAnswer(era transport.Era, m *jsonrpc.Message) []byte {
	const about = `"capabilities":{"tools":{}},"serverInfo":{"name":"bench","version":"1"}`
	said := ""
	switch {
	case m.Method == "tools/call":
		if r, ok := largeResults[jsonrpc.GetString(m.Params, "name")]; ok {
			return r.frame(era, m.ID)
		}
		return jsonrpc.AppendResult(nil, m.ID, peerResult)
	case m.Method == "initialize" && era == transport.Legacy:
		said = `{"protocolVersion":"2025-11-25",` + about + `}`
	case m.Method == "ping" && era == transport.Legacy:
		said = `{}`
	case m.Method == "server/discover" && era == transport.Modern:
		said = `{"resultType":"complete","supportedVersions":["2026-07-28"],"ttlMs":3600000,"cacheScope":"public",` + about + `}`
	default:
		return jsonrpc.AppendError(nil, m.ID, rpc.Errorf(rpc.CodeMethodNotFound, "unknown method"))
	}
	return jsonrpc.AppendResult(nil, m.ID, []byte(said))
}

// serveLines is a server over stdio.
func serveLines(era transport.Era) {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		m, err := jsonrpc.Parse(lines.Bytes())
		must(err)
		if m.IsRequest() {
			_, err := os.Stdout.Write(append(peerAnswer(era, &m), '\n'))
			must(err)
		}
	}
}

// peerHandler is a server over streamable HTTP, of either era, answering with
// JSON or by an event stream as the path says.
func peerHandler() http.Handler {
	mux := http.NewServeMux()
	for _, era := range []transport.Era{transport.Legacy, transport.Modern} {
		for _, answers := range []string{"json", "sse"} {
			mux.HandleFunc(peerPath(era, answers), func(w http.ResponseWriter, r *http.Request) {
				serveHTTP(era, answers == "sse", w, r)
			})
		}
	}
	mux.Handle("/legacy/"+ssePath, &ssePeer{streams: map[string]chan<- []byte{}})
	return mux
}

func peerPath(era transport.Era, answers string) string { return "/" + era.String() + "/" + answers }

// headerSession has the id of a legacy session. There is one session for all:
// the peer keeps no state to mix up.
const headerSession = "Mcp-Session-Id"

func serveHTTP(era transport.Era, stream bool, w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodDelete && era == transport.Legacy:
		return
	case r.Method != http.MethodPost: // no stream is kept for what nobody asked for
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client has gone
	}
	m, err := jsonrpc.Parse(body)
	switch {
	case err != nil:
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	case !m.IsRequest():
		w.WriteHeader(http.StatusAccepted)
		return
	case era == transport.Modern:
	case m.Method == "initialize":
		w.Header().Set(headerSession, "0123456789abcdef0123456789abcdef")
	case r.Header.Get(headerSession) == "":
		// As the TypeScript SDK has it, which most legacy servers are made with.
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write(jsonrpc.AppendError(nil, nil, rpc.Errorf(-32000, "Bad Request: No valid session ID provided")))
		return
	}
	answer := peerAnswer(era, &m)
	if !stream {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(answer))) // net/http adds it to short ones alone
		_, _ = w.Write(answer)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	writeEvent(w, "message", answer)
}

func writeEvent(w http.ResponseWriter, kind string, data []byte) {
	event := fmt.Appendf(make([]byte, 0, len(data)+64), "event: %s\ndata: %s\n\n", kind, data)
	_, _ = w.Write(event)
	w.(http.Flusher).Flush() // an event leaves when it happens, the end of the stream after it
}

const ssePath = "http+sse"

// An ssePeer is a server over HTTP+SSE (MCP 2024-11-05): a stream is opened
// with GET and says where requests are posted, and has all answers.
type ssePeer struct {
	mu      sync.Mutex // guards what follows
	last    int
	streams map[string]chan<- []byte
}

func (p *ssePeer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("stream")
	switch {
	case r.Method == http.MethodGet && id == "":
		p.stream(w, r)
		return
	case r.Method != http.MethodPost || id == "": // no streamable HTTP here
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client has gone
	}
	p.mu.Lock()
	answers := p.streams[id]
	p.mu.Unlock()
	m, err := jsonrpc.Parse(body)
	if err != nil || answers == nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusAccepted)
	if m.IsRequest() {
		answers <- peerAnswer(transport.Legacy, &m)
	}
}

func (p *ssePeer) stream(w http.ResponseWriter, r *http.Request) {
	answers := make(chan []byte, 16) // none of the clients has so many calls under way
	p.mu.Lock()
	p.last++
	id := strconv.Itoa(p.last)
	p.streams[id] = answers
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.streams, id)
	}()
	w.Header().Set("Content-Type", "text/event-stream")
	writeEvent(w, "endpoint", []byte(r.URL.Path+"?stream="+id))
	for {
		select {
		case answer := <-answers:
			writeEvent(w, "message", answer)
		case <-r.Context().Done():
			return
		}
	}
}
