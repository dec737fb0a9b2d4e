package config

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
)

// maxFile bounds a file, in bytes: far above any use, and small enough that a
// wrong path cannot exhaust memory.
const maxFile = 1 << 20

// maxDepth bounds how deep values nest. The deepest key that means something
// is four deep; keys that are ignored may go deeper.
const maxDepth = 64

// kind is what a node is.
type kind int

const (
	null kind = iota
	scalar
	list
	mapping
)

// A node is one value of a file, be it JSON or YAML.
type node struct {
	kind     kind
	text     string  // of a scalar: a string's content, a number as it is written
	children []*node // elements of a list, or values of a mapping, in order
	line     int
	outside  string // what has set it, where that is not the file

	parent *node
	key    string // the name in the parent, if that is a mapping
	index  int    // among the parent's children
}

// add puts child into n, under key if n is a mapping.
func (n *node) add(key string, child *node) {
	child.parent, child.key, child.index = n, key, len(n.children)
	n.children = append(n.children, child)
}

// get returns the value of that key in a mapping, or nil.
func (n *node) get(key string) *node {
	for _, child := range n.children {
		if child.key == key {
			return child
		}
	}
	return nil
}

// place says where n stands, as mcpServers.x.args[2].
func (n *node) place() string {
	switch {
	case n.parent == nil:
		return ""
	case n.parent.kind == list:
		return n.parent.place() + "[" + strconv.Itoa(n.index) + "]"
	}
	key := n.key
	if quoted := strconv.Quote(key); key == "" || len(quoted) != len(key)+2 || strings.ContainsAny(key, " .[]") {
		key = quoted
	}
	if n.parent.parent == nil {
		return key
	}
	return n.parent.place() + "." + key
}

// parse makes a tree of a file. The name decides what it is written in, or,
// where that says nothing, its first character.
func parse(data []byte, name string) (*node, error) {
	if len(data) > maxFile {
		return nil, fmt.Errorf("larger than %d KiB", maxFile>>10)
	}
	data = bytes.TrimPrefix(data, []byte("\uFEFF")) // written by some editors
	isJSON := bytes.HasPrefix(bytes.TrimSpace(data), []byte("{"))
	switch strings.ToLower(filepath.Ext(name)) {
	case ".json", ".jsonc":
		isJSON = true
	case ".yaml", ".yml":
		isJSON = false
	}
	if isJSON {
		return parseJSON(data)
	}
	return parseYAML(data)
}

var errDepth = fmt.Errorf("nested more than %d deep", maxDepth)

// lineError is an error at a line of a file, for want of a node.
type lineError struct {
	line int
	err  error
}

func (e *lineError) Error() string { return fmt.Sprintf("line %d: %v", e.line, e.err) }
func (e *lineError) Unwrap() error { return e.err }

func errorAt(line int, text string) error { return &lineError{line, errors.New(text)} }
