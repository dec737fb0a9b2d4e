//go:build !linux

package children

import "syscall"

// A thread is where children are started; it matters on Linux only.
type thread struct{}

func enterThread() *thread { return nil }

func (*thread) do(f func()) { f() }
func (*thread) leave()      {}

func dieWithUs(*syscall.SysProcAttr) {}
