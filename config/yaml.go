package config

import (
	"errors"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// parseYAML makes a tree of one YAML document of plain mappings, lists and
// scalars. Anchors, aliases, merge keys and tags are refused: each would be a
// second way to write what a file says.
func parseYAML(data []byte) (*node, error) {
	tokens := lexer.Tokenize(string(data))
	if err := checkDepth(tokens); err != nil {
		return nil, err
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, yamlError(err)
	}
	root := &node{line: 1}
	found := false
	for _, doc := range file.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.DirectiveType {
			continue
		}
		if found {
			return nil, errorAt(lineOf(doc.Body), "a second YAML document: want one")
		}
		found = true
		if root, err = yamlNode(doc.Body, 0); err != nil {
			return nil, err
		}
	}
	return root, nil
}

// checkDepth refuses what would take the parser, which recurses, too deep:
// brackets, and indicators of blocks that nest on one line. Blocks that nest
// by indentation are bounded by the size of the file.
func checkDepth(tokens token.Tokens) error {
	brackets, indicators, line := 0, 0, 0
	for _, tk := range tokens {
		if tk.Position.Line != line {
			line, indicators = tk.Position.Line, 0
		}
		switch tk.Type {
		case token.SequenceStartType, token.MappingStartType:
			brackets++
		case token.SequenceEndType, token.MappingEndType:
			brackets--
		case token.SequenceEntryType, token.MappingKeyType:
			indicators++
		}
		if max(brackets, indicators) > maxDepth {
			return &lineError{line, errDepth}
		}
	}
	return nil
}

func yamlNode(value ast.Node, depth int) (*node, error) {
	n := &node{line: lineOf(value)}
	if depth > maxDepth {
		return nil, &lineError{n.line, errDepth}
	}
	switch value := value.(type) {
	case *ast.MappingNode:
		n.kind = mapping
		for _, member := range value.Values {
			key, err := yamlKey(member.Key)
			if err != nil {
				return nil, err
			}
			child, err := yamlNode(member.Value, depth+1)
			if err != nil {
				return nil, err
			}
			child.line = lineOf(member.Key)
			n.add(key, child)
		}
	case *ast.SequenceNode:
		n.kind = list
		for _, element := range value.Values {
			child, err := yamlNode(element, depth+1)
			if err != nil {
				return nil, err
			}
			n.add("", child)
		}
	case *ast.NullNode:
	case *ast.StringNode:
		n.kind, n.text = scalar, value.Value
	case *ast.LiteralNode:
		n.kind, n.text = scalar, value.Value.Value
	case *ast.BoolNode, *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		n.kind, n.text = scalar, value.GetToken().Value
	default:
		return nil, unsupported(value)
	}
	return n, nil
}

func yamlKey(key ast.MapKeyNode) (string, error) {
	switch key := key.(type) {
	case *ast.StringNode:
		return key.Value, nil
	case *ast.BoolNode, *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode, *ast.NullNode:
		return key.GetToken().Value, nil
	}
	return "", unsupported(key)
}

func unsupported(value ast.Node) error {
	what := "this kind of YAML value"
	switch value.(type) {
	case *ast.AnchorNode, *ast.AliasNode:
		what = "a YAML anchor or alias"
	case *ast.MergeKeyNode:
		what = "a YAML merge key"
	case *ast.TagNode:
		what = "a YAML tag"
	case *ast.MappingKeyNode:
		what = "a YAML key that is not plain"
	}
	return errorAt(lineOf(value), what+" is not supported: write the value itself")
}

func lineOf(value ast.Node) int {
	if tk := value.GetToken(); tk != nil && tk.Position != nil {
		return tk.Position.Line
	}
	return 0
}

// yamlError is a syntax error without the excerpt of the file that goccy/go-yaml
// puts into its text and which may hold a secret.
func yamlError(err error) error {
	var syntax yaml.Error
	if !errors.As(err, &syntax) {
		return errors.New("not YAML")
	}
	line := 0
	if tk := syntax.GetToken(); tk != nil && tk.Position != nil {
		line = tk.Position.Line
	}
	return errorAt(line, "not YAML: "+syntax.GetMessage())
}
