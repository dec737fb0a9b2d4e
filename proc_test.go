package mcpool_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// A possession is what this process has of the system.
type possession struct {
	files    int // descriptors
	children int // those not reaped included
}

func (p possession) String() string {
	return fmt.Sprintf("%d files, %d children", p.files, p.children)
}

// leavesNothing checks that this process has no more than before. The other end
// of a socket, in this process too, is closed a moment later than ours, and what
// was left of a test before this one is none of its business.
func leavesNothing(t testing.TB, before possession) {
	t.Helper()
	after := look(t)
	for end := time.Now().Add(30 * time.Second); after.exceeds(before) && time.Now().Before(end); after = look(t) {
		time.Sleep(time.Millisecond)
	}
	if after.exceeds(before) {
		t.Errorf("before %v, after %v", before, after)
	}
}

func (p possession) exceeds(other possession) bool {
	return p.files > other.files || p.children > other.children
}

// look counts what this process has. It skips the test where there is no /proc.
func look(t testing.TB) possession {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("open files and processes are counted in /proc")
	}
	return possession{len(files) - 1, len(children(t))} // without that of /proc/self/fd
}

// children returns the processes whose parent is this one.
func children(t testing.TB) (pids []int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range stats {
		stat, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended meanwhile
		}
		// "pid (name) state parent ...", and the name may have anything in it.
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		if parent, _ := strconv.Atoi(string(fields[1])); parent == os.Getpid() {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// killOne kills a child of this process, if it has any.
func killOne(t testing.TB) {
	t.Helper()
	pids := children(t)
	if len(pids) == 0 {
		return
	}
	process, err := os.FindProcess(pids[rand.IntN(len(pids))])
	if err == nil {
		defer process.Release()
		err = process.Kill()
	}
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
}
