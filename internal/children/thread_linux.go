package children

import (
	"runtime"
	"sync"
	"syscall"
)

// dieWithUs has the kernel kill the child when the thread that starts it ends
// (PR_SET_PDEATHSIG). SIGKILL, because servers ignore the others.
func dieWithUs(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }

// A thread is where children are started. A death signal comes when the
// *thread* ends that has started the child, not when the process does (prctl(2),
// PR_SET_PDEATHSIG, "Warning"), and Go ends threads as it likes. So a goroutine
// keeps one to itself for as long as any child lives that was started there.
type thread struct {
	users int // children there; guarded by threads
	work  chan func()
	ended chan struct{}
}

var (
	threads sync.Mutex // guards current
	current *thread    // nil while there is no child
)

// enterThread returns the thread to start one child on. leave must follow.
func enterThread() *thread {
	threads.Lock()
	defer threads.Unlock()
	if current == nil {
		current = &thread{work: make(chan func()), ended: make(chan struct{})}
		go current.run()
	}
	current.users++
	return current
}

func (t *thread) run() {
	defer close(t.ended)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread() // nobody's life hangs on it any more
	for f := range t.work {
		f()
	}
}

// do runs f on the thread, and returns when it is done.
func (t *thread) do(f func()) {
	done := make(chan struct{})
	t.work <- func() { defer close(done); f() }
	<-done
}

// leave says that a child is gone. The thread ends with the last one.
func (t *thread) leave() {
	threads.Lock()
	t.users--
	last := t.users == 0
	if last {
		current = nil
	}
	threads.Unlock()
	if last {
		close(t.work)
		<-t.ended
	}
}
