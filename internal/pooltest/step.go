// Package pooltest proves pools. It has what can be done to a pool as data, a
// plain model of what has to come of it, and a machine that does the one and
// compares it with the other after each step, in virtual time. What it proves
// is behind an interface, so that the engine and the public pool are driven by
// the same operations. It is imported by tests alone.
package pooltest

import (
	"fmt"
	"strings"

	"pgregory.net/rapid"
)

// An Op is something that is done to a pool or to the servers behind it.
type Op byte

const (
	Acquire      Op = iota // for group A, by whom and how says B, for how long C
	Cancel                 // the A-th of those who wait
	Release                // the A-th lease
	ReleaseTwice           // the same, and once more
	Lose                   // the holder of the A-th lease says that its connection has failed
	Die                    // the A-th connection ends by itself
	Openings               // from now on turn out as A says and take B
	Checks                 // from now on turn out as A says
	Sleep                  // for as long as A says
	Reset
	Drain
	Pause
	Resume
	End    // of group A
	Change // of limits, to A, B and C
	Warm   // group A
	ops
)

var opNames = [ops]string{"Acquire", "Cancel", "Release", "ReleaseTwice", "Lose", "Die", "Openings", "Checks",
	"Sleep", "Reset", "Drain", "Pause", "Resume", "End", "Change", "Warm"}

// A Step is one operation.
type Step struct {
	Op      Op
	Pool    byte // to which pool
	A, B, C byte
}

func (s Step) String() string {
	return fmt.Sprintf("%s(%d: %d %d %d)", opNames[s.Op], s.Pool, s.A, s.B, s.C)
}

// Setup is what the pools of a schedule are like, as their makers read it.
type Setup [8]byte

// A Schedule is what is done to pools, in order.
type Schedule struct {
	Setup Setup
	Steps []Step
}

// GoString is what a failure shows.
func (s Schedule) GoString() string {
	var b strings.Builder
	fmt.Fprintf(&b, "setup %d:", s.Setup)
	for _, step := range s.Steps {
		fmt.Fprintf(&b, " %v", step)
	}
	return b.String()
}

// maxSteps bounds what fuzzing makes of long inputs.
const maxSteps = 400

// Decode reads a schedule from any bytes.
func Decode(data []byte) Schedule {
	var s Schedule
	data = data[copy(s.Setup[:], data):]
	for ; len(data) >= 4 && len(s.Steps) < maxSteps; data = data[4:] {
		s.Steps = append(s.Steps, Step{Op(data[0]) % ops, data[0] / byte(ops), data[1], data[2], data[3]})
	}
	return s
}

// Schedules generates schedules of the operations of a menu, where one may
// stand several times to be drawn more often.
func Schedules(menu ...Op) *rapid.Generator[Schedule] {
	step := rapid.Custom(func(t *rapid.T) Step {
		abc := rapid.Byte()
		return Step{rapid.SampledFrom(menu).Draw(t, "op"), rapid.ByteMax(15).Draw(t, "pool"),
			abc.Draw(t, "a"), abc.Draw(t, "b"), abc.Draw(t, "c")}
	})
	return rapid.Custom(func(t *rapid.T) Schedule {
		var s Schedule
		for i := range s.Setup {
			s.Setup[i] = rapid.Byte().Draw(t, "setup")
		}
		s.Steps = rapid.SliceOfN(step, 60, 160).Draw(t, "steps")
		return s
	})
}

// Everything is a menu of all operations.
func Everything() []Op {
	return []Op{
		Acquire, Acquire, Acquire, Acquire, Acquire, Acquire, Release, Release, Release, ReleaseTwice, Cancel, Lose, Die,
		Openings, Checks, Sleep, Sleep, Sleep, Reset, Drain, Pause, Resume, Resume, End, Change, Warm,
	}
}
