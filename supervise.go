package mcpool

import "github.com/mcpool-dev/mcpool/internal/children"

// Supervise sees to it that nothing is left of the servers over stdio when this
// process is killed and cannot end them itself. Without it the kernel kills
// their processes, but not what these have started, as npx, uvx and shells do.
//
// A second process, the supervisor, ends all of it: with SIGTERM as soon as
// this process is gone, and after half a second with SIGKILL. It is this
// program again, started with the first server and called mcpool-supervisor;
// in it Supervise does not return. So call it first of all in main, before
// anything is done that must not be done twice:
//
//	func main() {
//		mcpool.Supervise()
//		...
//	}
//
// Supervise itself does no I/O. It does nothing but on Linux.
func Supervise() { children.Supervise() }
