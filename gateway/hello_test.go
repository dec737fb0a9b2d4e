package gateway

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestClientsOfAServerThatIsAwayMakeFewLines has a client a second begin at two
// servers and list, while one of them is away.
func TestClientsOfAServerThatIsAwayMakeFewLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		g, err := New([]Server{{Name: "one", Handler: polite(handler(demo))}, {Name: "two", Handler: fails(errors.New("away"))}},
			&Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		for range 90 {
			for _, method := range []string{"server/discover", "tools/list"} {
				do(g, "POST", "/mcp", `{"jsonrpc":"2.0","id":1,"method":"`+method+`","params":{`+meta+`}}`, modernHeaders(method, "")...)
			}
			time.Sleep(time.Second)
		}
		for _, what := range []string{"a client began without a server", "a server is left out of a list"} {
			if n := strings.Count(log.String(), what); n != 2 {
				t.Errorf("%d lines say %q, want 2", n, what)
			}
		}
	})
}
