package serving

import (
	"os"
	"runtime/debug"
)

// gcPercent is how much a heap may grow before it is collected, in percent of
// what was in use. A gateway keeps little, and each call leaves some 8 KB: with
// the 100 of Go, which come to 4 MiB, it would collect twenty times a second
// under load, and that is a tenth of all it does. So it takes up to five times what it keeps,
// and no less than 16 MiB.
const gcPercent = 400

// CollectLess has this process collect its garbage less often, unless the
// environment says how often (GOGC).
func CollectLess() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}
