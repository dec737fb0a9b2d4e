// Package seal makes texts that others hold for us.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"time"
)

// KeySize is the size of a key in bytes: that of an AES-256 key.
const KeySize = 32

// encoding makes visible ASCII, in one way only but for the line breaks that
// its decoder skips.
var encoding = base64.RawURLEncoding.Strict()

// A Sealer makes texts that a client holds for us and can neither read nor
// change. Whatever they are about is bound in: a text opens only for what it
// was made for, and until it expires.
type Sealer struct{ aead cipher.AEAD }

// New makes a Sealer of a key of KeySize; nil for one that lives as long as this
// process.
func New(key []byte) Sealer {
	if key == nil {
		key = make([]byte, KeySize)
		rand.Read(key) // never fails
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // impossible: the size was checked
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err) // impossible: AES has the block size of GCM
	}
	return Sealer{aead}
}

// Seal seals what a text says, as fields that have no NUL in them but for the
// last. bound is what it is for.
func (s Sealer) Seal(until time.Time, bound string, fields ...string) string {
	plain := binary.BigEndian.AppendUint64(nil, uint64(until.Unix())) // #nosec G115 -- there and back
	plain = append(plain, strings.Join(fields, "\x00")...)
	return encoding.EncodeToString(s.aead.Seal(nil, nil, plain, []byte(bound))) // #nosec G407 -- this AEAD takes no nonce: it makes a random one
}

// Open returns so many fields of a sealed text and until when it is good, or
// false if it was not made here for this, or has expired.
func (s Sealer) Open(text, bound string, fields int) (said []string, until time.Time, ok bool) {
	sealed, err := encoding.DecodeString(text)
	if err != nil || strings.ContainsAny(text, "\r\n") {
		return nil, time.Time{}, false
	}
	plain, err := s.aead.Open(nil, nil, sealed, []byte(bound))
	if err != nil || len(plain) < 8 {
		return nil, time.Time{}, false
	}
	until = time.Unix(int64(binary.BigEndian.Uint64(plain)), 0) // #nosec G115 -- there and back
	if !time.Now().Before(until) {
		return nil, time.Time{}, false
	}
	said = strings.SplitN(string(plain[8:]), "\x00", fields)
	return said, until, len(said) == fields
}
