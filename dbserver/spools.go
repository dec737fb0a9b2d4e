package dbserver

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
	"github.com/mcpool-dev/mcpool/internal/seal"
)

// Bounds of what is kept of all results together, and of those of one
// principal, with bytes as they are in files. The oldest results make room.
const (
	maxSpools         = 256
	maxSpoolBytes     = 256 << 20
	maxSpoolsEach     = maxSpools / 4
	maxSpoolBytesEach = maxSpoolBytes / 4
)

// spools are the kept rows of a server, and of those that take its place, and
// their handles.
type spools struct {
	sealer seal.Sealer
	name   string         // of these servers among those with the same key
	users  atomic.Int32   // how many they are
	work   sync.WaitGroup // what expires

	mu     sync.Mutex   // guards what follows; no I/O under it
	kept   []*keptSpool // oldest first
	last   uint64       // number that was given
	closed bool

	making sync.Mutex // held while dir is made
	dir    string     // of the files; empty until there is one
}

// A keptSpool is a spool and what it takes up.
type keptSpool struct {
	*spool
	bytes int64     // in its file
	until time.Time // when the last of its handles expires
	timer *time.Timer
}

func newSpools(sealer seal.Sealer) *spools {
	s := &spools{sealer: sealer, name: rand.Text()[:12]}
	s.users.Add(1)
	return s
}

// open begins to keep the rows behind a page.
func (s *spools) open(r *request, page result.Page) *spool {
	ttl := r.server.handleTTL
	s.mu.Lock()
	s.last++
	kept := &keptSpool{until: time.Now().Add(ttl), spool: &spool{id: s.last, spools: s, database: r.database, log: r.server.log,
		who: r.who.Principal, columns: page.Columns, first: page.Count, cut: result.ByNone}}
	kept.timer = time.AfterFunc(ttl, func() { s.expire(kept) })
	s.kept = append(s.kept, kept)
	victims := s.makeRoomLocked(kept.spool)
	s.mu.Unlock()
	drop(victims)
	return kept.spool
}

// grow counts bytes that came into a spool's file, for which others make room.
func (s *spools) grow(which *spool, bytes int64) {
	s.mu.Lock()
	if i := s.indexLocked(which.id); i >= 0 {
		s.kept[i].bytes += bytes
	}
	victims := s.makeRoomLocked(which)
	s.mu.Unlock()
	drop(victims)
}

// makeRoomLocked takes out the oldest spools, but not the one that wants room,
// while there are too many or they are too large: first of its principal, then
// of all.
func (s *spools) makeRoomLocked(wants *spool) (victims []*spool) {
	for _, own := range [...]bool{true, false} {
		most, mostBytes := maxSpools, int64(maxSpoolBytes)
		if own {
			most, mostBytes = maxSpoolsEach, maxSpoolBytesEach
		}
		counts := func(k *keptSpool) bool { return !own || k.who == wants.who }
		n, bytes := 0, int64(0)
		for _, k := range s.kept {
			if counts(k) {
				n, bytes = n+1, bytes+k.bytes
			}
		}
		s.kept = slices.DeleteFunc(s.kept, func(k *keptSpool) bool {
			if n <= most && bytes <= mostBytes || k.spool == wants || !counts(k) {
				return false
			}
			n, bytes = n-1, bytes-k.bytes
			k.timer.Stop()
			victims = append(victims, k.spool)
			return true
		})
	}
	return victims
}

func (s *spools) indexLocked(id uint64) int {
	return slices.IndexFunc(s.kept, func(k *keptSpool) bool { return k.id == id })
}

func drop(victims []*spool) {
	for _, v := range victims {
		v.drop()
	}
}

// expire drops a spool whose handles have expired.
func (s *spools) expire(k *keptSpool) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return // close drops it
	}
	s.work.Add(1)
	defer s.work.Done()
	left := time.Until(k.until)
	if left > 0 {
		k.timer.Reset(left)
	} else {
		s.kept = slices.DeleteFunc(s.kept, func(other *keptSpool) bool { return other == k })
	}
	s.mu.Unlock()
	if left <= 0 {
		k.drop()
	}
}

// handle returns the handle of the rows behind a position. It is good for the
// principal whose rows they are, for ttl.
func (s *spools) handle(which *spool, at position, ttl time.Duration) string {
	until := time.Now().Add(ttl)
	s.mu.Lock()
	if i := s.indexLocked(which.id); i >= 0 && until.After(s.kept[i].until) {
		s.kept[i].until = until
	}
	s.mu.Unlock()
	place := binary.AppendUvarint(nil, which.id)
	place = binary.AppendUvarint(place, uint64(at.row))    // #nosec G115 -- not negative
	place = binary.AppendUvarint(place, uint64(at.offset)) // #nosec G115 -- not negative
	return s.sealer.Seal(until, boundTo(which.who), s.name, string(place))
}

// boundTo is what handles of a principal are bound to.
func boundTo(principal string) string { return "fetch_rows\x00" + principal }

// find returns the rows that a handle of a principal is about, and where in
// them it is.
func (s *spools) find(handle, principal string) (*spool, position, error) {
	said, _, ok := s.sealer.Open(handle, boundTo(principal), 2)
	if !ok {
		return nil, position{}, expired("the handle has expired, or was not given to this caller by this server")
	}
	if said[0] != s.name {
		e := expired("the result is kept by another server, which has the same key, or was by one that has ended")
		e.Next = "send the call to the server that gave the handle, or run the statement again with read_data"
		return nil, position{}, e
	}
	var numbers [3]uint64
	place := []byte(said[1])
	for i := range numbers {
		n, size := binary.Uvarint(place)
		if size <= 0 {
			return nil, position{}, errors.New("BUG: a sealed handle has no position")
		}
		numbers[i], place = n, place[size:]
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.indexLocked(numbers[0])
	if i < 0 {
		return nil, position{}, notKept()
	}
	return s.kept[i].spool, position{int(numbers[1]), int64(numbers[2])}, nil // #nosec G115 -- sealed above, so there and back
}

func notKept() *engine.Error {
	return expired("the result is not kept any more: it was too old, or has made room for newer ones")
}

func expired(message string) *engine.Error {
	return &engine.Error{Code: engine.HandleExpired, Layer: engine.LayerInput, Message: message,
		Next: "run the statement again with read_data; aggregate or filter in SQL if it has many rows"}
}

// create makes a file for rows.
func (s *spools) create() (*os.File, error) {
	s.making.Lock()
	defer s.making.Unlock()
	if s.dir == "" {
		dir, err := os.MkdirTemp("", "mcpool-rows-") // with mode 0700
		if err != nil {
			return nil, err
		}
		s.dir = dir
	}
	file, err := os.CreateTemp(s.dir, "") // with mode 0600
	if err == nil {
		// Where that can be done with an open file nothing is left of it even if
		// this process is killed; elsewhere it is removed later.
		_ = os.Remove(file.Name())
	}
	return file, err
}

// dropOf lets go of the rows of a database that is not served any more. That
// there were some is known until their handles expire.
func (s *spools) dropOf(d *database) {
	var victims []*spool
	s.mu.Lock()
	for _, k := range s.kept {
		if k.database == d {
			k.bytes = 0
			victims = append(victims, k.spool)
		}
	}
	s.mu.Unlock()
	drop(victims)
}

// close counts out a server, and drops all that is kept if there is no other.
// Then nothing is added or read any more.
func (s *spools) close() error {
	if s.users.Add(-1) > 0 {
		return nil
	}
	s.mu.Lock()
	kept := s.kept
	s.kept, s.closed = nil, true
	s.mu.Unlock()
	s.work.Wait()
	for _, k := range kept {
		k.timer.Stop()
		k.drop()
	}
	if s.dir == "" {
		return nil
	}
	return os.RemoveAll(s.dir)
}
