package seal

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// TestOneTextOpens holds that a text opens as it was made and in no other
// spelling: who counts the texts that were used counts what they say.
func TestOneTextOpens(t *testing.T) {
	s := New(nil)
	text := s.Seal(time.Now().Add(time.Hour), "this", "a", "b\x00c")
	if said, _, ok := s.Open(text, "this", 2); !ok || !slices.Equal(said, []string{"a", "b\x00c"}) {
		t.Errorf("got %q, %t", said, ok)
	}
	for _, other := range []string{"\n" + text, text + "\n", text + "\r\n", text[:5] + "\r" + text[5:], text + "=", " " + text, text + "A",
		strings.ToUpper(text), ""} {
		if said, _, ok := s.Open(other, "this", 2); ok {
			t.Errorf("%q opens, and says %q", other, said)
		}
	}
	if _, _, ok := s.Open(text, "that", 2); ok {
		t.Error("it opens for something else")
	}
	if _, _, ok := New(nil).Open(text, "this", 2); ok {
		t.Error("it opens with another key")
	}
}
