package config_test

import (
	"path/filepath"
	"testing"

	"github.com/mcpool-dev/mcpool/config"
)

func TestTelemetrySettings(t *testing.T) {
	const servers = "databases: {a: {dsn: sample}}\n"
	for name, test := range map[string]struct {
		file        string
		environment map[string]string
		flags       map[string]string
		want        config.Telemetry
	}{
		"nothing": {},
		"the file": {
			file: "telemetry: {otlp_endpoint: 'https://c:4318/x', headers_file: h, sample_ratio: 0.25, service_name: s}",
			want: config.Telemetry{Endpoint: "https://c:4318/x", HeadersFile: filepath.Join("etc", "h"), SampleRatio: 0.25, ServiceName: "s"},
		},
		"the environment beats it": {
			file:        "telemetry: {otlp_endpoint: 'http://c', service_name: s}",
			environment: map[string]string{"OTLP_ENDPOINT": "http://d", "HEADERS_FILE": "i", "SAMPLE_RATIO": "1", "SERVICE_NAME": "t"},
			want:        config.Telemetry{Endpoint: "http://d", HeadersFile: "i", SampleRatio: 1, ServiceName: "t"},
		},
		"flags beat both": {
			file:        "telemetry: {otlp_endpoint: 'http://c'}",
			environment: map[string]string{"OTLP_ENDPOINT": "http://d", "HEADERS_FILE": "i", "SAMPLE_RATIO": "1", "SERVICE_NAME": "t"},
			flags:       map[string]string{"telemetry_otlp_endpoint": "http://e", "telemetry_headers_file": "j", "telemetry_sample_ratio": "0.5", "telemetry_service_name": "u"},
			want:        config.Telemetry{Endpoint: "http://e", HeadersFile: "j", SampleRatio: 0.5, ServiceName: "u"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			for variable, value := range test.environment {
				t.Setenv("MCP_POOL_TELEMETRY_"+variable, value)
			}
			c, err := config.Parse([]byte(servers+test.file), filepath.Join("etc", "mcp.yaml"), test.flags)
			if err != nil {
				t.Fatal(err)
			}
			if c.Telemetry != test.want {
				t.Errorf("got %+v, want %+v", c.Telemetry, test.want)
			}
			if test.file == "" {
				if c, err = config.Default(test.flags); err != nil || c.Telemetry != test.want {
					t.Errorf("without a file: got %+v, %v", c, err)
				}
			}
		})
	}
}

func TestTelemetrySettingsFromOutsideAreChecked(t *testing.T) {
	t.Setenv("MCP_POOL_TELEMETRY_OTLP_ENDPOINT", "http://me:s3cret@c")
	t.Setenv("MCP_POOL_TELEMETRY_SERVICE_NAM", "x")
	_, err := config.Default(map[string]string{"telemetry_sample_ratio": "NaN"})
	want := `MCP_POOL_TELEMETRY_SERVICE_NAM in the environment: unknown setting; did you mean MCP_POOL_TELEMETRY_SERVICE_NAME?
environment MCP_POOL_TELEMETRY_OTLP_ENDPOINT: want a URL without credentials, which go into headers_file
flag telemetry_sample_ratio: want a number above 0, and at most 1 for all`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}
