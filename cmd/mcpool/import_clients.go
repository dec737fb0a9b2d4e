package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// An importClient is a program that keeps a list of MCP servers.
type importClient struct {
	name, title string
	// path is where it keeps it, by the operating system.
	path    func(at place) string
	section string // the key of its servers
	toml    bool   // else JSON, with comments or without
	// expand makes of a string one in which ${} means the same to us; nil where it
	// does already.
	expand func(string) (string, error)
	// off reports whether the file says elsewhere that a server is not used; nil
	// where that stands in its entry.
	off func(file *clientFile, name string) bool
	// convert changes the keys of an entry to ours; nil where they are.
	convert func(entry map[string]any) (map[string]any, error)
	// gateway is the entry that leads to the pool.
	gateway func(to target) map[string]any
}

// A place is a machine, as far as it decides where files are.
type place struct {
	os, home string
	getenv   func(string) string
}

// A target is where clients are led to.
type target struct {
	url     string
	command string // this program
	config  string // what it is to serve
}

// join makes a path in the way of the operating system.
func (p place) join(parts ...string) string {
	separator := "/"
	if p.os == "windows" {
		separator = `\`
	}
	return strings.Join(parts, separator)
}

// settings is the folder where desktop programs keep theirs.
func (p place) settings() string {
	switch p.os {
	case "windows":
		if folder := p.getenv("APPDATA"); folder != "" {
			return folder
		}
		return p.join(p.home, "AppData", "Roaming")
	case "darwin":
		return p.join(p.home, "Library", "Application Support")
	}
	if folder := p.getenv("XDG_CONFIG_HOME"); folder != "" {
		return folder
	}
	return p.join(p.home, ".config")
}

// importClients are those that are known, each with the format of its
// documentation.
var importClients = []importClient{
	{
		// modelcontextprotocol.io, "Connect to local MCP servers": commands alone.
		name: "claude-desktop", title: "Claude Desktop", section: "mcpServers",
		path:   func(at place) string { return at.join(at.settings(), "Claude", "claude_desktop_config.json") },
		expand: literally,
		gateway: func(to target) map[string]any {
			return map[string]any{"command": to.command, "args": []any{"serve", "--stdio", "--config", to.config}}
		},
	},
	{
		// docs.cursor.com, "Model Context Protocol".
		name: "cursor", title: "Cursor", section: "mcpServers",
		path:    func(at place) string { return at.join(at.home, ".cursor", "mcp.json") },
		gateway: func(to target) map[string]any { return map[string]any{"url": to.url} },
	},
	{
		// code.visualstudio.com, "MCP configuration reference".
		name: "vs-code", title: "VS Code", section: "servers",
		path:    func(at place) string { return at.join(at.settings(), "Code", "User", "mcp.json") },
		gateway: func(to target) map[string]any { return map[string]any{"type": "http", "url": to.url} },
	},
	{
		// @google/gemini-cli 0.61.0: its settings schema, and what gemini mcp add writes.
		name: "gemini-cli", title: "Gemini CLI", section: "mcpServers",
		path: func(at place) string {
			return at.join(cmp.Or(at.getenv("GEMINI_CLI_HOME"), at.home), ".gemini", "settings.json")
		},
		expand: dollars, convert: fromGemini, off: offInGemini,
		gateway: func(to target) map[string]any { return map[string]any{"type": "http", "url": to.url} },
	},
	{
		// RawMcpServerConfig in codex-rs/config/src/mcp_types.rs; @openai/codex 0.169.0.
		name: "codex", title: "Codex", section: "mcp_servers", toml: true,
		path: func(at place) string {
			if folder := at.getenv("CODEX_HOME"); folder != "" {
				return at.join(folder, "config.toml")
			}
			return at.join(at.home, ".codex", "config.toml")
		},
		expand: literally, convert: fromCodex,
		gateway: func(to target) map[string]any { return map[string]any{"url": to.url} },
	},
}

func clientNames() []string {
	var names []string
	for _, c := range importClients {
		names = append(names, c.name)
	}
	return names
}

// literally is for clients that do not look into strings.
func literally(text string) (string, error) { return strings.ReplaceAll(text, "${", "$${"), nil }

// bareDollar is a variable without braces.
var bareDollar = regexp.MustCompile(`\$([A-Za-z_][A-Za-z0-9_]*)`)

// dollars is for clients to which $NAME means ${NAME}.
func dollars(text string) (string, error) {
	if strings.Contains(text, "$$") {
		return "", errors.New("has $$, which means another thing here")
	}
	return bareDollar.ReplaceAllString(text, "$${$1}"), nil
}

// expanded applies a func to all strings in a value.
func expanded(value any, by func(string) (string, error)) (any, error) {
	var err error
	switch v := value.(type) {
	case string:
		return by(v)
	case []any:
		for i := range v {
			if v[i], err = expanded(v[i], by); err != nil {
				return nil, err
			}
		}
	case map[string]any:
		for key := range v {
			if v[key], err = expanded(v[key], by); err != nil {
				return nil, err
			}
		}
	}
	return value, nil
}

// plain makes patterns of names.
var plain = strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`)

// exactly makes the names of tools below some keys, which are meant to the
// letter, patterns.
func exactly(entry map[string]any, keys ...string) {
	for _, key := range keys {
		names, _ := entry[key].([]any)
		for i := range names {
			if name, is := names[i].(string); is {
				names[i] = plain.Replace(name)
			}
		}
	}
}

// renamed gives keys other names.
func renamed(entry map[string]any, names map[string]string) (map[string]any, error) {
	for old, ours := range names {
		value, there := entry[old]
		if !there {
			continue
		}
		if _, both := entry[ours]; both {
			return nil, fmt.Errorf("has %s and %s", old, ours)
		}
		entry[ours] = value
		delete(entry, old)
	}
	return entry, nil
}

func fromGemini(entry map[string]any) (map[string]any, error) {
	if entry["httpUrl"] != nil {
		delete(entry, "type") // it is about url
	}
	if timeout, is := entry["timeout"].(json.Number); is {
		milliseconds, err := timeout.Float64()
		if err != nil {
			return nil, errors.New("timeout is no number of milliseconds")
		}
		entry["pool"] = map[string]any{"call_timeout": milliseconds / 1000}
		delete(entry, "timeout")
	}
	exactly(entry, "includeTools", "excludeTools")
	return renamed(entry, map[string]string{"httpUrl": "url", "includeTools": "allow", "excludeTools": "deny"})
}

// offInGemini reports whether a server is not among mcp.allowed, or is among
// mcp.excluded, or was switched off (gemini mcp disable), which stands in a file
// beside the settings.
func offInGemini(file *clientFile, name string) bool {
	same := func(other any) bool {
		text, is := other.(string)
		return is && strings.EqualFold(strings.TrimSpace(text), strings.TrimSpace(name))
	}
	settings, _ := file.all["mcp"].(map[string]any)
	allowed, some := settings["allowed"].([]any)
	excluded, _ := settings["excluded"].([]any)
	if some && !slices.ContainsFunc(allowed, same) || slices.ContainsFunc(excluded, same) {
		return true
	}
	var switched map[string]struct{ Enabled *bool }
	text, err := os.ReadFile(filepath.Join(filepath.Dir(file.path), "mcp-server-enablement.json"))
	if err != nil || json.Unmarshal(text, &switched) != nil {
		return false // as Gemini CLI has it
	}
	for other, is := range switched {
		if same(other) && is.Enabled != nil && !*is.Enabled {
			return true
		}
	}
	return false
}

// asks reports whether Codex asks its user before each call of a server, or of
// some.
func asks(entry map[string]any) bool {
	modes := []any{entry["default_tools_approval_mode"]}
	tools, _ := entry["tools"].(map[string]any)
	for _, tool := range tools {
		t, _ := tool.(map[string]any)
		modes = append(modes, t["approval_mode"])
	}
	return slices.ContainsFunc(modes, func(mode any) bool { return mode != nil && mode != "auto" && mode != "approve" })
}

func fromCodex(entry map[string]any) (map[string]any, error) {
	if asks(entry) {
		return nil, errors.New("its tools are called after its user was asked, who would not be for those of the pool")
	}
	exactly(entry, "enabled_tools", "disabled_tools")
	if entry["enabled"] == false {
		entry["disabled"] = true
	}
	if name, is := entry["bearer_token_env_var"].(string); is {
		entry["auth"] = map[string]any{"bearer_env": name}
	}
	if seconds, is := entry["tool_timeout_sec"]; is {
		entry["pool"] = map[string]any{"call_timeout": seconds}
	}
	if variables, is := entry["env_http_headers"].(map[string]any); is {
		headers, _ := entry["http_headers"].(map[string]any)
		if headers == nil {
			headers = map[string]any{}
		}
		for name, variable := range variables {
			headers[name] = fmt.Sprintf("${%v}", variable)
		}
		entry["http_headers"] = headers
	}
	for _, key := range []string{
		"enabled", "bearer_token_env_var", "tool_timeout_sec", "env_http_headers",
		"startup_timeout_sec", "startup_timeout_ms", "required", // what Codex does while it waits
		"default_tools_approval_mode", "tools", "supports_parallel_tool_calls", "name", // what it does with its tools, and calls it
		"env_vars", // our processes have the whole environment
	} {
		delete(entry, key)
	}
	return renamed(entry, map[string]string{"http_headers": "headers", "enabled_tools": "allow", "disabled_tools": "deny"})
}

// errOurs says that an entry leads to a pool already.
var errOurs = errors.New("is mcpool")

// ours makes an entry of a client one of ours. The error says why it has to stay
// where it is.
func (c *importClient) ours(name string, entry map[string]any, to target) (map[string]any, error) {
	if args, _ := entry["args"].([]any); name == gatewayName || entry["url"] == to.url || slices.Contains(args, any("--stdio")) && slices.Contains(args, any("serve")) {
		return nil, errOurs
	}
	entry = maps.Clone(entry)
	if c.expand != nil {
		if _, err := expanded(entry, c.expand); err != nil {
			return nil, err
		}
	}
	if c.convert != nil {
		var err error
		if entry, err = c.convert(entry); err != nil {
			return nil, err
		}
	}
	if entry["disabled"] == true {
		return nil, errors.New("it is disabled")
	}
	if entry["type"] == "http" || entry["type"] == "stdio" {
		delete(entry, "type") // it says what url and command say
	}
	for _, key := range []string{"cwd", "envFile"} {
		if path, is := entry[key].(string); is && path != "" && !absolute(path) {
			return nil, fmt.Errorf("%s is a relative path, which means another folder in another file", key)
		}
	}
	return entry, nil
}

// absolute reports whether a path begins with a root, of any system, or with a
// variable.
func absolute(path string) bool {
	return strings.HasPrefix(path, "/") || strings.HasPrefix(path, `\`) || strings.HasPrefix(path, "${") || len(path) > 2 && path[1] == ':'
}
