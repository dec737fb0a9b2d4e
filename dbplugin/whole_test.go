package dbplugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool/dbserver"
)

// whole returns a plugin on a server with two databases, one of them for
// writing.
func whole(t *testing.T, options *Options) *Plugin {
	t.Helper()
	path, err := dbserver.Sample(t.Context(), filepath.Join(os.TempDir(), "mcpool-example"))
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(t.TempDir(), "own.db")
	if err := os.WriteFile(own, data, 0o600); err != nil {
		t.Fatal(err)
	}
	server, err := dbserver.New(dbserver.Options{Databases: []dbserver.Database{{Name: "sales", DSN: path}, {Name: "own", DSN: own, Mode: dbserver.Write}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	p, err := New(server, options)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestAllOfOurServer calls what our own server has, without anything written by
// hand in between.
func TestAllOfOurServer(t *testing.T) {
	p := whole(t, &Options{Database: "own", DefaultLimit: 7})
	ctx := t.Context()

	count := 0
	for page, err := range p.Pages(ctx, "SELECT customer_id FROM customers ORDER BY 1 LIMIT 30", nil) {
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range page.Rows {
			if count++; fmt.Sprint(row) != fmt.Sprintf("[%d]", count) {
				t.Fatalf("row %d is %v", count, row)
			}
		}
	}
	if count != 30 {
		t.Errorf("%d rows came", count)
	}

	named, err := p.ReadData(ctx, "SELECT :a, :b", &ReadOptions{Params: map[string]any{"a": json.Number("9007199254740993"), "b": nil}})
	if err != nil || fmt.Sprint(named.Rows) != "[[9007199254740993 <nil>]]" {
		t.Errorf("got %v, %v", named.Rows, err)
	}

	plan, err := p.Explain(ctx, "SELECT * FROM sales WHERE amount_cents = ?", []any{1})
	if err != nil || len(plan.Warnings) == 0 {
		t.Errorf("plan %+v, %v", plan, err)
	}

	several, err := p.DescribeTables(ctx, "stores", "sales")
	if err != nil || len(several) != 2 || several[1].Name != "sales" || len(several[1].Columns) != 8 {
		t.Errorf("got %+v, %v", several, err)
	}

	preview, err := p.PreviewWrite(ctx, "UPDATE stores SET city = ? WHERE store_id < ?", []any{"x", 4})
	if err != nil || preview.Affected != 3 {
		t.Fatalf("preview %+v, %v", preview, err)
	}
	count3 := func() string {
		t.Helper()
		r, err := p.ReadData(ctx, "SELECT count(*) FROM stores WHERE city = 'x'", nil)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(r.Rows)
	}
	if got := count3(); got != "[[0]]" {
		t.Errorf("the preview was kept: %s", got)
	}
	if done, err := preview.Commit(ctx); err != nil || done.Affected != 3 {
		t.Errorf("committed %+v, %v", done, err)
	}
	if got := count3(); got != "[[3]]" {
		t.Errorf("after the commit: %s", got)
	}

	nothing, err := p.PreviewWrite(ctx, "DELETE FROM stores WHERE 0", nil)
	if err != nil || nothing.Affected != 0 {
		t.Fatalf("preview %+v, %v", nothing, err)
	}
	if done, err := nothing.Commit(ctx); err != nil || done.Affected != 0 {
		t.Errorf("committed %+v, %v", done, err)
	}

	other := whole(t, &Options{Database: "sales"})
	var failed *ToolError
	if _, err := other.PreviewWrite(ctx, "DELETE FROM stores WHERE 1", nil); err == nil || errors.As(err, &failed) && failed.Code == "" {
		t.Errorf("writing where it is not allowed: %v", err)
	}
}

// TestFunctionsOfOurServer has a model go through all functions.
func TestFunctionsOfOurServer(t *testing.T) {
	p := whole(t, &Options{Write: true})
	all := functions(t, p)
	invoke := func(name string, arguments map[string]any) string {
		t.Helper()
		raw, err := json.Marshal(arguments)
		if err != nil {
			t.Fatal(err)
		}
		text, err := all[name].Invoke(context.Background(), raw)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return text
	}
	first := invoke("execute_sql_query", map[string]any{"database": "sales", "query": "SELECT sale_id FROM sales ORDER BY 1", "limit": 2})
	_, handle, ok := strings.Cut(first, "Handle: ")
	if !ok {
		t.Fatalf("there is no handle: %s", first)
	}
	if next := invoke("fetch_more_rows", map[string]any{"handle": strings.TrimSpace(handle), "limit": 2}); !strings.Contains(next, "\n3\n4\n") {
		t.Errorf("next rows are %s", next)
	}
	statement := map[string]any{"database": "own", "query": "UPDATE stores SET city = 'y' WHERE store_id = 1"}
	preview := invoke("execute_sql_write", statement)
	_, token, ok := strings.Cut(preview, "Token: ")
	if !ok {
		t.Fatalf("there is no token: %s", preview)
	}
	statement["token"], _, _ = strings.Cut(token, "\n")
	if done := invoke("execute_sql_write", statement); !strings.Contains(done, "Committed") {
		t.Errorf("got %s", done)
	}
}
