package config

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/dbserver"
	"github.com/mcpool-dev/mcpool/gateway"
)

// documented is where each set of keys has its table: a page, and the heading
// before the table.
var documented = map[string]struct {
	keys          keys
	page, heading string
}{
	"topKeys":            {topKeys, "configure.md", "## The file"},
	"serverKeys":         {serverKeys, "configure.md", "## Servers"},
	"authKeys":           {authKeys, "configure.md", "### auth of a server"},
	"poolKeys":           {keys{read: SettingNames()}, "configure.md", "## pool"},
	"limitKeys":          {limitKeys, "configure.md", "## limits"},
	"gatewayKeys":        {gatewayKeys, "configure.md", "## gateway"},
	"logKeys":            {logKeys, "configure.md", "## log"},
	"accessKeys":         {accessKeys, "configure.md", "## auth"},
	"accessKeyKeys":      {accessKeyKeys, "configure.md", "### auth: keys"},
	"jwtKeys":            {jwtKeys, "configure.md", "### auth: jwt"},
	"certificatesKeys":   {certificatesKeys, "configure.md", "### auth: client_certificates"},
	"ruleKeys":           {ruleKeys, "configure.md", "### auth: principals"},
	"tlsKeys":            {tlsKeys, "configure.md", "## tls"},
	"adminKeys":          {adminKeys, "configure.md", "## admin"},
	"telemetryKeys":      {telemetryKeys, "configure.md", "## telemetry"},
	"databaseKeys":       {databaseKeys, "database.md", "## Configuration"},
	"databaseServerKeys": {databaseServerKeys, "database.md", "### database_server"},
	"auditKeys":          {auditKeys, "database.md", "### database_server: audit"},
	"toolKeys":           {toolKeys, "database.md", "### database_server: tools"},
	"paramKeys":          {paramKeys, "database.md", "### database_server: params of a tool"},
	"maskKeys":           {maskKeys, "database.md", "### masks"},
}

var quoted = regexp.MustCompile("`([^`]+)`")

// TestEveryKeyIsDocumented holds the tables of docs/configure.md and
// docs/database.md to the keys that are read: each has a row, and each row is one.
func TestEveryKeyIsDocumented(t *testing.T) {
	for _, name := range keysOfPackage(t) {
		if documented[name].page == "" {
			t.Errorf("nothing says where the keys of %s are documented", name)
		}
	}
	for name, d := range documented {
		var rows []string
		for _, cells := range tableAt(t, d.page, d.heading) {
			for _, match := range quoted.FindAllStringSubmatch(cells[0], -1) {
				rows = append(rows, match[1])
			}
		}
		for _, key := range d.keys.read {
			if !slices.Contains(rows, key) {
				t.Errorf("docs/%s, %s: there is no row for %s, of %s", d.page, d.heading, key, name)
			}
		}
		for _, row := range rows {
			if !slices.Contains(d.keys.read, row) {
				t.Errorf("docs/%s, %s: there is no key %s in %s", d.page, d.heading, row, name)
			}
		}
	}
}

// TestEveryVariableIsDocumented holds that these pages have the variable of each
// setting in a row, and no others.
func TestEveryVariableIsDocumented(t *testing.T) {
	pages := readDocs(t, "configure.md") + readDocs(t, "database.md")
	names := slices.Concat(AllSettingNames(), programSettings)
	for _, name := range names {
		if !regexp.MustCompile("(?m)^\\|.*`" + Variable(name) + "`.*\\|$").MatchString(pages) {
			t.Errorf("docs/configure.md and docs/database.md have no row with %s", Variable(name))
		}
	}
	for _, variable := range regexp.MustCompile(mcpool.EnvPrefix+`[A-Z_]*[A-Z](?:_…)?`).FindAllString(pages, -1) {
		if !strings.HasSuffix(variable, "…") && !slices.Contains(names, strings.ToLower(strings.TrimPrefix(variable, mcpool.EnvPrefix))) {
			t.Errorf("%s is no setting", variable)
		}
	}
}

// TestDefaultsOfPoolsAreDocumented holds the defaults in the table of pool to those
// of the code.
func TestDefaultsOfPoolsAreDocumented(t *testing.T) {
	elsewhere := []string{"max_connections_total", "calls_per_connection", "sharing"} // whose zero stands for another
	defaults := settings{mcpool.DefaultConfig(), DefaultCallTimeout}
	for _, cells := range tableAt(t, "configure.md", "## pool") {
		name := strings.Trim(cells[0], "`")
		if slices.Contains(elsewhere, name) {
			continue
		}
		said := settings{mcpool.DefaultConfig(), 0}
		err := said.set(name, strings.ReplaceAll(cells[2], " ", ""))
		if err != nil || said.pool.Get(name) != defaults.pool.Get(name) || name == callTimeout && said.callTimeout != defaults.callTimeout {
			t.Errorf("%s: the table says %s (%v), and the default is %s", name, cells[2], err, defaults.pool.Get(name))
		}
	}
}

// TestDefaultsAreDocumented holds other defaults in the tables to those of the code.
func TestDefaultsAreDocumented(t *testing.T) {
	size := func(n int) string { return fmt.Sprintf("%d MiB", n>>20) }
	small := func(n int) string { return fmt.Sprintf("%d KiB", n>>10) }
	long := func(d time.Duration) string { return strings.TrimSuffix(d.String(), "0s") }
	for place, defaults := range map[[2]string]map[string]string{
		{"database.md", "## Configuration"}: {
			"max_affected": fmt.Sprint(dbserver.DefaultMaxAffected), "max_connections": fmt.Sprint(dbserver.DefaultMaxConnections),
			"max_idle_time": long(dbserver.DefaultMaxIdleTime), "max_lifetime": long(dbserver.DefaultMaxLifetime),
			"acquire_timeout": dbserver.DefaultAcquireTimeout.String(), "connect_timeout": dbserver.DefaultConnectTimeout.String(),
			"max_rows": fmt.Sprint(dbserver.DefaultMaxRows), "max_bytes": small(dbserver.DefaultMaxBytes), "max_cell_bytes": small(dbserver.DefaultMaxCellBytes),
			"spool_rows": fmt.Sprint(dbserver.DefaultSpoolRows), "spool_bytes": size(dbserver.DefaultSpoolBytes),
			"timeout": dbserver.DefaultTimeout.String(), "lock_timeout": dbserver.DefaultLockTimeout.String(),
		},
		{"database.md", "### database_server"}: {
			"name": "`" + DefaultDatabaseServer + "`", "max_calls_per_principal": fmt.Sprint(dbserver.DefaultMaxCallsPerPrincipal),
			"handle_ttl": long(dbserver.DefaultHandleTTL), "max_calls": fmt.Sprint(gateway.DefaultMaxCalls),
		},
		{"database.md", "### database_server: audit"}: {"max_bytes": size(dbserver.DefaultAuditBytes)},
		{"configure.md", "## gateway"}:                {"prefix": "`" + string(gateway.PrefixAuto) + "`", "max_calls_per_principal": fmt.Sprint(gateway.DefaultMaxCallsPerPrincipal)},
		{"configure.md", "## Servers"}: {
			"max_calls": fmt.Sprint(gateway.DefaultMaxCalls), "max_message_bytes": fmt.Sprintf("%d (%s)", mcpool.DefaultMaxMessageBytes, size(mcpool.DefaultMaxMessageBytes)),
		},
		{"configure.md", "## log"}: {"level": "`info`", "format": "`" + LogText + "`", "access": "`off`"},
	} {
		said := map[string]string{}
		for _, cells := range tableAt(t, place[0], place[1]) {
			keys, values := strings.Split(cells[0], ", "), strings.Split(cells[len(cells)-2], ", ")
			for i, key := range keys {
				said[strings.Trim(key, "`")] = values[min(i, len(values)-1)]
			}
		}
		for key, want := range defaults {
			if said[key] != want {
				t.Errorf("docs/%s, %s: the default of %s is %s, and the table says %q", place[0], place[1], key, want, said[key])
			}
		}
	}
}

// keysOfPackage returns the names of its variables that are keys.
func keysOfPackage(t *testing.T) (names []string) {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, is := n.(*ast.ValueSpec)
			if !is {
				return true
			}
			for i, value := range spec.Values {
				if literal, is := value.(*ast.CompositeLit); is {
					if kind, is := literal.Type.(*ast.Ident); is && kind.Name == "keys" {
						names = append(names, spec.Names[i].Name)
					}
				}
			}
			return true
		})
	}
	if len(names) < 15 {
		t.Errorf("there are but %q", names)
	}
	return names
}

func readDocs(t *testing.T, page string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "docs", page))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// tableAt returns the cells of each row of the tables between a heading and the
// next.
func tableAt(t *testing.T, page, heading string) (rows [][]string) {
	t.Helper()
	_, section, found := strings.Cut(readDocs(t, page), "\n"+heading+"\n")
	if !found {
		t.Errorf("docs/%s has no heading %s", page, heading)
		return nil
	}
	if end := regexp.MustCompile(`(?m)^#{2,3} `).FindStringIndex(section); end != nil {
		section = section[:end[0]]
	}
	for line := range strings.Lines(section) {
		cells := strings.Split(strings.Trim(line, "|\n"), "|")
		if line[0] != '|' || !strings.Contains(cells[0], "`") {
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		rows = append(rows, cells)
	}
	return rows
}
