package children

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// title is what the supervisor is called in lists of processes, and how the
// program knows that it is to be one.
const title = "mcpool-supervisor"

// tellTime bounds how long the supervisor may leave what it is told unread. It
// does nothing but read, so beyond that somebody has stopped it.
const tellTime = time.Second

// supervisor is the second process, and what it has been told.
var supervisor struct {
	// mu guards what follows, and keeps what is written in order. Writing under
	// it does no harm: the pipe is read at once, and tellTime bounds it.
	mu     sync.Mutex
	wanted bool
	known  map[watch]int // the process group of each child, 0 until it is known
	cmd    *exec.Cmd
	pipe   *os.File // nil while it does not run
}

// Supervise has a second process, the supervisor, end what is left of the
// children when this one has vanished, killed by SIGKILL for instance. The
// supervisor is this program, started again with the first child; there
// Supervise does not return. So it has to be called before anything else is
// done, first of all in main. It does nothing where there is no Linux.
//
// What the supervisor knows comes from a pipe. It ends when the pipe does,
// which is when this process has ended, in whatever way; it then sends SIGTERM
// to the process groups of all children that are not known to be gone, and
// SIGKILL to what is left after half a second. It is in a session of its own
// and ignores the signals that end us, so it is there when it is needed. When
// it was killed all the same, the next child that starts brings it back.
//
// A child is known before it starts, by the pipe that is its standard input,
// and right afterwards by its process group. The kernel keeps what was written
// to the supervisor though we are gone, so these are found:
//
//   - all processes of its process group, from the moment the group is told;
//   - all processes that hold the pipe, from the very beginning. They are found
//     in /proc. So a server that a wrapper has put into another process group
//     or session is ended, too: it has to hold the pipe to be a server.
//
// A process escapes only if it has left the process group and has closed the
// pipe; or if the child has started it without the pipe in the microseconds
// between its own start and the message that tells its group, and we are killed
// within the same microseconds.
//
// PR_SET_CHILD_SUBREAPER, the other way to find what has left a group, would
// have to be set in the process that starts the children, and would leave us
// with orphans to reap that are none of ours, while we live; when we are killed
// it does nothing.
func Supervise() {
	if len(os.Args) > 0 && os.Args[0] == title {
		signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2)
		watchOver(os.Stdin)
		os.Exit(0)
	}
	supervisor.mu.Lock()
	defer supervisor.mu.Unlock()
	supervisor.wanted = true
}

// A watch is a child as the supervisor knows it: the inode of the pipe that is
// its standard input. 0 is a child that it does not know.
type watch uint64

// over is told of a child that is gone, in the place of its process group.
const over = -1

// expect tells the supervisor, if one is wanted, that a child is about to be
// started.
func expect(stdin *os.File) (watch, error) {
	supervisor.mu.Lock()
	defer supervisor.mu.Unlock()
	if !supervisor.wanted {
		return 0, nil
	}
	info, err := stdin.Stat()
	if err != nil {
		return 0, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || stat.Mode&syscall.S_IFMT != syscall.S_IFIFO {
		return 0, fmt.Errorf("%s is no pipe", stdin.Name())
	}
	w := watch(stat.Ino)
	if supervisor.pipe != nil && tellLocked(w, 0) == nil {
		return w, nil
	}
	return w, superviseLocked(w)
}

func (w watch) started(pid int) { w.tell(pid) }
func (w watch) over()           { w.tell(over) }

func (w watch) tell(group int) {
	if w == 0 {
		return
	}
	supervisor.mu.Lock()
	defer supervisor.mu.Unlock()
	if supervisor.pipe != nil {
		_ = tellLocked(w, group) // if it is gone, the next one is told
	} else {
		noteLocked(w, group)
	}
}

// superviseLocked starts the supervisor, and tells it all.
func superviseLocked(w watch) error {
	noteLocked(w, 0)
	// Not the path of the program: there may be another version by now.
	cmd := exec.Command("/proc/self/exe")
	cmd.Args[0] = title
	cmd.Dir = "/" // so that no file system is kept in use
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	in, out, err := os.Pipe()
	if err != nil {
		return err
	}
	defer in.Close()
	cmd.Stdin = in
	if err := cmd.Start(); err != nil {
		_ = out.Close()
		return err
	}
	supervisor.cmd, supervisor.pipe = cmd, out
	for w, group := range supervisor.known {
		if err := tellLocked(w, group); err != nil {
			return err
		}
	}
	return nil
}

func noteLocked(w watch, group int) {
	if supervisor.known == nil {
		supervisor.known = make(map[watch]int)
	}
	if group == over {
		delete(supervisor.known, w)
	} else {
		supervisor.known[w] = group
	}
}

// tellLocked tells the supervisor of a child. It is given up if it does not
// listen.
func tellLocked(w watch, group int) error {
	noteLocked(w, group)
	_ = supervisor.pipe.SetWriteDeadline(time.Now().Add(tellTime))
	// A line is written whole or not at all: it is shorter than PIPE_BUF.
	_, err := fmt.Fprintf(supervisor.pipe, "%d %d\n", w, group)
	if err != nil {
		// In this order: the end of the pipe would have it end the children.
		_ = supervisor.cmd.Process.Kill()
		_ = supervisor.cmd.Wait()
		_ = supervisor.pipe.Close()
		supervisor.pipe = nil
	}
	return err
}
