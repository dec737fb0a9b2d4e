package config

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/mcpool-dev/mcpool"
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

// LogSettingNames returns the names of the settings of a [Log], as flags write
// them; the keys of a file's log are without "log_". In the environment they are
// in capitals, after [mcpool.EnvPrefix].
func LogSettingNames() []string {
	names := slices.Clone(logKeys.read)
	for i, name := range names {
		names[i] = logSettings + name
	}
	return names
}

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

// log reads what is logged: the file's log (nil for none), changed by the
// environment, and that by flags.
func (r *reader) log(n *node, flags map[string]string) Log {
	l := Log{Format: LogText}
	if n != nil {
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
	}
	set := func(name, value, source string) {
		if err := l.Set(name, value); err != nil {
			r.errs = append(r.errs, fmt.Errorf("%s is %q: %w", source, value, err))
		}
	}
	for _, name := range LogSettingNames() {
		variable := mcpool.EnvPrefix + strings.ToUpper(name)
		if value := os.Getenv(variable); value != "" {
			set(name, value, variable)
		}
	}
	for _, name := range LogSettingNames() {
		if value, given := flags[name]; given {
			set(name, value, "flag "+name)
		}
	}
	return l
}
