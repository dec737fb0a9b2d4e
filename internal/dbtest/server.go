//go:build unix

package dbtest

import (
	"net"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
)

// A server is a private one, of any kind. It listens on loopback.
type server struct {
	Host, Port string
	Password   string // of who may do anything
	home       *home

	mu      sync.Mutex // guards what follows
	args    []string   // more of them for the server
	begin   func(args []string) (*process, error)
	process *process // nil while it is stopped
}

// listen starts the server for the first time, on a port that is free.
func (s *server) listen(t testing.TB) {
	t.Helper()
	var err error
	for range 3 { // somebody else may take the port before the server does
		s.Port = freePort(t)
		if err = s.start(); err == nil {
			return
		}
	}
	s.home.remove()
	t.Fatal(err)
}

func (s *server) start() (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		s.process, err = s.begin(s.args)
	}
	return err
}

// Args adds arguments for the server, for when it is started again.
func (s *server) Args(args ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.args = append(s.args, args...)
}

// Start starts a server that was stopped.
func (s *server) Start(t testing.TB) {
	t.Helper()
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
}

// Stop ends the server and the connections to it.
func (s *server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil {
		s.process.stop()
		s.process = nil
	}
}

// Restart stops and starts the server.
func (s *server) Restart(t testing.TB) {
	t.Helper()
	s.Stop()
	s.Start(t)
}

func (s *server) end() {
	s.Stop()
	s.home.remove()
}

func (s *server) data() string { return filepath.Join(s.home.dir, "data") }

// Dir is the directory that the server alone can write to.
func (s *server) Dir() string { return s.home.dir }

// WriteFile makes a file in Dir that the server alone can read.
func (s *server) WriteFile(t testing.TB, name, content string) (path string) {
	t.Helper()
	return s.home.write(t, name, content)
}

// freePort returns a port of loopback on which nothing listens.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}
