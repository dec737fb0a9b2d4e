package config

import (
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
)

// A Log is what is logged, and how.
type Log struct {
	// Level is the least level that is logged.
	Level slog.Level
	// Format is [LogText] or [LogJSON].
	Format string
	// Access is the share of requests over HTTP that a line is written for, from 0
	// for none to 1 for all. Where it is more than 0, those that fail have a line
	// in any case.
	Access float64
}

// How lines of the log are written.
const (
	LogText = "text" // NAME=VALUE, as of [slog.TextHandler]
	LogJSON = "json" // an object, as of [slog.JSONHandler]
)

// logSettings is what the names of a log's settings begin with, but in the
// file's log.
const logSettings = "log_"

var logKeys = keys{read: []string{"level", "format", "access"}, ignored: []string{"_comment", "//"}}

// LogSettingNames returns the names of the settings of a [Log], which are some of
// [AllSettingNames].
func LogSettingNames() []string { return section{"log", logKeys.read}.names() }

// Set changes the setting of a name that [LogSettingNames] has, or says what its
// value may be. The error does not have the value.
func (l *Log) Set(name, value string) error {
	switch strings.TrimPrefix(name, logSettings) {
	case "level":
		if l.Level.UnmarshalText([]byte(value)) != nil {
			return errors.New("want debug, info, warn or error")
		}
	case "format":
		if value != LogText && value != LogJSON {
			return fmt.Errorf("want %s or %s", LogText, LogJSON)
		}
		l.Format = value
	case "access":
		switch value {
		case "off":
			l.Access = 0
			return nil
		case "all":
			l.Access = 1
			return nil
		}
		share, err := strconv.ParseFloat(value, 64)
		if err != nil || !(share >= 0 && share <= 1) {
			return errors.New("want off, all, or the share of requests to log such as 0.01")
		}
		l.Access = share
	default:
		return fmt.Errorf("unknown setting%s", didYouMean(name, LogSettingNames()))
	}
	return nil
}

// log reads what is logged; n is nil where nothing says so.
func (r *reader) log(n *node) Log {
	l := Log{Format: LogText}
	if n == nil {
		return l
	}
	for _, child := range r.mapping(n, logKeys) {
		before := len(r.errs)
		value := r.text(child)
		if len(r.errs) > before {
			continue
		}
		if err := l.Set(child.key, value); err != nil {
			r.refuse(child, "value %q: %w", child.text, err)
		}
	}
	return l
}
