package serving

import (
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"
)

func TestMemoryIsThatOfTheControlGroup(t *testing.T) {
	for name, test := range map[string]struct {
		group string
		max   map[string]string
		want  int64
	}{
		"a container":         {"0::/\n", map[string]string{"": "1000000\n"}, 900000},
		"a unit":              {"0::/system.slice/mcpool.service\n", map[string]string{"system.slice": "max\n", "system.slice/mcpool.service": "2000000\n"}, 1800000},
		"the slice has less":  {"0::/a.slice/b.service\n", map[string]string{"a.slice": "1000000\n", "a.slice/b.service": "2000000\n"}, 900000},
		"no limit":            {"0::/a\n", map[string]string{"a": "max\n"}, 0},
		"no control groups":   {"", nil, 0},
		"v1 beside it":        {"4:memory:/a\n0::/b\n", map[string]string{"a": "1\n", "b": "1000\n"}, 900},
		"outside of the root": {"0::/../../a\n", map[string]string{"a": "1000\n"}, 900},
	} {
		root := t.TempDir()
		for group, text := range test.max {
			if err := os.MkdirAll(filepath.Join(root, group), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(root, group, "memory.max"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		file := filepath.Join(t.TempDir(), "cgroup")
		if err := os.WriteFile(file, []byte(test.group), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := memoryLimit(file, root); got != test.want {
			t.Errorf("%s: got %d, want %d", name, got, test.want)
		}
	}
}

func TestTheEnvironmentSaysHowMuchMemory(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	t.Setenv("GOMEMLIMIT", "off")
	if limit := limitMemory(1 << 40); limit != 0 || debug.SetMemoryLimit(-1) != before {
		t.Errorf("it was set to %d", limit)
	}
	os.Unsetenv("GOMEMLIMIT")
	if limit := limitMemory(1 << 40); limit != 1<<40 || debug.SetMemoryLimit(-1) != 1<<40 {
		t.Errorf("it was not set, but to %d", limit)
	}
}
