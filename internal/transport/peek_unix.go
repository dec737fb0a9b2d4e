//go:build unix

package transport

import "syscall"

// canPeek says whether stillOpen can tell.
const canPeek = true

// stillOpen reports whether a socket that nothing is read from is open, and nothing
// has come: what comes unasked for is the end, or a mistake.
func stillOpen(socket syscall.RawConn) bool {
	open := false
	var one [1]byte
	err := socket.Read(func(fd uintptr) bool {
		_, err := syscall.Read(int(fd), one[:])
		open = err == syscall.EAGAIN || err == syscall.EWOULDBLOCK
		return true // do not wait
	})
	return err == nil && open
}
