package config

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
)

// reference is what stands between ${ and }: a variable, as Claude Code
// (${VAR}, ${VAR:-default}), Cursor and VS Code (${env:VAR}) write it.
var reference = regexp.MustCompile(`(?s)^(?:env:)?([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?$`)

// expand replaces the ${…} in text and returns what stood in the way, which
// never includes a value: those may be secrets.
func expand(text string) (string, []error) {
	var out strings.Builder
	var errs []error
	for {
		before, after, found := strings.Cut(text, "${")
		if !found {
			out.WriteString(text)
			return out.String(), errs
		}
		if literal, escaped := strings.CutSuffix(before, "$"); escaped {
			out.WriteString(literal + "${")
			text = after
			continue
		}
		out.WriteString(before)
		inside, rest, closed := strings.Cut(after, "}")
		if !closed {
			return out.String(), append(errs, errors.New("a ${ without its }; a ${ meant literally is written $${"))
		}
		value, err := lookup(inside)
		if err != nil {
			errs = append(errs, err)
		}
		out.WriteString(value)
		text = rest
	}
}

// lookup returns what ${inside} stands for.
func lookup(inside string) (string, error) {
	switch inside {
	case "userHome":
		return os.UserHomeDir()
	case "pathSeparator", "/":
		return string(os.PathSeparator), nil
	}
	if id, ok := strings.CutPrefix(inside, "input:"); ok {
		return "", fmt.Errorf("${input:%s} would have to be asked for, which mcpool does not do: "+
			"put it into the environment and write ${env:NAME}", id)
	}
	if strings.HasPrefix(inside, "workspaceFolder") {
		return "", fmt.Errorf("${%s} means something in an editor only: write the path itself", inside)
	}
	match := reference.FindStringSubmatch(inside)
	if match == nil || strings.Contains(match[2], "${") {
		return "", errors.New("a ${…} of no known kind: there are ${NAME}, ${env:NAME}, ${NAME:-default} " +
			"and ${userHome}; a ${ meant literally is written $${")
	}
	name, fallback := match[1], match[2]
	value, set := os.LookupEnv(name)
	hasFallback := strings.Contains(inside, ":-")
	switch {
	case value == "" && hasFallback: // as in a shell, where :- is for empty ones too
		return fallback, nil
	case !set:
		return "", fmt.Errorf("environment variable %s is not set", name)
	}
	return value, nil
}
