package gateway

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"sync"
	"time"
)

// sessionLife is how long a session's id is good for.
const sessionLife = 24 * time.Hour

// maxEnded bounds how many ended sessions are remembered. When there are more,
// the one that ended first is forgotten: whoever still holds its id could then
// go on with it, as with a session that begins.
const maxEnded = 1 << 14

// idEncoding makes visible ASCII, in one way only.
var idEncoding = base64.RawURLEncoding.Strict()

// sessions makes and reads the ids of legacy sessions. An id is what the
// gateway would otherwise have to remember, sealed: what the session is called
// behind the gateway and when it expires. The endpoint is bound into the seal,
// so that an id opens only where it was given. The key is of this process:
// after a restart every id is foreign, and clients initialize again.
type sessions struct {
	seal cipher.AEAD

	mu     sync.Mutex // guards what follows
	ended  map[string]bool
	oldest []string // a ring of the keys of ended, once it is full
	next   int      // where in the ring the next one goes
}

func newSessions() *sessions {
	key := make([]byte, 32)
	rand.Read(key) // never fails
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // impossible: the key has the size of AES-256
	}
	seal, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err) // impossible: AES has the block size of GCM
	}
	return &sessions{seal: seal, ended: make(map[string]bool)}
}

// mint returns the id of a new session at an endpoint, in visible ASCII (MCP
// 2025-11-25, basic/transports "Session Management").
func (s *sessions) mint(endpoint string) string {
	plain := binary.BigEndian.AppendUint64(nil, uint64(time.Now().Add(sessionLife).Unix()))
	plain = append(plain, rand.Text()...)
	return idEncoding.EncodeToString(s.seal.Seal(nil, nil, plain, []byte(endpoint)))
}

// open returns the session that an id names, and false if the id is not one of
// this endpoint's, has expired, or has ended.
func (s *sessions) open(id, endpoint string) (session string, ok bool) {
	sealed, err := idEncoding.DecodeString(id)
	if err != nil {
		return "", false
	}
	plain, err := s.seal.Open(nil, nil, sealed, []byte(endpoint))
	if err != nil || time.Now().Unix() >= int64(binary.BigEndian.Uint64(plain)) {
		return "", false
	}
	session = string(plain[8:])
	s.mu.Lock()
	defer s.mu.Unlock()
	return session, !s.ended[session]
}

// end makes the ids of a session good for nothing. It reports false if that
// was so before.
func (s *sessions) end(session string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended[session] {
		return false
	}
	s.ended[session] = true
	if len(s.oldest) < maxEnded {
		s.oldest = append(s.oldest, session)
		return true
	}
	delete(s.ended, s.oldest[s.next])
	s.oldest[s.next] = session
	s.next = (s.next + 1) % maxEnded
	return true
}
