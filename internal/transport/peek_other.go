//go:build !unix

package transport

import "syscall"

// canPeek says whether stillOpen can tell.
const canPeek = false

func stillOpen(syscall.RawConn) bool { return false }
