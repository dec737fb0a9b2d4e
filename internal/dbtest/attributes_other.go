//go:build unix && !linux

package dbtest

import "syscall"

// attributes are those of the test itself: elsewhere nobody runs tests as root.
func attributes(*syscall.Credential) *syscall.SysProcAttr { return nil }
