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

// BenchmarkGateway does so with the hops. With MCPOOL_BENCH_PROFILE they write
// profiles of themselves.
func BenchmarkGateway(b *testing.B) {
	peer, stop := startPeer()
	defer stop()
	h := startHops(peer)
	defer h.stop()
	for _, p := range append(alone(), passages()...) {
		for _, open := range h.through(p).open {
			benchmark(b, p.name(), open)
		}
	}
}

// BenchmarkDatabase does so with the database servers that are installed, and a
// table that is small.
func BenchmarkDatabase(b *testing.B) {
	tableMiB = 8
	d := openDatabases()
	defer d.stop()
	for _, missing := range d.missing {
		b.Log(missing)
	}
	list := d.first()
	for _, c := range d.cases() {
		list = append(list, d.of(c))
	}
	for _, c := range list {
		for _, open := range c.open {
			benchmark(b, c.name, open)
		}
	}
}

func benchmark(b *testing.B, name string, open func() trial) {
	t := open()
	defer t.stop()
	b.Run(name+"/"+t.subject, func(b *testing.B) {
		b.ReportAllocs()
		usage := usageOfThis
		if t.usage != nil {
			usage = t.usage
		}
		before := usage()
		for b.Loop() {
			t.run(1)
		}
		used := usage().Processor - before.Processor
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*t.unit), "ns/each")
		b.ReportMetric(float64(used)/float64(b.Elapsed()), "processors")
	})
}
