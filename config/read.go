package config

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A reader reads a tree and keeps going: what is wrong is collected, so that
// one start names every mistake.
type reader struct {
	name   string // of the file, for errors
	folder string // of the file, for relative paths
	errs   []error

	sources       sources
	passwordFiles map[string]string // of databases, by name
}

// refuse notes that something is wrong at n. The text must not hold a value
// that may be a secret.
func (r *reader) refuse(n *node, format string, args ...any) {
	where := fmt.Sprintf("%s:%d: ", r.name, n.line)
	if place := n.place(); place != "" {
		where += place + ": "
	}
	if n.outside != "" {
		where = n.outside + ": "
	}
	r.errs = append(r.errs, fmt.Errorf("%s%w", where, fmt.Errorf(format, args...)))
}

// duplicates refuses keys that are there twice, anywhere below n: which of
// the two was meant cannot be known.
func (r *reader) duplicates(n *node) {
	seen := make(map[string]int)
	for _, child := range n.children {
		if n.kind == mapping {
			if line, twice := seen[child.key]; twice {
				r.refuse(child, "there already, on line %d", line)
			}
			seen[child.key] = child.line
		}
		r.duplicates(child)
	}
}

// keys says which keys a mapping has: those that are read, those that are
// ignored because they mean something to others alone, and those that are
// refused, with what to do instead, because ignoring them would not do what
// the file says.
type keys struct {
	read    []string
	ignored []string
	refused map[string]string
}

// mapping returns the values of n that are to be read, null ones left out,
// and refuses unknown keys.
func (r *reader) mapping(n *node, k keys) []*node {
	var values []*node
	for _, child := range r.members(n) {
		advice, refused := k.refused[child.key]
		switch {
		case child.kind == null || slices.Contains(k.ignored, child.key):
		case refused:
			r.refuse(child, "%s", advice)
		case slices.Contains(k.read, child.key):
			values = append(values, child)
		default:
			r.refuse(child, "unknown key%s", didYouMean(child.key, k.read))
		}
	}
	return values
}

// members returns the values of a mapping whose keys are free.
func (r *reader) members(n *node) []*node {
	if n.kind != mapping && n.kind != null {
		r.refuse(n, "want a mapping of names to values")
		return nil
	}
	return n.children
}

// text returns a scalar with its ${…} replaced, but for what is from outside of
// the file. Numbers and booleans are the text they are written as: env: {PORT:
// 8080} is what people write.
func (r *reader) text(n *node) string {
	if n.kind != scalar {
		r.refuse(n, "want a string")
		return ""
	}
	if n.outside != "" {
		return n.text
	}
	text, errs := expand(n.text)
	for _, err := range errs {
		r.refuse(n, "%w", err)
	}
	return text
}

// texts returns a list of scalars, nil if it is empty.
func (r *reader) texts(n *node) []string {
	if n.kind != list {
		r.refuse(n, "want a list of strings")
		return nil
	}
	var texts []string
	for _, child := range n.children {
		texts = append(texts, r.text(child))
	}
	return texts
}

// elements returns the elements of a list.
func (r *reader) elements(n *node) []*node {
	if n.kind != list {
		r.refuse(n, "want a list")
		return nil
	}
	return n.children
}

// value returns a scalar as a value of a JSON type: string, integer, number or
// boolean; "" is string.
func (r *reader) value(n *node, kind string) any {
	switch kind {
	case "boolean":
		return r.truth(n)
	case "integer", "number":
		text := r.text(n)
		if !json.Valid([]byte(text)) || strings.ContainsAny(text, `"{[tfn`) {
			r.refuse(n, "want a number")
			return nil
		}
		return json.Number(text)
	}
	return r.text(n)
}

// truth returns a boolean.
func (r *reader) truth(n *node) bool {
	before := len(r.errs)
	value, err := strconv.ParseBool(r.text(n))
	if err != nil && len(r.errs) == before {
		r.refuse(n, "want true or false")
	}
	return value
}
