package systemd

import (
	"fmt"
	"syscall"
	"unsafe"
)

// Reloading returns what says that the configuration is read again, with the
// clock that systemd tells it by (sd_notify(3), RELOADING=1).
func Reloading() []string {
	const clockMonotonic = 1 // clock_gettime(2)
	var now syscall.Timespec
	if _, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&now)), 0); errno != 0 { // #nosec G103 -- the kernel fills it in
		return []string{"RELOADING=1"}
	}
	return []string{"RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", now.Nano()/1000)}
}
