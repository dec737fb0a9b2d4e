//go:build !linux

package serving

// LimitMemory does nothing: there are no control groups here.
func LimitMemory() int64 { return 0 }
