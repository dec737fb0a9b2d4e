package main

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

func TestMain(m *testing.M) {
	if servePeer() {
		os.Exit(0)
	}
	goleak.VerifyTestMain(mcptest.Settled(m))
}
