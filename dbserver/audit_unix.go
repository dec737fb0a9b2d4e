//go:build unix

package dbserver

import (
	"os"
	"syscall"
)

// lockFile waits until no other server, of this process or another, has the
// file locked, and locks it. The lock ends with unlock, or with the process.
func lockFile(f *os.File) (unlock func(), err error) {
	for {
		switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err {
		case nil:
			return func() { _ = syscall.Flock(int(f.Fd()), syscall.LOCK_UN) }, nil
		case syscall.EINTR:
		default:
			return nil, err
		}
	}
}
