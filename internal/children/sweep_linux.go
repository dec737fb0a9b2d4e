package children

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// sweepGrace is how long processes that are left have to end when they are
	// told to. The end of their input has told them, too.
	sweepGrace = 500 * time.Millisecond
	// sweepTime is how long those that do not are killed: what one of them starts
	// in the meantime is found the next time.
	sweepTime = time.Second
	sweepTick = 10 * time.Millisecond
)

// watchOver is the main function of the supervisor: it learns of children
// until in ends, and ends what is left of them.
func watchOver(in io.Reader) {
	known := make(map[watch]int)
	for lines := bufio.NewScanner(in); lines.Scan(); {
		var w watch
		var group int
		if _, err := fmt.Sscan(lines.Text(), &w, &group); err != nil {
			continue // none of ours is like that
		}
		if group == over {
			delete(known, w)
		} else {
			known[w] = group
		}
	}
	sweep(known)
}

// sweep ends all processes of the children that are known.
func sweep(known map[watch]int) {
	began := time.Now()
	for any := send(known, syscall.SIGTERM); any && time.Since(began) < sweepGrace; any = send(known, 0) {
		time.Sleep(sweepTick)
	}
	for send(known, syscall.SIGKILL) && time.Since(began) < sweepGrace+sweepTime {
		time.Sleep(sweepTick)
	}
}

// send sends a signal to all processes of the children that are known, once to
// each, and reports whether there are any. Those that have ended and are not
// reaped yet do not count.
func send(known map[watch]int, signal syscall.Signal) (any bool) {
	if len(known) == 0 {
		return false
	}
	groups := make(map[int]bool)
	for _, group := range known {
		if group > 0 {
			groups[group] = true
			_ = syscall.Kill(-group, signal)
		}
	}
	processes, _ := os.ReadDir("/proc")
	for _, process := range processes {
		pid, err := strconv.Atoi(process.Name())
		if err != nil {
			continue
		}
		switch state := stat(pid); {
		case state == nil:
		case groups[state.group]:
			any = true
		case holds(pid, known):
			any = true
			_ = syscall.Kill(pid, signal)
		}
	}
	return any
}

// holds reports whether a process holds the pipe of a child that is known.
func holds(pid int, known map[watch]int) bool {
	files := fmt.Sprintf("/proc/%d/fd/", pid)
	entries, _ := os.ReadDir(files) // none of a process that is not ours, or gone
	for _, entry := range entries {
		target, _ := os.Readlink(files + entry.Name())
		if inode, ok := strings.CutPrefix(target, "pipe:["); ok {
			n, _ := strconv.ParseUint(strings.TrimSuffix(inode, "]"), 10, 64)
			if _, ok := known[watch(n)]; ok {
				return true
			}
		}
	}
	return false
}

type status struct{ parent, group, session int }

// stat returns what there is to know of a process, nil if it has ended.
func stat(pid int) *status {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	// "pid (name) state parent group session ...", and the name may have
	// anything in it.
	var s status
	var state string
	fields := string(text[bytes.LastIndexByte(text, ')')+1:])
	if _, err := fmt.Sscan(fields, &state, &s.parent, &s.group, &s.session); err != nil || state == "Z" || state == "X" {
		return nil
	}
	return &s
}
