package gateway

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// KeySize is the size of Options.Key in bytes: that of an AES-256 key.
const KeySize = 32

// ParseKey reads an Options.Key from a text: hex, or base64 with either
// alphabet, padded or not. White space around it does not count. Errors do not
// have the text.
func ParseKey(text string) ([]byte, error) {
	text = strings.TrimSpace(text)
	key, err := hex.DecodeString(text)
	if err != nil || len(key) != KeySize {
		plain := strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(text, "="))
		key, err = base64.RawStdEncoding.Strict().DecodeString(plain)
	}
	if err != nil || len(key) != KeySize {
		return nil, fmt.Errorf("want a key of %d bytes in hex or base64, as of openssl rand -hex %[1]d", KeySize)
	}
	return key, nil
}

// idEncoding makes visible ASCII, in one way only.
var idEncoding = base64.RawURLEncoding.Strict()

// A sealer makes texts that a client holds for us and can neither read nor
// change. Whatever they are about is bound in: a text opens only for what it
// was made for, and until it expires.
type sealer struct{ aead cipher.AEAD }

// newSealer makes a sealer of a key; nil for one that lives as long as this
// process.
func newSealer(key []byte) sealer {
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
	return sealer{aead}
}

// seal seals what a text says, as fields that have no NUL in them but for the
// last. bound is what it is for.
func (s sealer) seal(until time.Time, bound string, fields ...string) string {
	plain := binary.BigEndian.AppendUint64(nil, uint64(until.Unix()))
	plain = append(plain, strings.Join(fields, "\x00")...)
	return idEncoding.EncodeToString(s.aead.Seal(nil, nil, plain, []byte(bound)))
}

// open returns so many fields of a sealed text and until when it is good, or
// false if it was not made here for this, or has expired.
func (s sealer) open(text, bound string, fields int) (said []string, until time.Time, ok bool) {
	sealed, err := idEncoding.DecodeString(text)
	if err != nil {
		return nil, time.Time{}, false
	}
	plain, err := s.aead.Open(nil, nil, sealed, []byte(bound))
	if err != nil || len(plain) < 8 {
		return nil, time.Time{}, false
	}
	until = time.Unix(int64(binary.BigEndian.Uint64(plain)), 0)
	if !time.Now().Before(until) {
		return nil, time.Time{}, false
	}
	said = strings.SplitN(string(plain[8:]), "\x00", fields)
	return said, until, len(said) == fields
}
