package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/dbplugin"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

// The tests here are of what the system did that this one is built from, a
// part of it each. The others are in the packages that have taken them over.

// TestSource_Main_PoolInitialisationAndCleanup: its main program made the pools
// when it began and closed them when it ended.
func TestSource_Main_PoolInitialisationAndCleanup(t *testing.T) {
	server, w := &mcptest.Server{}, newWitness(t)
	p := serve(t, "--config", configure(t, "mcp.json", `{
		"mcpServers": {"web": {"url": %q}, "child": %s, "shared": %s}, "databases": {"sales": {"dsn": "sample"}}, "database_server": {"name": "sales"},
		"pool": {"calls_per_connection": 1}}`,
		upstream(t, server), w.child(mcptest.Normal), strings.Replace(w.child(mcptest.Stubborn), "{", `{"pool": {"sharing": "shared"}, `, 1)))
	pools := []string{"web", "child", "shared", "sales"}
	for _, name := range pools {
		if s := p.pool(t, name).Stats; s.Connections != 0 || s.Opened != 0 {
			t.Errorf("%s: %+v before it is called", name, s)
		}
	}

	clients := []*client{connect(t, web(t), p.url+"/mcp"), connect(t, web(t), p.url+"/mcp")}
	for i, c := range clients {
		for _, name := range pools[:3] {
			if _, err := c.call(t.Context(), name+"__echo", fmt.Sprint(i)); err != nil {
				t.Error(err)
			}
		}
		if _, err := c.request(t.Context(), "tools/call", json.RawMessage(
			`{"name": "sales__read_data", "arguments": {"query": "select 1"}}`)); err != nil {
			t.Error(err)
		}
	}
	for name, want := range map[string]int{"web": 1, "child": 2, "shared": 1, "sales": 1} { // a child for each session
		if s := p.pool(t, name).Stats; s.Connections != want {
			t.Errorf("%s: %d connections, want %d", name, s.Connections, want)
		}
	}
	for range 3 {
		w.awaitStart(t)
	}
	if server.Open() != 1 || w.started() != 3 {
		t.Errorf("%d sessions, %d processes, want 1 and 3", server.Open(), w.started())
	}

	// A session takes with it what is its own.
	resp := send(t, http.MethodDelete, p.url+"/mcp", "", "Mcp-Session-Id", clients[0].session)
	if resp.StatusCode != http.StatusNoContent {
		t.Errorf("DELETE: status %d", resp.StatusCode)
	}
	w.awaitEnd(t)

	p.stop()
	p.end(t)
	w.awaitEnd(t)
	w.awaitEnd(t)
	if server.Open() != 0 || server.Deletes() != 1 || w.started() != 3 {
		t.Errorf("%d sessions stay open, %d were deleted, %d processes were started", server.Open(), server.Deletes(), w.started())
	}
}

// TestSource_EnhancedDatabasePlugin: its plugin had an agent's functions call a
// database server through a pool. Here the server is the command, at each of
// its ends.
func TestSource_EnhancedDatabasePlugin(t *testing.T) {
	command := commandLine(t, "db", "--dsn", "sample")
	for name, server := range map[string]mcpool.Server{
		"the gateway":             {URL: serve(t).url + "/mcp/sales"},
		"a database server":       {URL: serveDB(t, "--dsn", "sample").url + "/mcp"},
		"one in a child process":  {Command: command.Path, Args: command.Args[1:], Env: []string{asCommand + "=1"}},
		"one behind both of them": {URL: serve(t, "--config", behind(t, serveDB(t, "--dsn", "sample").url+"/mcp")).url + "/mcp"},
	} {
		t.Run(name, func(t *testing.T) {
			server.Name = "sales"
			pool, err := mcpool.New(server, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := pool.Close(t.Context()); err != nil {
					t.Error(err)
				}
			}()
			plugin, err := dbplugin.New(pool, nil)
			if err != nil {
				t.Fatal(err)
			}
			tables, err := plugin.ListTables(t.Context(), nil)
			if err != nil || tables.Count != 6 {
				t.Errorf("tables: %+v, %v", tables, err)
			}
			table, err := plugin.DescribeTable(t.Context(), "sales")
			if err != nil || len(table.Columns) != 8 || len(table.ForeignKeys) != 4 {
				t.Errorf("table: %+v, %v", table, err)
			}
			result, err := plugin.ReadData(t.Context(), "select customer_id, loyalty_number from customers where customer_id in (3, 41)", nil)
			if err != nil || fmt.Sprint(result.Rows) != "[[3 9007199257741002] [41 <nil>]]" {
				t.Errorf("rows: %+v, %v", result, err)
			}
			info, err := plugin.DatabaseInfo(t.Context())
			if err != nil || info.Mode != "read_only" || info.Status != "ready" || !info.ReadOnly.Verified {
				t.Errorf("info: %+v, %v", info, err)
			}
			arguments := map[string]string{
				"describe_table_schema": `{"table_name": "stores"}`,
				"execute_sql_query":     `{"query": "select count(*) from sales", "limit": 1}`,
			}
			says := map[string]string{
				"list_database_tables": "customers", "describe_table_schema": "opened_on",
				"execute_sql_query": "50000", "get_database_info": "read_only",
			}
			functions, err := plugin.Functions(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range functions {
				if says[f.Name] == "" { // explain_sql_query and fetch_more_rows are more than the source had
					continue
				}
				text, err := f.Invoke(t.Context(), json.RawMessage(arguments[f.Name]))
				if err != nil || !strings.Contains(text, says[f.Name]) || says[f.Name] == "" {
					t.Errorf("%s: %s, %v", f.Name, text, err)
				}
			}
			if s := pool.Stats(); s.Opened != 1 || s.Calls != 9 || s.Errors != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}
