package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A file is taken when it has been as it is for settleTime, and once.
func TestAFileIsTakenWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		// What the file has from when on; "-" is no file.
		steps := []struct {
			at   time.Duration
			text string
		}{
			{0, "old"},
			{1 * time.Second, "new, first half"}, {1400 * time.Millisecond, "new, first half and second half"},
			{5 * time.Second, "-"}, {6 * time.Second, "new, first half and second half"}, // replaced by the same
			{10 * time.Second, "bad"}, {11 * time.Second, "old"}, // and back
			{12 * time.Second, "brief"}, {12300 * time.Millisecond, "old"},
		}
		read := func() ([]byte, error) {
			text := ""
			for _, step := range steps {
				if time.Since(began) >= step.at {
					text = step.text
				}
			}
			if text == "-" {
				return nil, errors.New("no such file")
			}
			return []byte(text), nil
		}
		var took []string
		done := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			defer close(done)
			watch(ctx, read, []byte("old"), func(text []byte) {
				took = append(took, string(text))
				if wait := time.Since(began); string(text) == "new, first half and second half" && (wait < 1900*time.Millisecond || wait > 2200*time.Millisecond) {
					t.Errorf("it was taken after %v", wait)
				}
			})
		}()
		time.Sleep(time.Minute)
		cancel()
		<-done
		if got := strings.Join(took, "; "); got != "new, first half and second half; bad; old" {
			t.Errorf("taken were %s", got)
		}
	})
}
