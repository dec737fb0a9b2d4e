package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// envFile returns the variables of a file as NAME=value.
func (r *reader) envFile(n *node) []string {
	before := len(r.errs)
	path := r.path(n)
	if path == "" || len(r.errs) > before {
		return nil
	}
	env, err := readEnvFile(path)
	if err != nil {
		r.refuse(n, "%w", err)
	}
	return env
}

// readEnvFile reads a file of lines NAME=value, some of them with "export"
// before, in quotes or followed by a comment. Nothing is replaced in it.
func readEnvFile(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, withoutPath(err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("larger than %d KiB", maxFile>>10)
	}
	var env []string
	for i, line := range strings.Split(string(data), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if rest, exports := strings.CutPrefix(line, "export "); exports {
			line = rest
		}
		name, value, ok := strings.Cut(line, "=")
		name = strings.TrimSpace(name)
		if !ok || name == "" || strings.ContainsAny(name, " \t\x00") {
			return nil, &lineError{i + 1, errors.New("want NAME=value")}
		}
		if value, ok = envValue(strings.TrimSpace(value)); !ok {
			return nil, &lineError{i + 1, errors.New("a value of " + name + " without its closing quote")}
		}
		env = append(env, name+"="+value)
	}
	return env, nil
}

// envValue takes quotes and a comment off a value. In double quotes \n, \"
// and \\ are what they are in most languages.
func envValue(value string) (string, bool) {
	if value == "" || value[0] != '"' && value[0] != '\'' {
		value, _, _ = strings.Cut(value, " #")
		return strings.TrimSpace(value), true
	}
	var out strings.Builder
	quote := value[0]
	for i := 1; i < len(value); i++ {
		c := value[i]
		if c == quote {
			return out.String(), true
		}
		if c == '\\' && quote == '"' && i+1 < len(value) {
			switch i++; value[i] {
			case 'n':
				c = '\n'
			case '"', '\\':
				c = value[i]
			default:
				out.WriteByte(c)
				c = value[i]
			}
		}
		out.WriteByte(c)
	}
	return "", false
}
