package mcptest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestFaultsDoWhatTheySay meets each fault with a call in a session, on a
// stream: whether it runs, and what its client sees.
func TestFaultsDoWhatTheySay(t *testing.T) {
	for fault, want := range map[Fault]struct {
		ran  int
		seen string // the status, what of the body, and how it ends
	}{
		None:            {1, "200 whole EOF"},
		Late:            {1, "200 whole EOF"},
		LateAnswer:      {1, "200 whole EOF"},
		SessionGone:     {0, "404"},
		AllSessionsGone: {0, "404"},
		Error500:        {1, "500"},
		Error503:        {0, "503"},
		ResetUnread:     {0, "reset"},
		ResetAnswer:     {1, "reset"},
		CutBefore:       {1, "200 nothing unexpected EOF"},
		CutWithin:       {1, "200 half unexpected EOF"},
		CutAfter:        {1, "200 whole unexpected EOF"},
		Swallow:         {0, "silence"},
		SwallowAnswer:   {1, "silence"},
		Stall:           {1, "200 a comment, silence"},
	} {
		t.Run(fault.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := &Server{SSE: true}
				faults := &Faults{Server: server, Plan: []byte{byte(fault)}}
				session := post(t, server, "", `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}`).Header.Get("Mcp-Session-Id")
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://server.test",
					strings.NewReader(`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"write","arguments":{"id":"w"}}}`))
				if err != nil {
					t.Fatal(err)
				}
				request.Header.Set("Mcp-Session-Id", session)
				if seen := see(RoundTripper(faults).RoundTrip(request)); seen != want.seen {
					t.Errorf("the client saw %q, want %q", seen, want.seen)
				}
				synctest.Wait()
				if n := server.Executions()["w"]; n != want.ran || faults.Running() != 0 || faults.Met()[fault] != 1 {
					t.Errorf("ran %d times, want %d; %d still running; met %v", n, want.ran, faults.Running(), faults.Met())
				}
			})
		})
	}
}

// see says in words what a client saw of a response.
func see(response *http.Response, err error) string {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "silence"
	case errors.Is(err, syscall.ECONNRESET):
		return "reset"
	case err != nil:
		return err.Error()
	}
	defer response.Body.Close()
	seen := fmt.Sprint(response.StatusCode)
	if response.StatusCode != http.StatusOK {
		return seen
	}
	body, err := io.ReadAll(response.Body)
	switch text := string(body); {
	case strings.HasPrefix(text, ":"):
		seen += " a comment,"
	case text == "":
		seen += " nothing"
	case strings.HasSuffix(text, "}\n\n"):
		seen += " whole"
	default:
		seen += " half"
	}
	switch {
	case err == nil:
		return seen + " EOF"
	case errors.Is(err, context.DeadlineExceeded):
		return seen + " silence"
	}
	return seen + " " + err.Error()
}

func TestFaultsHeal(t *testing.T) {
	faults := &Faults{Server: &Server{}, Plan: []byte{byte(ResetUnread)}}
	faults.Heal()
	response, err := get(t, t.Context(), RoundTripper(faults))
	if err != nil || response.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("got %v, %v", response, err)
	}
}

func TestReadLedger(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ledger")
	if err := os.WriteFile(file, []byte("a\nb\na\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ran, err := ReadLedger(file)
	if err != nil || len(ran) != 2 || ran["a"] != 2 || ran["b"] != 1 {
		t.Errorf("got %v, %v", ran, err)
	}
	if _, err := ReadLedger(file + ".none"); err == nil {
		t.Error("a ledger that is not there was read")
	}
}
