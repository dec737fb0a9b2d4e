package mcpool

import (
	"sync"
	"sync/atomic"

	"github.com/mcpool-dev/mcpool/internal/transport"
)

// known is what is known about a server: its era, how it introduced itself, its
// tools, and what it has said that may be said again.
//
// It saves each opening but the first the question for the era, and those of a
// modern server over HTTP all of it. Only what the server says changes it:
// silence and trouble are no verdict.
type known struct {
	mu  sync.Mutex // keeps era with now
	now atomic.Pointer[finding]
	era atomic.Int32 // that of now, which every call asks for

	hints hints
	cache cache
}

// A finding is what an opening has found out.
type finding struct {
	transport.Known
	by owner // of the account that the opening was for
}

func newKnown() *known {
	k := new(known)
	k.now.Store(new(finding))
	return k
}

// eraNow is the server's era, as its last opening found it.
func (t *terms) eraNow() transport.Era { return transport.Era(t.known.era.Load()) }

// replace puts after in the place of before, unless something else stands there
// by now.
func (k *known) replace(before, after *finding) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.now.CompareAndSwap(before, after) {
		k.era.Store(int32(after.Peer.Era))
	}
}

// met notes whom an opening for an owner has met, unless something else was found
// out since it began, with before.
func (k *known) met(before *finding, peer transport.Peer, by owner) {
	if !before.Doubted && before.Peer.Era == transport.Modern && peer.Era == transport.Modern {
		return // nothing was asked, or nothing is new
	}
	k.replace(before, &finding{transport.Known{Peer: peer}, by})
}

// refuted forgets what was known before an opening.
func (k *known) refuted(before *finding) {
	k.replace(before, new(finding))
}

// failed draws what is to be drawn from the failure of a call, or of a check,
// on a connection to a server of that era.
func (k *known) failed(era transport.Era, f *transport.Failure) {
	switch before := k.now.Load(); {
	case before.Peer.Era != era:
	case f.WrongEra:
		k.refuted(before)
	case f.Dead:
		k.doubt(before)
	}
}

// doubt has the next opening ask a server that it would otherwise take to be
// there.
func (k *known) doubt(before *finding) {
	if !before.Doubted {
		after := *before
		after.Doubted = true
		k.replace(before, &after)
	}
}
