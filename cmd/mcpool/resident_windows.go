package main

import "context"

// On Windows there are neither SIGHUP nor SIGUSR2, no systemd, and no sockets
// that another process inherits: the configuration is reloaded when its file
// changes, and a restart ends the process.

type signals struct{}

func listenForSignals() signals { return signals{} }
func (signals) stop()           {}

func (r *resident) heed(context.Context, signals, func()) {}
func (r *resident) keepWatchdog(context.Context)          {}

func inherit() (inherited, error) { return inherited{ready: func() {}}, nil }
func notify(...string) error      { return nil }
func reloading() []string         { return nil }
