package config_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/mcpool-dev/mcpool/config"
)

// FuzzParse checks that any file is refused, or gives servers that make sense.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.*")
	if err != nil || len(files) == 0 {
		f.Fatal(files, err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, test := range bad {
		f.Add([]byte(test.data))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, name := range []string{"a.json", "a.yaml"} {
			c, err := config.Parse(data, name, nil)
			if (c == nil) == (err == nil) {
				t.Fatalf("%s: got %v and %v", name, c, err)
			}
			if err == nil {
				sensible(t, c)
			}
		}
	})
}

func sensible(t *testing.T, c *config.Config) {
	names := make(map[string]bool)
	for i := range c.Servers {
		s := &c.Servers[i]
		ways := 0
		for _, there := range []bool{s.URL != "", s.Command != "", s.Databases != nil} {
			if there {
				ways++
			}
		}
		if err := s.Pool.Validate(); err != nil || ways != 1 || s.Name == "" || names[s.Name] || s.CallTimeout < 0 {
			t.Fatalf("%+v, %v", s, err)
		}
		names[s.Name] = true
	}
}
