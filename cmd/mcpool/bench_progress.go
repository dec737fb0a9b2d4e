package main

import (
	"fmt"
	"io"
	"os"
	"sync"
)

// benchProgress says what is being measured: on a terminal in one line that is
// overwritten, elsewhere in a line each.
type benchProgress struct {
	terminal bool

	mu sync.Mutex // guards w: two contenders may be measured at a time
	w  io.Writer
}

// newBenchProgress returns a progress that is silent where a program reads.
func newBenchProgress(stderr io.Writer, asJSON bool) *benchProgress {
	p := &benchProgress{w: stderr}
	if f, ok := stderr.(*os.File); ok {
		info, err := f.Stat()
		p.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	if asJSON && !p.terminal {
		p.w = io.Discard
	}
	return p
}

const clearLine = "\r\x1b[K"

func (p *benchProgress) say(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.terminal {
		fmt.Fprint(p.w, clearLine, what)
	} else {
		fmt.Fprintln(p.w, what)
	}
}

// end leaves nothing behind on a terminal.
func (p *benchProgress) end() {
	if p.terminal {
		fmt.Fprint(p.w, clearLine)
	}
}
