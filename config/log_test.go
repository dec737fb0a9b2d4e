package config_test

import (
	"log/slog"
	"testing"

	"github.com/mcpool-dev/mcpool/config"
)

func TestLogSettings(t *testing.T) {
	const servers = "databases: {a: {dsn: sample}}\n"
	for name, test := range map[string]struct {
		file        string
		environment map[string]string
		flags       map[string]string
		want        config.Log
	}{
		"nothing":  {want: config.Log{Format: config.LogText}},
		"the file": {file: "log: {level: warn, format: json, access: all}", want: config.Log{Level: slog.LevelWarn, Format: config.LogJSON, Access: 1}},
		"the environment beats it": {
			file:        "log: {level: warn, format: json, access: all}",
			environment: map[string]string{"LEVEL": "error", "FORMAT": "text", "ACCESS": "0.5"},
			want:        config.Log{Level: slog.LevelError, Format: config.LogText, Access: 0.5},
		},
		"flags beat both": {
			file:        "log: {level: warn, format: text, access: all}",
			environment: map[string]string{"LEVEL": "error", "FORMAT": "text", "ACCESS": "0.5"},
			flags:       map[string]string{"log_level": "debug", "log_format": "json", "log_access": "off"},
			want:        config.Log{Level: slog.LevelDebug, Format: config.LogJSON},
		},
	} {
		t.Run(name, func(t *testing.T) {
			for variable, value := range test.environment {
				t.Setenv("MCP_POOL_LOG_"+variable, value)
			}
			c, err := config.Parse([]byte(servers+test.file), "mcp.yaml", test.flags)
			if err != nil || c.Log != test.want {
				t.Errorf("got %+v, %v, want %+v", c, err, test.want)
			}
		})
	}
}

func TestLogSettingsAreChecked(t *testing.T) {
	t.Setenv("MCP_POOL_LOG_FORMAT", "xml")
	_, err := config.Parse([]byte("databases: {a: {dsn: sample}}\nlog: {access: 1.5, leval: info}"), "mcp.yaml", map[string]string{"log_level": "loud"})
	want := `mcp.yaml:2: log.leval: unknown key; did you mean level?
mcp.yaml:2: log.access: value "1.5": want off, all, or the share of requests to log such as 0.01
environment MCP_POOL_LOG_FORMAT: value "xml": want text or json
flag log_level: value "loud": want debug, info, warn or error`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}
