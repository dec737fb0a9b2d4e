//go:build unix

package main

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestImportDoesNotWaitForAPipe holds that what is no file is refused, and not
// read until somebody writes.
func TestImportDoesNotWaitForAPipe(t *testing.T) {
	machine(t)
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"--from", "cursor=" + pipe}, {"--output", pipe}} {
		if status, _, stderr := finish(t, append([]string{"import"}, args...)...); status != 1 || !strings.Contains(stderr, pipe+" is no regular file") {
			t.Errorf("%q: status %d, %s", args, status, stderr)
		}
	}
}
