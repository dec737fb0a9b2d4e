package pagetest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

// program is the mcpool command, built of the tree that the tests are in.
var program string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "pagetest")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	program = filepath.Join(dir, "mcpool")
	build := exec.Command("go", "build", "-o", program, "./cmd/mcpool")
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
		os.Exit(1)
	}
	goleak.VerifyTestMain(mcptest.Settled(m), goleak.Cleanup(func(code int) {
		os.RemoveAll(dir)
		os.Exit(code)
	}))
}
