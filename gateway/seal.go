package gateway

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/mcpool-dev/mcpool/internal/seal"
)

// KeySize is the size of Options.Key in bytes: that of an AES-256 key.
const KeySize = seal.KeySize

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
