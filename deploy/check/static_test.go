package check

import (
	"debug/elf"
	"os"
	"runtime"
	"testing"
)

// maxSize is how large the program may be, stripped. It was 38.4 MiB for Linux on
// amd64 when this was written; most of it is the four engines of databases. With
// text/template, by which the linker keeps all methods, it was 43.4 MiB.
const maxSize = 42 << 20

func TestTheProgramIsStatic(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs Linux")
	}
	file, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, p := range file.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("it has a segment %v: it needs a loader", p.Type)
		}
	}
	libraries, err := file.ImportedLibraries()
	if err != nil || len(libraries) > 0 {
		t.Errorf("it needs libraries %v, %v", libraries, err)
	}
	info, err := os.Stat(program)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%.1f MiB", float64(info.Size())/(1<<20))
	if info.Size() > maxSize {
		t.Errorf("it has %d bytes, more than %d", info.Size(), maxSize)
	}
}
