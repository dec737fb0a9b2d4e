package transport

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mcpool-dev/mcpool/internal/children"
)

const (
	// maxLogLine bounds, in bytes, a line of the child's that is logged.
	maxLogLine = 2048
	// tailLines and tailBytes bound what is kept of the child's stderr, for
	// the error of an opening that failed, and for the log when it dies.
	tailLines = 4
	tailBytes = 500
	// pipeGrace is how long the pipes of a killed child are read to their end.
	// Only a process that has left the child's group can hold them open.
	pipeGrace = 100 * time.Millisecond
)

// A child is a server's process, and the group of whatever it starts.
type child struct {
	*children.Child
	name   string
	stdin  *os.File
	stdout io.ReadCloser
	stderr io.ReadCloser
	log    *slog.Logger
	blot   *blotter

	exited  chan struct{} // closed when the child is reaped
	drained chan struct{} // closed when its stderr has ended
	state   *os.ProcessState

	mu   sync.Mutex // guards tail
	tail []string   // the last lines of stderr
}

// startChild starts the child in a process group of its own. Its goroutines
// are started by spawn and end after end.
func startChild(command Command, blot *blotter, spawn func(func())) (*child, error) {
	p := &child{
		name:    filepath.Base(command.Path),
		log:     command.Log,
		blot:    blot,
		exited:  make(chan struct{}),
		drained: make(chan struct{}),
	}
	cmd := exec.Command(command.Path, command.Args...) // #nosec G204 -- the command of the configuration, without a shell
	cmd.Dir = command.Dir
	cmd.Env = slices.Concat([]string{}, command.Inherited, command.Env) // nil would mean our own
	in, stdin, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	cmd.Stdin, p.stdin = in, stdin
	var errs [2]error
	p.stdout, errs[0] = cmd.StdoutPipe()
	p.stderr, errs[1] = cmd.StderrPipe()
	if err = errors.Join(errs[:]...); err == nil {
		p.Child, err = children.Start(cmd, p.stdin, p.log)
	}
	if err != nil {
		for _, pipe := range []io.Closer{p.stdin, p.stdout, p.stderr} {
			if pipe != nil {
				_ = pipe.Close()
			}
		}
		return nil, err
	}
	spawn(p.wait)
	spawn(p.drain)
	return p, nil
}

// wait reaps the child. It is not the Wait of the command, which would close
// the pipes before all is read.
func (p *child) wait() {
	p.state, _ = p.Process.Wait()
	close(p.exited)
}

// drain reads stderr: a server may write to it whatever it likes, and stops if
// nobody reads it.
func (p *child) drain() {
	defer close(p.drained)
	in := bufio.NewReader(p.stderr)
	for {
		line, err := readLine(in, maxLogLine)
		text := strings.TrimSpace(strings.ToValidUTF8(string(line.text), ""))
		if line.cut {
			text += "…"
		}
		if text = p.blot.text(text); text != "" {
			p.log.Debug("the child wrote to stderr", "line", text)
			p.keep(text)
		}
		if err != nil {
			return
		}
	}
}

func (p *child) keep(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tail = append(p.tail, line)
	if len(p.tail) > tailLines {
		p.tail = p.tail[1:]
	}
}

// lastWords returns the last lines of stderr, or "".
func (p *child) lastWords() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	text := strings.Join(p.tail, "\n")
	if len(text) > tailBytes {
		text = "…" + strings.ToValidUTF8(text[len(text)-tailBytes:], "")
	}
	return text
}

// gone says why the child can make no more calls.
func (p *child) gone() error {
	select {
	case <-p.exited:
		return fmt.Errorf("%s has ended (%v)", p.name, p.state)
	default:
		return fmt.Errorf("%s has closed its input or output", p.name)
	}
}

// end ends the child and its group: it closes stdin, and what is not gone
// after grace gets SIGTERM, and SIGKILL after grace again or as soon as hurry
// is closed (MCP 2025-11-25, lifecycle, "Shutdown"; the group, because
// wrappers such as sh and npx pass no signals on). eof tells that the reader
// of stdout has come to its end. When end returns the child is reaped and
// nothing reads its pipes.
func (p *child) end(eof, hurry <-chan struct{}, grace time.Duration) {
	_ = p.stdin.Close()
	// A wrapper may be gone before the server, which is gone when it no longer
	// holds stdout.
	if !p.goneWithin(grace, eof, hurry) {
		p.Signal(syscall.SIGTERM)
		p.goneWithin(grace, eof, hurry)
	}
	// Also when all seem gone: one may have closed stdout and live on.
	p.Signal(syscall.SIGKILL)
	<-p.exited
	p.Release()
	for _, pipe := range []struct {
		file io.Closer
		end  <-chan struct{}
	}{{p.stdout, eof}, {p.stderr, p.drained}} {
		select {
		case <-pipe.end:
		case <-time.After(pipeGrace):
		}
		_ = pipe.file.Close()
		<-pipe.end
	}
}

func (p *child) goneWithin(grace time.Duration, eof, hurry <-chan struct{}) bool {
	timer := time.NewTimer(grace)
	defer timer.Stop()
	for _, sign := range []<-chan struct{}{p.exited, eof} {
		select {
		case <-sign:
		case <-timer.C:
			return false
		case <-hurry:
			return false
		}
	}
	return true
}

// A line is one line of what a child writes, without its end.
type line struct {
	text []byte
	// cut tells that the line is longer than it may be. Then text is its
	// beginning and tail its end, and no more than shownLength are kept of either.
	cut  bool
	tail []byte
}

// readLine reads a line to its end, of at most limit bytes if it is not to be
// cut. The caller may keep what it is given. The last line of all comes with
// the error.
func readLine(in *bufio.Reader, limit int) (line, error) {
	var l line
	for {
		chunk, err := in.ReadSlice('\n')
		switch {
		case l.cut:
			l.tail = append(l.tail, last(chunk, shownLength)...)
			l.tail = append(l.tail[:0], last(l.tail, shownLength)...)
		case len(l.text)+len(chunk) > limit:
			l.cut = true
			l.tail = append(bytes.Clone(last(l.text, shownLength)), last(chunk, shownLength)...)
			head := min(limit, shownLength)
			l.text = bytes.Clone(l.text[:min(len(l.text), head)]) // so that the rest is freed
			l.text = append(l.text, chunk[:min(len(chunk), head-len(l.text))]...)
		default:
			l.text = append(l.text, chunk...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			l.text = bytes.TrimRight(l.text, "\r\n")
			return l, err
		}
	}
}

// last returns the last n bytes at most.
func last(b []byte, n int) []byte { return b[max(0, len(b)-n):] }
