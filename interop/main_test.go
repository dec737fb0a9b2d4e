package interop

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mcpool-dev/mcpool/internal/dbtest"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

// programKey in the environment has this program be a server or a client: one
// of goPrograms, by its name.
const programKey = "MCPOOL_INTEROP_PROGRAM"

func TestMain(m *testing.M) {
	if name := os.Getenv(programKey); name != "" {
		if err := goPrograms[name](os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if mark := os.Getenv(reapKey); mark != "" {
		reap(mark)
		return
	}
	mark := strconv.Itoa(os.Getpid()) + "-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	os.Setenv(runKey, mark)
	if err := startReaper(runKey + "=" + mark); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(mcptest.Settled(dbtest.Servers(m)), goleak.Cleanup(func(code int) {
		if left := leftOf(runKey + "=" + mark); len(left) > 0 {
			fmt.Fprintf(os.Stderr, "processes are left: %v\n", left)
			code = max(code, 1)
		}
		os.Exit(code)
	}))
}
