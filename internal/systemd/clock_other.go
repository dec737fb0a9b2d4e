//go:build unix && !linux

package systemd

// Reloading returns what says that the configuration is read again. There is no
// systemd but on Linux.
func Reloading() []string { return []string{"RELOADING=1"} }
