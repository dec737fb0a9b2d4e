package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mcpool-dev/mcpool/dbserver"
)

// versions are those that the official Go client is made to speak, one of
// each era.
var versions = []string{"2025-11-25", "2026-07-28"}

// sdkRows connects the official Go client, reads rows of the sample database
// with the tool read_data, and checks them.
func sdkRows(t *testing.T, transport mcp.Transport, version string) {
	t.Helper()
	session, err := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil).
		Connect(t.Context(), transport, &mcp.ClientSessionOptions{ProtocolVersion: version})
	if err != nil {
		t.Fatalf("%s: %v", version, err)
	}
	if got := session.InitializeResult(); got.ProtocolVersion != version || got.ServerInfo.Name != "mcpool" {
		t.Errorf("%s: agreed on %+v", version, got)
	}
	list, err := session.ListTools(t.Context(), nil)
	if err != nil {
		t.Fatalf("%s: %v", version, err)
	}
	var names []string
	for _, tool := range list.Tools {
		names = append(names, tool.Name)
	}
	if got := fmt.Sprint(names); got != "[list_tables describe_table read_data fetch_rows explain_query database_info]" {
		t.Errorf("%s: listed %s", version, got)
	}
	var params mcp.CallToolParams
	if err := json.Unmarshal([]byte(query+"}"), &params); err != nil {
		t.Fatal(err)
	}
	result, err := session.CallTool(t.Context(), &params)
	if err != nil {
		t.Fatalf("%s: %v", version, err)
	}
	got, err := json.Marshal(result.StructuredContent)
	if err != nil || !strings.Contains(string(got), rows) {
		t.Errorf("%s: got %s, %v", version, got, err)
	}
	if err := session.Close(); err != nil {
		t.Errorf("%s: close: %v", version, err)
	}
}

func TestTheOfficialGoClientGetsTheSameRowsFromEverywhere(t *testing.T) {
	file, err := dbserver.Sample(t.Context(), cacheFolder())
	if err != nil {
		t.Fatal(err)
	}
	overHTTP := func(t *testing.T, p *program, path string) {
		for _, version := range versions {
			sdkRows(t, &mcp.StreamableClientTransport{Endpoint: p.url + path, HTTPClient: web(t)}, version)
		}
	}
	t.Run("serve", func(t *testing.T) {
		p := serve(t)
		overHTTP(t, p, "/mcp")
		overHTTP(t, p, "/mcp/sales")
	})
	t.Run("db over HTTP", func(t *testing.T) {
		for _, dsn := range []string{"sample", file, "sqlite://" + file, (&url.URL{Scheme: "file", Path: file}).String() + "?mode=ro"} {
			overHTTP(t, serveDB(t, "--dsn", dsn), "/mcp")
		}
	})
	t.Run("db over stdio", func(t *testing.T) {
		for _, version := range versions {
			cmd := commandLine(t, "db", "--dsn", file)
			sdkRows(t, &mcp.CommandTransport{Command: cmd}, version)
			if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != 0 {
				t.Errorf("it ended with %v", cmd.ProcessState)
			}
		}
	})
}
