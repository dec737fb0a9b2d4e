package dbserver

import "sync"

// readers are goroutines that read, so that a reading can go on behind the
// answer. They are used again: a new one would have to grow its stack for each
// statement.
type readers struct {
	idle chan func()     // to those that wait
	end  <-chan struct{} // when nobody waits any more
	work *sync.WaitGroup
	room chan struct{} // one for each that may wait
}

func newReaders(most int, end <-chan struct{}, work *sync.WaitGroup) *readers {
	return &readers{idle: make(chan func()), end: end, work: work, room: make(chan struct{}, most)}
}

// run runs a function in a goroutine. The caller is under way, so that Close,
// which waits for all, does not miss it.
func (r *readers) run(read func()) {
	select {
	case r.idle <- read:
	default:
		r.work.Go(func() { r.serve(read) })
	}
}

// serve reads, and then what comes, as long as no more goroutines wait for that
// than are of use.
func (r *readers) serve(read func()) {
	for {
		read()
		select {
		case r.room <- struct{}{}:
		default:
			return
		}
		select {
		case read = <-r.idle:
			<-r.room
		case <-r.end:
			return
		}
	}
}
