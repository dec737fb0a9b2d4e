package sqlite

import (
	"strings"

	"github.com/mcpool-dev/mcpool/dbserver/internal/sqltext"
)

// checks are the expressions of the CHECK constraints of a CREATE TABLE
// statement, in their order.
func checks(create string) []string {
	var list []string
	depth, start, inside := 0, 0, 0 // inside is the depth of the expression that starts at start
	wanted := false                 // the last word was CHECK
	for i := 0; i < len(create); {
		kind, next := sqltext.SQLite.Next(create, i)
		token := create[i:next]
		switch {
		case kind == sqltext.Space || kind == sqltext.Comment:
		case token == "(":
			if depth++; wanted && inside == 0 {
				start, inside = next, depth
			}
			wanted = false
		case token == ")":
			if depth == inside && inside > 0 {
				list = append(list, strings.TrimSpace(create[start:i]))
				inside = 0
			}
			depth--
		default:
			wanted = kind == sqltext.Word && strings.EqualFold(token, "CHECK")
		}
		i = next
	}
	return list
}
