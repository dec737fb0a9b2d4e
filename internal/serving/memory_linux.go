package serving

import (
	"math"
	"os"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
)

// memoryShare is how much of the memory that its control group may have the heap
// of this process may take: what is no heap needs some, too.
const memoryShare = 0.9

// LimitMemory has the garbage collector keep this process below the memory that
// its container or unit may have (cgroup v2, memory.max), rather than be killed
// for it, unless the environment says how much it may take (GOMEMLIMIT). It
// returns the limit in bytes, 0 if none was set. As many threads as the control
// group has processors are run without us, since Go 1.25.
func LimitMemory() int64 {
	return limitMemory(memoryLimit("/proc/self/cgroup", "/sys/fs/cgroup"))
}

func limitMemory(limit int64) int64 {
	if limit == 0 || os.Getenv("GOMEMLIMIT") != "" {
		return 0
	}
	debug.SetMemoryLimit(limit)
	return limit
}

// memoryLimit returns memoryShare of the least memory.max from the control group
// that a file names up to the root, 0 for none.
func memoryLimit(groupFile, root string) int64 {
	text, _ := os.ReadFile(groupFile)
	least := int64(math.MaxInt64)
	for line := range strings.Lines(string(text)) {
		group, v2 := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if !v2 {
			continue // a hierarchy of v1
		}
		for group = path.Clean("/" + group); ; group = path.Dir(group) {
			most, _ := os.ReadFile(path.Join(root, group, "memory.max"))
			if n, err := strconv.ParseInt(strings.TrimSpace(string(most)), 10, 64); err == nil { // not "max"
				least = min(least, n)
			}
			if group == "/" {
				break
			}
		}
	}
	if least == math.MaxInt64 {
		return 0
	}
	return int64(float64(least) * memoryShare)
}
