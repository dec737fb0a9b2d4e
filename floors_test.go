package mcpool_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/mcpool-dev/mcpool"

// floors are the packages from the ground up: each imports only those on
// lower floors.
var floors = [][]string{
	1: {"rpc", "internal/slots", "internal/jsonrpc", "internal/mirror", "internal/children", "internal/serving", "internal/systemd", "internal/seal", "internal/repeats",
		"dbserver/internal/result", "dbserver/internal/sqltext"},
	2: {"internal/transport", "dbserver/internal/engine", "auth"},
	3: {".", "dbserver/internal/sqlite", "dbserver/internal/postgres", "dbserver/internal/mysql", "dbserver/internal/sqlserver"},
	4: {"dbserver", "dbplugin", "gateway"},
	5: {"config", "admin", "gosdk", "telemetry"},
	6: {"cmd/mcpool"},
}

// above3 may not be imported by packages above the third floor.
var above3 = []string{"internal/transport", "internal/slots", "internal/children"}

// rpc alone is on the ground: the rest of its floor stands on it.
const ground = "rpc"

func floorOf(pkg string) int {
	for floor, pkgs := range floors {
		for _, p := range pkgs {
			if p == pkg {
				return floor
			}
		}
	}
	return 0
}

// sources calls visit for each Go file of the module that is not a test.
func sources(t *testing.T, visit func(file, pkg string)) {
	t.Helper()
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && file != "." && exists(filepath.Join(file, "go.mod")):
			return filepath.SkipDir // a module of its own
		case d.IsDir() && (d.Name() == "node_modules" || d.Name() == "testdata" || strings.HasPrefix(d.Name(), "_") ||
			strings.HasPrefix(d.Name(), ".") && file != "."):
			return filepath.SkipDir
		case strings.HasSuffix(file, ".go") && !strings.HasSuffix(file, "_test.go"):
			visit(file, path.Dir(filepath.ToSlash(file)))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

func TestPackagesImportOnlyLowerFloors(t *testing.T) {
	seen := map[string]bool{}
	sources(t, func(file, pkg string) {
		if slices.Contains(forTests, pkg) { // which the next test holds
			return
		}
		floor := floorOf(pkg)
		if floor == 0 {
			t.Errorf("%s: package %s has no floor: give it one above", file, pkg)
			return
		}
		seen[pkg] = true
		for _, imported := range imports(t, file) {
			on := floorOf(imported)
			switch {
			case imported == ground && pkg != ground:
			case on == 0:
				t.Errorf("%s imports %s, which has no floor", file, imported)
			case on >= floor:
				t.Errorf("%s on floor %d imports %s on floor %d", file, floor, imported, on)
			case floor > 3 && slices.Contains(above3, imported):
				t.Errorf("%s imports %s: nothing above package mcpool may", file, imported)
			}
		}
	})
	for floor, pkgs := range floors {
		for _, pkg := range pkgs {
			if !seen[pkg] {
				t.Errorf("floor %d has a package %s that does not exist", floor, pkg)
			}
		}
	}
}

// forTests are the packages that tests alone may import.
var forTests = []string{"internal/mcptest", "internal/pooltest", "internal/dbtest"}

func TestOnlyTestsImportTestPackages(t *testing.T) {
	sources(t, func(file, pkg string) {
		for _, imported := range imports(t, file) {
			if slices.Contains(forTests, imported) {
				t.Errorf("%s imports %s", file, imported)
			}
		}
	})
}

// TestDependenciesStayInTheirRoom holds what ARCHITECTURE.md says about each
// dependency: where it may be used.
func TestDependenciesStayInTheirRoom(t *testing.T) {
	rooms := map[string][]string{
		"github.com/modelcontextprotocol/go-sdk": {"gosdk/", "cmd/mcpool/bench"},
		"github.com/google/jsonschema-go":        {"dbserver/", "dbplugin/"},
		"github.com/agnivade/levenshtein":        {"config/", "dbserver/internal/engine/"},
		"modernc.org/sqlite":                     {"dbserver/internal/sqlite/"},
		"modernc.org/libc":                       {"dbserver/internal/sqlite/"},
		"github.com/jackc/pgx/v5":                {"dbserver/internal/postgres/"},
		"github.com/go-sql-driver/mysql":         {"dbserver/internal/mysql/", "internal/dbtest/"},
		"github.com/pingcap/tidb/pkg/parser":     {"dbserver/internal/mysql/"},
		"github.com/microsoft/go-mssqldb":        {"dbserver/internal/sqlserver/"},
		"github.com/goccy/go-yaml":               {"config/"},
		"github.com/tailscale/hujson":            {"config/", "cmd/mcpool/import"},
		"github.com/BurntSushi/toml":             {"cmd/mcpool/import"},
		"github.com/prometheus/client_golang":    {"admin/"},
		"github.com/go-jose/go-jose/v4":          {"auth/", "internal/mcptest/"},
		"golang.org/x/time":                      {"auth/"},
		"go.opentelemetry.io/otel":               {"telemetry/"},
		"charm.land/bubbletea/v2":                {"cmd/mcpool/top"},
		"charm.land/lipgloss/v2":                 {"cmd/mcpool/top"},
		"golang.org/x/oauth2":                    {"rpc/", "credentials.go", "bearer.go", "oauth.go"},
		"pgregory.net/rapid":                     {"internal/pooltest/"},
		"go.uber.org/goleak":                     {"internal/mcptest/"},
	}
	sources(t, func(file, _ string) {
		for _, spec := range allImports(t, file) {
			if !strings.Contains(strings.Split(spec, "/")[0], ".") || strings.HasPrefix(spec, module) {
				continue // the standard library and our own
			}
			allowed := false
			for dependency, files := range rooms {
				for _, prefix := range files {
					allowed = allowed || (spec == dependency || strings.HasPrefix(spec, dependency+"/")) && strings.HasPrefix(filepath.ToSlash(file), prefix)
				}
			}
			if !allowed {
				t.Errorf("%s imports %s", file, spec)
			}
		}
	})
}

// TestPackagesHaveOneDoc holds that each package says once what it is.
func TestPackagesHaveOneDoc(t *testing.T) {
	docs := map[string]int{}
	sources(t, func(file, pkg string) {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments|parser.PackageClauseOnly)
		if err != nil {
			t.Error(err)
			return
		}
		docs[pkg] += 0
		if f.Doc != nil {
			docs[pkg]++
		}
	})
	for pkg, n := range docs {
		if n != 1 {
			t.Errorf("package %s has %d package comments, want 1", pkg, n)
		}
	}
}

// imports returns the packages of this module that a file imports.
func imports(t *testing.T, file string) []string {
	var list []string
	for _, spec := range allImports(t, file) {
		if spec == module {
			list = append(list, ".")
		} else if pkg, ok := strings.CutPrefix(spec, module+"/"); ok {
			list = append(list, pkg)
		}
	}
	return list
}

func allImports(t *testing.T, file string) []string {
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, spec := range f.Imports {
		name, _ := strconv.Unquote(spec.Path.Value)
		list = append(list, name)
	}
	return list
}
