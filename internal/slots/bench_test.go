package slots

import (
	"context"
	"testing"
	"time"
)

type nothing struct{}

func benchPool(b *testing.B, slots int) *Pool[string, nothing] {
	p := New(Options[string, nothing]{
		Open:  func(context.Context, string) (Opened[nothing], error) { return Opened[nothing]{Slots: slots}, nil },
		Close: func(context.Context, nothing, Reason) {},
		Total: 1000, MaxOpening: 16, OpenTimeout: time.Minute,
	})
	b.Cleanup(func() { p.Close(context.Background()) })
	return p
}

func BenchmarkFree(b *testing.B) {
	p := benchPool(b, 64)
	ctx := context.Background()
	key := &Key[string]{ID: "a", Max: 8, Slots: 64}
	b.ReportAllocs()
	for b.Loop() {
		l, _ := p.Acquire(ctx, key, Ask{Timeout: time.Minute})
		l.Release()
	}
}

func BenchmarkFree32(b *testing.B) {
	p := benchPool(b, 64)
	ctx := context.Background()
	key := &Key[string]{ID: "a", Max: 8, Slots: 64}
	b.ReportAllocs()
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			l, _ := p.Acquire(ctx, key, Ask{Timeout: time.Minute})
			l.Release()
		}
	})
}
