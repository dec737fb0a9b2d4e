//go:build unix

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

// TestOperatingGuide does what docs/operating.md says, command by command.
func TestOperatingGuide(t *testing.T) {
	page, err := os.ReadFile("../../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	var commands []string
	for _, part := range strings.Split(string(page), "```sh\n")[1:] {
		command, _, _ := strings.Cut(part, "```")
		commands = append(commands, command)
	}
	// What each of them has the log say.
	says := []string{`request`, `configuration reloaded`, `another process has taken the place of this one","pid":\d+`, `"msg":"stopped"(?s:.*)"msg":"stopped"`}
	if len(commands) != len(says) {
		t.Fatalf("it has %d commands, and %d are known", len(commands), len(says))
	}
	dir := t.TempDir()
	program := fmt.Sprintf("#!/bin/sh\ncommand=$1; shift\n[ \"$1\" = --check ] || set -- --listen %s \"$@\"\nexec %s \"$command\" \"$@\"\n", somewhere, testBinary(t))
	if err := os.WriteFile(filepath.Join(dir, "mcpool"), []byte(program), 0o700); err != nil {
		t.Fatal(err)
	}
	configuration := fmt.Sprintf(`{"mcpServers": {"one": {"url": %q}}}`, upstream(t, &mcptest.Server{}))
	if err := os.WriteFile(filepath.Join(dir, "mcp.json"), []byte(configuration), 0o600); err != nil {
		t.Fatal(err)
	}
	shell := func(command string, pid int) *exec.Cmd {
		cmd := commandLine(t)
		cmd.Path, cmd.Args, cmd.Dir = "/bin/sh", []string{"sh", "-e", "-c", command}, dir
		cmd.Env = append(cmd.Env, "PATH="+dir+":"+os.Getenv("PATH"), fmt.Sprint("PID=", pid))
		return cmd
	}
	served := startCommand(t, shell(commands[0], 0)).greeted(t)
	pid := served.process.Pid
	if _, err := connect(t, web(t), served.url+"/mcp").call(t.Context(), "echo", "x"); err != nil {
		t.Error(err)
	}
	served.await(t, &served.err, says[0])
	for i, command := range commands[1:] {
		if out, err := shell(command, pid).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v, %s", command, err, out)
		}
		served.await(t, &served.err, says[i+1])
		if at := strings.Index(served.err.String(), `place of this one","pid":`); at >= 0 {
			_, _ = fmt.Sscanf(served.err.String()[at:], `place of this one","pid":%d`, &pid)
			served.stop = func() { _ = syscall.Kill(pid, syscall.SIGTERM) }
		}
	}
	served.end(t)
}
