package main

import (
	"fmt"
	"io"
	"os"
	"sync"
)

// progress says what goes on for long: on a terminal in one line that is
// overwritten, elsewhere in a line each.
type progress struct {
	terminal bool

	mu sync.Mutex // guards w: bench measures two contenders at a time
	w  io.Writer
}

// newProgress returns a progress that is silent where a program reads.
func newProgress(stderr io.Writer, asJSON bool) *progress {
	p := &progress{w: stderr, terminal: isTerminal(stderr)}
	if asJSON && !p.terminal {
		p.w = io.Discard
	}
	return p
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

const clearLine = "\r\x1b[K"

func (p *progress) say(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.terminal {
		fmt.Fprint(p.w, clearLine, what)
	} else {
		fmt.Fprintln(p.w, what)
	}
}

// end leaves nothing behind on a terminal.
func (p *progress) end() {
	if p.terminal {
		fmt.Fprint(p.w, clearLine)
	}
}
