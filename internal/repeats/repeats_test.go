package repeats_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool/internal/repeats"
)

// A failure is said when it begins, each minute that it lasts, and when it begins
// again.
func TestAFailureIsSaidWhenItBeginsAndOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said bytes.Buffer
		log := slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{
			ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey {
					return slog.Attr{}
				}
				return a
			},
		}))
		var f repeats.Failure
		for range 2 {
			for range 121 { // 0 s to 120 s
				f.Happened(log, "no answer", "error", "x")
				time.Sleep(time.Second)
			}
			f.Over()
		}
		const one = "level=WARN msg=\"no answer\" error=x\n"
		again := strings.TrimSuffix(one, "\n") + " times=60\n"
		if want := strings.Repeat(one+again+again, 2); said.String() != want {
			t.Errorf("it says\n%swant\n%s", said.String(), want)
		}
	})
}
