package check

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// goReleaser is what releases are made with.
const goReleaser = "github.com/goreleaser/goreleaser/v2@v2.14.3"

// TestGoReleaser releases a tag as far as that is done without publishing it, for
// the system it runs on.
func TestGoReleaser(t *testing.T) {
	folder := t.TempDir()
	run := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Dir = folder
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", cmd, err, out)
		}
		return string(out)
	}
	root, err := filepath.Abs(filepath.Join(deploy, ".."))
	if err != nil {
		t.Fatal(err)
	}
	run("git", "clone", "--quiet", root, ".")
	run("git", "remote", "set-url", "origin", "https://github.com/mcpool-dev/mcpool.git")
	if err := os.WriteFile(filepath.Join(folder, ".goreleaser.yaml"), read(t, "..", ".goreleaser.yaml"), 0o600); err != nil {
		t.Fatal(err)
	}
	run("git", "-c", "user.name=check", "-c", "user.email=check@localhost", "commit", "--quiet", "--allow-empty", "--all", "--message", "as it stands")
	run("git", "tag", "v0.98.7")
	run("go", "run", goReleaser, "check")
	run("go", "run", goReleaser, "build", "--single-target")
	built, err := filepath.Glob(filepath.Join(folder, "dist", "mcpool_*", "mcpool*"))
	if err != nil || len(built) != 1 {
		t.Fatalf("built is %q, %v", built, err)
	}
	if out := run(built[0], "version"); !strings.Contains(out, "v0.98.7") {
		t.Errorf("the version is not the tag: %s", out)
	}
}

func TestReleasesAreWhole(t *testing.T) {
	var project struct {
		Builds []struct {
			Main              string
			Env, Goos, Goarch []string
		}
		Archives []struct{ Files []string }
		NFPMs    []struct{ Contents []struct{ Src string } }
	}
	if err := yaml.Unmarshal(read(t, "..", ".goreleaser.yaml"), &project); err != nil {
		t.Fatal(err)
	}
	if len(project.Builds) != 1 || len(project.Archives) != 1 || len(project.NFPMs) != 1 {
		t.Fatalf("there are %d builds, %d archives, %d packages", len(project.Builds), len(project.Archives), len(project.NFPMs))
	}
	b := project.Builds[0]
	if !slices.Equal(b.Goos, []string{"linux", "darwin", "windows"}) || !slices.Equal(b.Goarch, []string{"amd64", "arm64"}) {
		t.Errorf("it is built for %v on %v", b.Goos, b.Goarch)
	}
	if !slices.Equal(b.Env, []string{"CGO_ENABLED=0"}) {
		t.Errorf("it is built with %v", b.Env)
	}
	files := append(project.Archives[0].Files, b.Main)
	for _, c := range project.NFPMs[0].Contents {
		files = append(files, c.Src)
	}
	for _, file := range files {
		if found, err := filepath.Glob(filepath.Join(deploy, "..", file)); err != nil || len(found) == 0 {
			t.Errorf("there is no %s (%v)", file, err)
		}
	}
}
