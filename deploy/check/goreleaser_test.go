package check

import (
	"bytes"
	"path/filepath"
	"slices"
	"testing"

	"github.com/goreleaser/goreleaser/v2/pkg/config"
)

func TestGoReleaser(t *testing.T) {
	// It refuses keys that GoReleaser does not know.
	project, err := config.LoadReader(bytes.NewReader(read(t, "..", ".goreleaser.yaml")))
	if err != nil {
		t.Fatal(err)
	}
	if len(project.Builds) != 1 {
		t.Fatalf("there are %d builds", len(project.Builds))
	}
	b := project.Builds[0]
	if !slices.Equal(b.Goos, []string{"linux", "darwin", "windows"}) || !slices.Equal(b.Goarch, []string{"amd64", "arm64"}) {
		t.Errorf("it is built for %v on %v", b.Goos, b.Goarch)
	}
	if !slices.Equal(b.Env, []string{"CGO_ENABLED=0"}) {
		t.Errorf("it is built with %v", b.Env)
	}
	var files []string
	for _, a := range project.Archives {
		for _, f := range a.Files {
			files = append(files, f.Source)
		}
	}
	for _, p := range project.NFPMs {
		for _, c := range p.Contents {
			files = append(files, c.Source)
		}
	}
	if len(files) == 0 {
		t.Error("nothing comes with it")
	}
	for _, file := range append(files, b.Main) {
		if found, err := filepath.Glob(filepath.Join(deploy, "..", file)); err != nil || len(found) == 0 {
			t.Errorf("there is no %s (%v)", file, err)
		}
	}
}
