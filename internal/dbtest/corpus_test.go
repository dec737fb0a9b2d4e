package dbtest

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

func TestCorpus(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.txt")
	err := os.WriteFile(path, []byte("# about the file\n\n---\n# about the case\n#: A\n#: B\nSELECT 1\n# of MySQL\n\n--- x\n---\n---\n \nSELECT 2"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	want := []Case{
		{SQL: "SELECT 1\n# of MySQL\n\n--- x", Want: "A\nB", Line: 4},
		{SQL: " \nSELECT 2", Line: 13},
	}
	if got := Corpus(t, path); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
}
