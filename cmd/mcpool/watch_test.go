package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool/config"
)

// What was taken in another way is not taken again, and what the file has no more
// not at all: it would undo what came after it.
func TestWhatTheFileHasNoMoreIsNotTaken(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mcp.json")
	var log output
	o := &opened{service: &service{file: file, log: newLogger(&log, config.Log{})}, tried: []byte("taken")}
	has := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if o.settled([]byte("{}")) {
		t.Error("there is no file")
	}
	for _, test := range []struct {
		has, had string
		done     bool
		says     int // how often something was logged
	}{
		{"taken", "taken", true, 0},
		{"{ }", "{}", false, 0},
		{"{}", "{}", true, 1}, // which is refused
		{"{}", "{}", true, 1},
		{"{}", "taken", false, 1},
	} {
		has(test.has)
		if done := o.settled([]byte(test.had)); done != test.done || strings.Count(log.String(), "no server") != test.says {
			t.Errorf("%+v: %v, and the log has %s", test, done, &log)
		}
	}
}

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
			watch(ctx, read, []byte("old"), func(text []byte) bool {
				took = append(took, string(text))
				if wait := time.Since(began); string(text) == "new, first half and second half" && (wait < 1900*time.Millisecond || wait > 2200*time.Millisecond) {
					t.Errorf("it was taken after %v", wait)
				}
				return len(took) != 2 // once it is not seen to, and offered again
			})
		}()
		time.Sleep(time.Minute)
		cancel()
		<-done
		if got := strings.Join(took, "; "); got != "new, first half and second half; bad; bad; old" {
			t.Errorf("taken were %s", got)
		}
	})
}
