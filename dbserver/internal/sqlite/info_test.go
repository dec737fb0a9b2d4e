package sqlite

import (
	"os"
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

func TestFindings(t *testing.T) {
	file := newDatabase(t, "CREATE TABLE t (a); CREATE INDEX i ON t (a)")
	if err := os.WriteFile(file+"-wal", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file+"-wal", largeLog+1); err != nil {
		t.Fatal(err)
	}
	d := newEngine(t, engine.Options{DSN: file, Policy: hiding})
	info, err := d.Info(t.Context(), engine.Caller{})
	if err != nil || info.Status != "ready" || !info.Proof.Verified {
		t.Fatalf("got %+v, %v", info, err)
	}
	if got := strings.Join(info.Proof.EnforcedBy, "; "); !strings.Contains(got, enforcedByPolicy) {
		t.Errorf("enforced by %s", got)
	}
	var said []string
	for _, f := range info.Findings {
		said = append(said, f.Severity+": "+f.Message)
	}
	if got := strings.Join(said, "; "); len(said) != 2 || !strings.Contains(got, "indexes") || !strings.Contains(got, "write-ahead log") {
		t.Errorf("findings are %s", got)
	}
	file = newDatabase(t, "CREATE TABLE t (a); CREATE INDEX i ON t (a); ANALYZE")
	if info, err := newEngine(t, engine.Options{DSN: file}).Info(t.Context(), engine.Caller{}); err != nil || len(info.Findings) != 0 {
		t.Errorf("findings are %+v, %v", info.Findings, err)
	}
}

func TestChecks(t *testing.T) {
	got := checks(`CREATE TABLE t (a INT CHECK (a > (1 + 2)), "CHECK" TEXT DEFAULT 'CHECK (x)', -- CHECK (y)
		b TEXT check(b <> ')'), CONSTRAINT c CHECK /* z */ ( a < b ))`)
	if want := "a > (1 + 2)|b <> ')'|a < b"; strings.Join(got, "|") != want {
		t.Errorf("got %q", got)
	}
}

func TestSamples(t *testing.T) {
	d := newEngine(t, engine.Options{DSN: newDatabase(t, `CREATE TABLE t (a INT, b TEXT, c BLOB, d);
		INSERT INTO t VALUES (1, 'x', x'00', x'01'), (1, printf('%.*c', 300, 'y'), x'00', 2.5), (2, CAST(x'ff' AS TEXT), NULL, NULL), (3, '', NULL, 'z')`)})
	told, err := d.Describe(t.Context(), engine.Caller{}, engine.Name{Table: "t"}, 2)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range told.Columns {
		got = append(got, strings.Join(c.Samples, ","))
	}
	if want := "1,2|x," + strings.Repeat("y", maxSample) + "…||2.5,z"; strings.Join(got, "|") != want {
		t.Errorf("got %q", got)
	}
}
