package main

import (
	"bytes"
	"cmp"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/mcpool-dev/mcpool/internal/children"
)

// A program is one that is not this, as it runs: a database, or a server that
// is measured. It does not outlive us.
type program struct {
	cmd   *exec.Cmd
	child *children.Child
	stdin *os.File
	log   string        // the file that it writes to
	ended chan struct{} // closed when it has
}

// startProgram starts a command, whose output goes to a file of that name in
// the folder.
func startProgram(cmd *exec.Cmd, folder, name string) *program {
	p := &program{cmd: cmd, log: filepath.Join(folder, name+".log"), ended: make(chan struct{})}
	output, err := os.Create(p.log)
	must(err)
	defer output.Close()
	in, stdin, err := os.Pipe()
	must(err)
	defer in.Close()
	p.stdin = stdin
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, output, output
	p.child, err = children.Start(cmd, stdin, slog.Default())
	must(err)
	go func() { // until it is stopped
		defer close(p.ended)
		_ = cmd.Wait() // how it ends is nobody's concern, that it has is
	}()
	return p
}

const (
	startTime = 30 * time.Second
	stopTime  = 10 * time.Second
)

// await waits until ready says nil. The error is what the program wrote last,
// if it has ended before.
func (p *program) await(ready func() error) error {
	for deadline := time.Now().Add(startTime); ; {
		err := ready()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not ready after %v: %w", startTime, err)
		}
		select {
		case <-p.ended:
			return fmt.Errorf("it has ended: %s", p.lastLine())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (p *program) lastLine() string {
	output, err := os.ReadFile(p.log)
	must(err)
	lines := strings.Split(strings.TrimSpace(string(output)), "\n")
	return cmp.Or(lines[len(lines)-1], "it said nothing")
}

// stop ends the program by a signal, and by SIGKILL if that does not help.
func (p *program) stop(signal syscall.Signal) {
	p.child.Signal(signal)
	select {
	case <-p.ended:
	case <-time.After(stopTime):
		p.child.Signal(syscall.SIGKILL)
		<-p.ended
	}
	p.child.Release()
	must(p.stdin.Close())
}

// tick is the unit of processor time in /proc: USER_HZ, which is 100 on all
// systems that Go runs on (proc(5), /proc/pid/stat).
const tick = 10 * time.Millisecond

// usage is the processor time of the program so far.
func (p *program) usage() usage {
	fields := bytes.Fields(p.about("stat", ")")) // the name before may have spaces
	user, err := strconv.Atoi(string(fields[11]))
	must(err)
	system, err := strconv.Atoi(string(fields[12]))
	must(err)
	return usage{Processor: time.Duration(user+system) * tick}
}

// resident is the memory of the program, in bytes.
func (p *program) resident() float64 {
	size, err := strconv.ParseFloat(string(bytes.Fields(p.about("status", "VmRSS:"))[0]), 64)
	must(err)
	return size * 1024
}

// about is what a file in /proc says of the program, behind a word.
func (p *program) about(file, word string) []byte {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.cmd.Process.Pid, file))
	must(err)
	at := bytes.LastIndex(text, []byte(word))
	mustBe(at >= 0)
	return text[at+len(word):]
}
