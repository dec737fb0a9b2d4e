package config

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/tailscale/hujson"
)

// parseJSON makes a tree of JSON with comments and trailing commas.
func parseJSON(data []byte) (*node, error) {
	value, err := hujson.Parse(data)
	if err != nil {
		return nil, jsonError(err)
	}
	j := jsonTree{data: data}
	return j.node(&value, 0)
}

// jsonTree turns hujson's syntax tree into ours. Values come in the order of
// the file, so lines are counted once.
type jsonTree struct {
	data   []byte
	offset int // lines are counted up to here
	lines  int
}

// line is the line that v starts on.
func (j *jsonTree) line(v *hujson.Value) int {
	j.lines += bytes.Count(j.data[j.offset:v.StartOffset], []byte("\n"))
	j.offset = v.StartOffset
	return j.lines + 1
}

func (j *jsonTree) node(v *hujson.Value, depth int) (*node, error) {
	n := &node{line: j.line(v)}
	if depth > maxDepth {
		return nil, &lineError{n.line, errDepth}
	}
	switch value := v.Value.(type) {
	case *hujson.Object:
		n.kind = mapping
		for i := range value.Members {
			m := &value.Members[i]
			line := j.line(&m.Name)
			child, err := j.node(&m.Value, depth+1)
			if err != nil {
				return nil, err
			}
			child.line = line
			n.add(m.Name.Value.(hujson.Literal).String(), child)
		}
	case *hujson.Array:
		n.kind = list
		for i := range value.Elements {
			child, err := j.node(&value.Elements[i], depth+1)
			if err != nil {
				return nil, err
			}
			n.add("", child)
		}
	case hujson.Literal:
		if value.Kind() != 'n' {
			n.kind, n.text = scalar, value.String()
		}
	}
	return n, nil
}

// jsonError is a syntax error without the content of the file, which hujson
// quotes and which may be a secret.
func jsonError(err error) error {
	text := strings.TrimPrefix(err.Error(), "hujson: ")
	if before, _, quotes := strings.Cut(text, "invalid literal: "); quotes {
		text = before + "invalid literal"
	}
	var line, column int
	if _, scanErr := fmt.Sscanf(text, "line %d, column %d: ", &line, &column); scanErr != nil {
		return fmt.Errorf("not JSON: %s", text)
	}
	_, text, _ = strings.Cut(text, ": ")
	return errorAt(line, fmt.Sprintf("not JSON: %s (column %d)", text, column))
}
