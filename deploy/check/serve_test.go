package check

import (
	"bufio"
	"context"
	"net/http"
	"os"
	"strings"
	"testing"
)

// serve starts the program on loopback as it is deployed, and compares how it
// answers /healthz and /readyz to those who call it by the names of statuses.
func (d deployment) serve(t *testing.T, statuses map[string]int) {
	t.Helper()
	cmd := d.command(t, "127.0.0.1:0")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", cmd, err)
		}
	}()
	base := ""
	for lines := bufio.NewScanner(out); base == "" && lines.Scan(); {
		if words := strings.Fields(lines.Text()); len(words) == 2 && words[0] == "status" {
			base = strings.TrimSuffix(words[1], "/status")
		}
	}
	if base == "" {
		t.Fatalf("%s: it says no address", cmd)
	}
	for host, want := range statuses {
		for _, path := range []string{"/healthz", "/readyz"} {
			if got := status(t.Context(), t, base+path, host); got != want {
				t.Errorf("GET %s as %s: status %d, want %d", path, host, got, want)
			}
		}
	}
}

func status(ctx context.Context, t *testing.T, url, host string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = host
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return response.StatusCode
}
