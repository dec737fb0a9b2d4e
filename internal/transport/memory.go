package transport

import (
	"math/bits"
	"sync"

	"github.com/mcpool-dev/mcpool/rpc"
)

// Large messages are read into memory that has been used before, where whoever
// got one has given it back (see [rpc.Answer.Free]): to clear new memory and to
// find it again as garbage costs more than to read the message. It comes in
// powers of two, from leastMemory to mostMemory bytes; what is smaller or larger
// is left to the garbage collector.
const (
	leastMemory = 4 << 10
	mostMemory  = 4 << 20
)

var memory [11]sync.Pool // of *[]byte, by size

// newMemory returns size bytes with anything in them.
func newMemory(size int) []byte {
	if size < leastMemory || size > mostMemory {
		return make([]byte, size)
	}
	class := bits.Len(uint(size-1) / leastMemory)
	if used, ok := memory[class].Get().(*[]byte); ok {
		return (*used)[:size]
	}
	return make([]byte, size, leastMemory<<class)
}

// growMemory returns data in memory of that size, with its length as before. The
// memory it was in is given back.
func growMemory(data []byte, size int) []byte {
	grown := append(newMemory(size)[:0], data...)
	freeMemory(data)
	return grown
}

// freeMemory gives back what came from newMemory, in its whole length or not.
func freeMemory(m []byte) {
	c := cap(m)
	if c >= leastMemory && c <= mostMemory && c&(c-1) == 0 {
		m = m[:0]
		memory[bits.Len(uint(c/leastMemory))-1].Put(&m)
	}
}

// lend makes an answer one whose memory can be given back. Only calls of tools
// have such: whatever else a server says may be kept by whom it passes.
func lend(answer rpc.Answer, call rpc.Call, m []byte) rpc.Answer {
	if call.Method != "tools/call" || cap(m) < leastMemory {
		return answer
	}
	return answer.Lent(func() { freeMemory(m) })
}
