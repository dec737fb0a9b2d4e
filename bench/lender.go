package main

import "context"

// A lender is a pool as the cases see it, ours or a rival. Its adapters call
// the pool directly: a slot is taken and given back in less time than a few
// indirect calls take.
type lender interface {
	// pairs takes a slot and gives it back, n times, and between the two runs
	// call, unless that is nil.
	pairs(ctx context.Context, n int, call func()) error
	// hold takes a slot until release is called.
	hold(ctx context.Context) (release func(), err error)
	// close ends the pool; every slot was given back.
	close()
}

// A subject is a kind of pool. open returns one with room for conns × slots
// calls at once; where a connection takes one call, it has as many connections.
type subject struct {
	name string
	open func(conns, slots int) lender
}

// The names of subjects that targets are about.
const (
	engineName = "`internal/slots`"
	poolName   = "`mcpool.Pool`"
	puddleName = "puddle v2"
)

func subjects() []subject {
	return []subject{
		{poolName, openPool},
		{engineName, openEngine},
		{puddleName, openPuddle},
		{"`database/sql`", openSQL},
		{"channel", openChannel},
	}
}

// names are those of all subjects.
func names() []string {
	var list []string
	for _, s := range subjects() {
		list = append(list, s.name)
	}
	return list
}

// openFull opens a pool and all the connections it may have.
func (s subject) openFull(conns, slots int) lender {
	l := s.open(conns, slots)
	var held []func()
	for range conns * slots {
		release, err := l.hold(context.Background())
		must(err)
		held = append(held, release)
	}
	for _, release := range held {
		release()
	}
	return l
}

// must ends the program on an error that cannot be: nothing here fails.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
