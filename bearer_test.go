package mcpool_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/rpc"
)

// bearers makes a pool with that Auth, and returns what its next call carries.
func bearers(t *testing.T, auth mcpool.Auth) (p *mcpool.Pool, tripper http.RoundTripper, carried func() string, refuse func(token string)) {
	s := &server{}
	s.network.Handler = &s.Server
	var mu sync.Mutex // guards last and refused
	var last, refused string
	s.Fault = func(r *http.Request, method string, w http.ResponseWriter) bool {
		if method != "tools/call" { // a health check, say
			return false
		}
		mu.Lock()
		defer mu.Unlock()
		last, _ = strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if last == refused {
			http.Error(w, "not "+last, http.StatusUnauthorized)
		}
		return last == refused
	}
	p, err := mcpool.New(mcpool.Server{Name: "test", URL: "http://server.test/mcp", RoundTripper: &s.network, Auth: auth}, nil)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	carried = func() string {
		n++
		if _, err := call(t.Context(), p, nobody, "write", fmt.Sprint(n)); err != nil {
			return err.Error()
		}
		mu.Lock()
		defer mu.Unlock()
		return last
	}
	return p, &s.network, carried, func(token string) {
		mu.Lock()
		defer mu.Unlock()
		refused = token
	}
}

func TestBearerOfTheEnvironment(t *testing.T) {
	t.Setenv("MCPOOL_TEST_TOKEN", " one\n")
	synctest.Test(t, func(t *testing.T) {
		p, tripper, carried, refuse := bearers(t, mcpool.BearerEnv("MCPOOL_TEST_TOKEN"))
		if got := carried(); got != "one" {
			t.Errorf("got %q", got)
		}
		same := mcpool.Server{Name: "test", URL: "http://server.test/mcp", RoundTripper: tripper, Auth: mcpool.BearerEnv("MCPOOL_TEST_TOKEN")}
		if err := p.Reload(same, nil); err != nil || carried() != "one" || p.Stats().Opened != 1 {
			t.Errorf("after Reload with the same: %d connections, %v", p.Stats().Opened, err)
		}
		os.Setenv("MCPOOL_TEST_TOKEN", "two")
		refuse("one")
		if got := carried(); got != "two" {
			t.Errorf("after a refusal: %q", got)
		}
		refuse("two")
		os.Unsetenv("MCPOOL_TEST_TOKEN")
		if got := carried(); !strings.Contains(got, "variable MCPOOL_TEST_TOKEN has no token") {
			t.Errorf("not set: %q", got)
		}
		closePool(t, p)
	})
}

// TestBearerFileIsReadAgain replaces a file as Kubernetes does: a link to a
// folder is turned elsewhere.
func TestBearerFileIsReadAgain(t *testing.T) {
	folder := t.TempDir()
	turn := func(token string) {
		t.Helper()
		version, link := filepath.Join(folder, token), filepath.Join(folder, "..link")
		if err := os.Mkdir(version, 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(version, "token"), token+"\n")
		if err := errors.Join(os.Symlink(token, link), os.Rename(link, filepath.Join(folder, "..data"))); err != nil {
			t.Fatal(err)
		}
	}
	turn("one")
	file := filepath.Join(folder, "token")
	if err := os.Symlink(filepath.Join("..data", "token"), file); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		p, _, carried, refuse := bearers(t, mcpool.BearerFile(file))
		expect := func(name, want string) {
			t.Helper()
			if got := carried(); !strings.Contains(got, want) {
				t.Errorf("%s: carried %q, want %q", name, got, want)
			}
		}
		expect("at first", "one")
		turn("two")
		expect("at once", "one")
		time.Sleep(time.Second + time.Millisecond)
		expect("after a second", "two")
		expect("unchanged", "two")
		time.Sleep(time.Hour)
		expect("after an hour", "two")
		turn("three")
		refuse("two")
		expect("after a refusal", "three")
		refuse("three")
		expect("no other", "HTTP 401")
		refuse("")

		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		expect("gone", "no such file")
		for want, content := range map[string]string{
			"is empty":             " \n",
			"is larger than 64":    strings.Repeat("tops3cret", 10_000),
			"that cannot be in a ": "tops3cret\nand more",
		} {
			write(t, file, content)
			time.Sleep(2 * time.Second)
			got := carried()
			if !strings.Contains(got, want) || strings.Contains(got, "tops3cret") {
				t.Errorf("got %q, want %s", got, want)
			}
			if !strings.Contains(got, file) && !strings.Contains(want, "cannot be in") {
				t.Errorf("%q does not name the file", got)
			}
		}
		closePool(t, p)
	})
	if _, err := mcpool.BearerFile(folder).Token(); err == nil || !strings.Contains(err.Error(), folder) {
		t.Errorf("a folder: %v", err)
	}
}

// TestRefusalCrossesTheFilesReading has a request be refused when the file was
// read once more meanwhile and had not changed yet.
func TestRefusalCrossesTheFilesReading(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	write(t, file, "one")
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		s.network.Handler = &s.Server
		s.Fault = func(r *http.Request, method string, w http.ResponseWriter) bool {
			old := r.Header.Get("Authorization") == "Bearer one"
			if old && method == "tools/call" {
				time.Sleep(5 * time.Second)
				http.Error(w, "no", http.StatusUnauthorized)
			}
			return old && method == "tools/call"
		}
		p, err := mcpool.New(mcpool.Server{Name: "test", URL: "http://server.test/mcp", RoundTripper: &s.network, Auth: mcpool.BearerFile(file)}, nil)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		go func() { _, err := call(t.Context(), p, nobody, "write", "1"); done <- err }()
		time.Sleep(4 * time.Second)
		if _, err := p.Do(t.Context(), rpc.Call{Method: "tools/list"}); err != nil { // reads the file
			t.Error(err)
		}
		write(t, file, "two")
		if err := <-done; err != nil {
			t.Errorf("the token was not renewed: %v", err)
		}
		closePool(t, p)
	})
}
