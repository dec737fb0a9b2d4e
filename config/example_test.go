package config_test

import (
	"fmt"

	"github.com/mcpool-dev/mcpool/config"
)

func ExampleParse() {
	c, err := config.Parse([]byte(`
mcpServers:
  search:
    url: https://search.example.com/mcp
    headers:
      Authorization: Bearer ${SEARCH_TOKEN:-none}
  My Files:
    command: npx
    args: [-y, "@modelcontextprotocol/server-filesystem", /data]
    pool: {max_connections: 2}
pool:
  connection_timeout: 20
`), "mcp.yaml", map[string]string{"max_connections": "12"})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, s := range c.Servers {
		fmt.Println(s.Name, s.URL+s.Command, s.Pool.MaxConnections, s.Pool.ConnectionTimeout)
	}
	// Output:
	// search https://search.example.com/mcp 12 20s
	// My-Files npx 2 20s
}

func ExampleParse_mistakes() {
	_, err := config.Parse([]byte(`{
  "mcpServers": {
    "files": {"comand": "npx"},
    "search": {"url": "https://example.com/mcp", "headers": {"Authorization": "Bearer ${NO_SUCH_TOKEN}"}},
  },
}`), "mcp.json", nil)
	fmt.Println(err)
	// Output:
	// mcp.json:3: mcpServers.files.comand: unknown key; did you mean command?
	// mcp.json:4: mcpServers.search.headers.Authorization: environment variable NO_SUCH_TOKEN is not set
}
