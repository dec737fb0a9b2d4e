package config

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// Telemetry is where to traces and metrics are sent, in the words of
// OpenTelemetry, and which. What is zero is left to the environment of
// OpenTelemetry (OTEL_…); where that names no collector either nothing is sent.
type Telemetry struct {
	// Endpoint is the URL of a collector that takes OTLP over HTTP, without
	// /v1/traces; "" if none is given.
	Endpoint string
	// HeadersFile has headers for it, one on a line as "Name: value"; "" if none
	// is given.
	HeadersFile string
	// SampleRatio is the share of traces that are recorded, of those that no
	// client began; 0 if none is given.
	SampleRatio float64
	// ServiceName is what the collector is told as our name; "" if none is given.
	ServiceName string
}

// telemetrySettings is what the names of settings of a [Telemetry] begin with,
// but in the file's telemetry.
const telemetrySettings = "telemetry_"

var telemetryKeys = keys{
	read:    []string{"otlp_endpoint", "headers_file", "sample_ratio", "service_name"},
	ignored: []string{"_comment", "//"},
}

// Set changes the setting of a name, as that of [Gateway] does. The error does not
// have the value.
func (t *Telemetry) Set(name, value string) error {
	switch strings.TrimPrefix(name, telemetrySettings) {
	case "otlp_endpoint":
		u, err := url.Parse(value)
		switch {
		case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Host == "", u.RawQuery != "", u.Fragment != "":
			return errors.New("want a URL such as http://localhost:4318")
		case u.User != nil:
			return errors.New("want a URL without credentials, which go into headers_file")
		}
		t.Endpoint = value
	case "headers_file":
		if value == "" {
			return errors.New("want a file")
		}
		t.HeadersFile = value
	case "sample_ratio":
		ratio, err := strconv.ParseFloat(value, 64)
		if err != nil || !(ratio > 0 && ratio <= 1) {
			return errors.New("want a number above 0, and at most 1 for all")
		}
		t.SampleRatio = ratio
	case "service_name":
		if value == "" || len(value) > 64 {
			return errors.New("want a name of 1 to 64 bytes")
		}
		t.ServiceName = value
	default:
		return fmt.Errorf("unknown setting%s", didYouMean(name, section{"telemetry", telemetryKeys.read}.names()))
	}
	return nil
}

// telemetry reads what is sent and where to; n is nil where nothing says so.
func (r *reader) telemetry(n *node) (t Telemetry) {
	if n == nil {
		return t
	}
	for _, child := range r.mapping(n, telemetryKeys) {
		before := len(r.errs)
		value := ""
		if child.key == "headers_file" {
			value = r.path(child)
		} else {
			value = r.text(child)
		}
		if len(r.errs) > before {
			continue
		}
		if err := t.Set(child.key, value); err != nil {
			r.refuse(child, "%w", err)
		}
	}
	return t
}
