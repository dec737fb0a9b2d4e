package dbserver

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/rpc"
)

func auditLines(t *testing.T, file string) []auditEntry {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var list []auditEntry
	for line := range bytes.Lines(data) {
		var e auditEntry
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatal(err)
		}
		list = append(list, e)
	}
	return list
}

func serveAudited(t *testing.T, audit Audit) *Server {
	t.Helper()
	path, err := samplePath()
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Options{Databases: []Database{{DSN: path}}, Audit: &audit})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAuditHasEveryCall(t *testing.T) {
	file := filepath.Join(t.TempDir(), "audit.jsonl")
	s := serveAudited(t, Audit{File: file})
	ada := rpc.Call{Caller: rpc.Caller{Principal: "ada"}}
	do(t, s, ada, "read_data", object{"query": "SELECT region FROM stores WHERE region <> 'secret' -- secret\nLIMIT 3"})
	do(t, s, ada, "read_data", object{"query": "DELETE FROM stores"})
	do(t, s, ada, "list_tables", object{"database": "x"})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := try(ctx, s, "read_data", object{"query": "SELECT 1"}); err == nil {
		t.Error("a cancelled call has an answer")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	got := auditLines(t, file)
	if len(got) != 4 {
		t.Fatalf("%d lines", len(got))
	}
	if e := got[0]; e.Principal != "ada" || e.Tool != "read_data" || e.Database != "main" || e.Rows != 3 || e.Verdict != "ok" || e.Duration <= 0 ||
		e.Statement != "SELECT region FROM stores WHERE region <> ? LIMIT ?" || len(e.SHA256) != 64 || e.Seq != 1 || e.Prev != "" {
		t.Errorf("%+v", e)
	}
	for i, want := range []string{"ok", engine.ReadOnly, engine.InvalidArgument, "cancelled"} {
		if got[i].Verdict != want {
			t.Errorf("line %d: verdict %s, want %s", i+1, got[i].Verdict, want)
		}
	}
	data, err := os.ReadFile(file)
	if err != nil || bytes.Contains(data, []byte("secret")) {
		t.Errorf("a value is in the audit, %v", err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestAuditOfWholeStatements(t *testing.T) {
	file := filepath.Join(t.TempDir(), "audit.jsonl")
	s := serveAudited(t, Audit{File: file, Statements: "full"})
	read(t, s, "SELECT 'é' AS x")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := auditLines(t, file); got[0].Statement != "SELECT 'é' AS x" {
		t.Errorf("%+v", got)
	}
}

func TestWritesAreAuditedBeforeTheyRun(t *testing.T) {
	file := filepath.Join(t.TempDir(), "audit.jsonl")
	l := &ledger{rows: 2, class: "update"}
	s := serveLedger(t, l, Options{Audit: &Audit{File: file}})
	args := object{"query": "UPDATE t SET x = 1 WHERE y"}
	args["token"] = call(t, s, "write_data", args).written(t).Token
	call(t, s, "write_data", args)
	var verdicts []string
	for _, e := range auditLines(t, file) {
		verdicts = append(verdicts, e.Verdict)
	}
	if strings.Join(verdicts, " ") != "ok begun ok" {
		t.Errorf("verdicts are %q", verdicts)
	}
	// What cannot be written down does not happen.
	args = object{"query": "UPDATE t SET x = 2 WHERE y"}
	args["token"] = call(t, s, "write_data", args).written(t).Token
	if err := s.audit.file.Close(); err != nil {
		t.Fatal(err)
	}
	s.audit.file = nil
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(file, 0o700); err != nil {
		t.Fatal(err)
	}
	before := len(l.ran)
	if a, err := try(t.Context(), s, "write_data", args); err == nil {
		t.Errorf("got %s", a.structured)
	}
	if len(l.ran) != before {
		t.Errorf("ran %q", l.ran)
	}
}

func TestAuditChain(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "audit.jsonl")
	for range 2 { // the second server goes on where the first ended
		s := serveAudited(t, Audit{File: file, MaxBytes: 2000})
		for range 5 {
			read(t, s, "SELECT 1")
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	files, err := filepath.Glob(file + ".[0-9]")
	if err != nil || len(files) == 0 {
		t.Fatalf("nothing was rotated: %v", err)
	}
	var all []string
	for n := len(files); n >= 1; n-- {
		all = append(all, (&auditLog{options: Audit{File: file}}).rotated(n))
	}
	all = append(all, file)
	lines, last, err := VerifyAudit(all...)
	if err != nil || lines != 10 || len(last) != 64 {
		t.Fatalf("%d lines, %v", lines, err)
	}
	for _, name := range all {
		if info, err := os.Stat(name); err != nil || info.Size() > 2000 {
			t.Errorf("%s has %d bytes, %v", name, info.Size(), err)
		}
	}
	good, err := os.ReadFile(all[0])
	if err != nil {
		t.Fatal(err)
	}
	split := bytes.SplitAfter(good, []byte("\n"))
	for name, bad := range map[string][]byte{
		"a changed byte":   bytes.Replace(good, []byte(`"rows":1`), []byte(`"rows":2`), 1),
		"a line taken out": append(bytes.Clone(split[0]), bytes.Join(split[2:], nil)...),
		"lines swapped":    bytes.Join(append([][]byte{split[1], split[0]}, split[2:]...), nil),
		"a member put in":  bytes.Replace(good, []byte(`{"seq"`), []byte(`{"x":1,"seq"`), 1),
		"no line":          append(bytes.Clone(good), "x\n"...),
		"the end cut off":  bytes.Join(split[:len(split)-2], nil), // found, since another file follows
	} {
		if err := os.WriteFile(all[0], bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := VerifyAudit(all...); err == nil {
			t.Errorf("%s is not found", name)
		}
	}
}

func TestAuditsThatMakeNoSense(t *testing.T) {
	dir := t.TempDir()
	other := filepath.Join(dir, "other")
	if err := os.WriteFile(other, []byte("a letter\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, a := range []Audit{{File: filepath.Join(dir, "no", "audit")}, {File: other}, {File: filepath.Join(dir, "x"), Statements: "all"}, {File: filepath.Join(dir, "x"), MaxBytes: -1}, {}} {
		if _, err := New(Options{Databases: []Database{{DSN: "x.db"}}, Audit: &a}); err == nil {
			t.Errorf("%+v is taken", a)
		}
	}
}

// While one server takes the place of another both write, and one of them
// rotates the file under the other.
func TestServersTakeTurnsAtAnAudit(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("one server alone writes to an audit on Windows")
	}
	file := filepath.Join(t.TempDir(), "audit.jsonl")
	const each, servers = 300, 4
	var all sync.WaitGroup
	for range servers {
		a, err := openAudit(Audit{File: file, MaxBytes: 50_000})
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			for range each {
				if err := a.write(auditEntry{Tool: "x"}); err != nil {
					t.Error(err)
				}
			}
			if err := a.close(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	var files []string
	for n := AuditFiles; n >= 1; n-- {
		if rotated := file + "." + strconv.Itoa(n); exists(rotated) {
			files = append(files, rotated)
		}
	}
	if lines, _, err := VerifyAudit(append(files, file)...); err != nil || lines != each*servers || len(files) == 0 {
		t.Errorf("%d lines in %d files: %v", lines, len(files)+1, err)
	}
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}
