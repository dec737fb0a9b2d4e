package gateway

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"
)

func TestParseKey(t *testing.T) {
	t.Parallel()
	key := bytes.Repeat([]byte{0xfb, 0xf0}, KeySize/2)
	for _, text := range []string{
		hex.EncodeToString(key), strings.ToUpper(hex.EncodeToString(key)) + "\n",
		base64.StdEncoding.EncodeToString(key), base64.RawStdEncoding.EncodeToString(key),
		base64.URLEncoding.EncodeToString(key), " " + base64.RawURLEncoding.EncodeToString(key),
	} {
		if got, err := ParseKey(text); err != nil || !bytes.Equal(got, key) {
			t.Errorf("%q: got %x, %v", text, got, err)
		}
	}
	for _, text := range []string{
		"", "s3cret", hex.EncodeToString(key[1:]), hex.EncodeToString(key) + "00",
		base64.StdEncoding.EncodeToString(key[1:]), hex.EncodeToString(key)[1:] + "x",
	} {
		if got, err := ParseKey(text); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: got %x, %v", text, got, err)
		}
	}
}
