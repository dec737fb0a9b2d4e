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
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// maxLogLine bounds, in bytes, a line of the child's that is logged.
	maxLogLine = 2048
	// tailLines and tailBytes bound what is kept of the child's stderr, for
	// the error of an opening that failed.
	tailLines = 4
	tailBytes = 500
	// pipeGrace is how long the pipes of a killed child are read to their end.
	// Only a process that has left the child's group can hold them open.
	pipeGrace = 100 * time.Millisecond
)

// A child is a server's process, and the group of whatever it starts.
type child struct {
	name   string
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout io.ReadCloser
	stderr io.ReadCloser
	log    *slog.Logger

	exited  chan struct{} // closed when the child is reaped
	drained chan struct{} // closed when its stderr has ended
	state   *os.ProcessState

	mu   sync.Mutex // guards tail
	tail []string   // the last lines of stderr
}

// startChild starts the child in a process group of its own. Its goroutines
// are started by spawn and end after end.
func startChild(command Command, log *slog.Logger, spawn func(func())) (*child, error) {
	p := &child{
		name:    filepath.Base(command.Path),
		cmd:     exec.Command(command.Path, command.Args...),
		log:     log,
		exited:  make(chan struct{}),
		drained: make(chan struct{}),
	}
	p.cmd.Dir = command.Dir
	p.cmd.Env = append([]string{}, command.Env...) // nil would mean our own
	ownGroup(p.cmd)
	var errs [3]error
	p.stdin, errs[0] = p.cmd.StdinPipe()
	p.stdout, errs[1] = p.cmd.StdoutPipe()
	p.stderr, errs[2] = p.cmd.StderrPipe()
	if err := errors.Join(errs[:]...); err != nil {
		for _, pipe := range []io.Closer{p.stdin, p.stdout, p.stderr} {
			if pipe != nil {
				_ = pipe.Close()
			}
		}
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	spawn(p.wait)
	spawn(p.drain)
	return p, nil
}

// wait reaps the child. It is not the Wait of the command, which would close
// the pipes before all is read.
func (p *child) wait() {
	p.state, _ = p.cmd.Process.Wait()
	close(p.exited)
}

// drain reads stderr: a server may write to it whatever it likes, and stops if
// nobody reads it.
func (p *child) drain() {
	defer close(p.drained)
	in := bufio.NewReader(p.stderr)
	for {
		line, err := readLine(in, maxLogLine)
		if errors.Is(err, errTooLarge) {
			err = skipLine(in)
		}
		if text := strings.TrimSpace(strings.ToValidUTF8(string(line), "")); text != "" {
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
		signalGroup(p.cmd.Process, syscall.SIGTERM)
		p.goneWithin(grace, eof, hurry)
	}
	// Also when all seem gone: one may have closed stdout and live on.
	signalGroup(p.cmd.Process, syscall.SIGKILL)
	<-p.exited
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

// readLine returns the next line without its end; the caller may keep it. A
// line of more than limit bytes is errTooLarge, with its beginning.
func readLine(in *bufio.Reader, limit int) ([]byte, error) {
	var line []byte
	for {
		chunk, err := in.ReadSlice('\n')
		line = append(line, chunk...)
		if len(line) > limit+1 {
			return line[:limit], tooLarge(limit)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return bytes.TrimRight(line, "\r\n"), err
		}
	}
}

// skipLine skips what is left of a line.
func skipLine(in *bufio.Reader) error {
	for {
		if _, err := in.ReadSlice('\n'); !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
}
