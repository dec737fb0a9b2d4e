package main

import "testing"

// BenchmarkCases runs each subject in each case, for profiles and for a look.
// The figures in README.md are the command's, which takes turns.
func BenchmarkCases(b *testing.B) {
	for _, together := range cases() {
		for _, c := range together {
			for _, open := range c.open {
				c.onProcs(func() { benchmark(b, c.name, open) })
			}
		}
	}
}

// BenchmarkTransports does so with the clients.
func BenchmarkTransports(b *testing.B) {
	peer, stop := startPeer()
	defer stop()
	for _, route := range routes() {
		for _, c := range route.cases(peer) {
			for _, open := range c.open {
				benchmark(b, c.name, open)
			}
		}
	}
}

func benchmark(b *testing.B, name string, open func() trial) {
	t := open()
	defer t.stop()
	b.Run(name+"/"+t.subject, func(b *testing.B) {
		b.ReportAllocs()
		used := processorTime()
		for b.Loop() {
			t.run(1)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*t.unit), "ns/each")
		b.ReportMetric(float64(processorTime()-used)/float64(b.Elapsed()), "processors")
	})
}
