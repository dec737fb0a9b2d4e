package sqltext

import "strings"

// Fingerprint returns a statement without its values, comments and spacing:
// what statements of one form have in common, and nothing that may be private.
// Of a list of values one is left.
func (d Dialect) Fingerprint(sql string) string {
	var tokens []string
	glued := false // the last token is of an operator that can go on
	for i := 0; i < len(sql); {
		kind, next := d.Next(sql, i)
		token := sql[i:next]
		i = next
		switch kind {
		case Space, Comment:
			glued = false
			continue
		case String, Number, Param:
			token = "?"
			if n := len(tokens); n > 1 && tokens[n-1] == "," && tokens[n-2] == "?" {
				tokens = tokens[:n-1]
				continue
			}
		}
		operator := kind == Other && !strings.Contains("(),.", token)
		if operator && glued {
			tokens[len(tokens)-1] += token
			continue
		}
		tokens, glued = append(tokens, token), operator
	}
	return strings.Join(tokens, " ")
}
