package mcpool_test

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/rpc"
)

// answers answers at once.
type answers struct{}

func (answers) Do(context.Context, rpc.Call) (rpc.Answer, error) {
	return rpc.Result(json.RawMessage(`{"content":[]}`)), nil
}

// BenchmarkDo is what a pool costs a call: its slot, its connection, and what is
// counted and remembered of it.
func BenchmarkDo(b *testing.B) {
	p, err := mcpool.New(mcpool.Server{Name: "test", Handler: answers{}}, nil)
	if err != nil {
		b.Fatal(err)
	}
	call := rpc.Call{Method: "tools/call", Params: json.RawMessage(`{"name":"x"}`)}
	b.Run("alone", func(b *testing.B) {
		for b.Loop() {
			if _, err := p.Do(b.Context(), call); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("together", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := p.Do(b.Context(), call); err != nil {
					b.Error(err)
				}
			}
		})
	})
	closePool(b, p)
}
