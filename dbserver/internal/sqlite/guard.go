package sqlite

import (
	"fmt"

	"modernc.org/sqlite"
)

// A guard is SQLite's authorizer for one statement: it allows reading, denies
// all else, and remembers what it denied first. The zero guard is ready.
//
// It decides while a statement is compiled, before anything of it runs, and
// from what SQLite found the statement to do, so comments, CTEs or quoting do
// not get around it.
type guard struct {
	denied     bool
	action     sqlite.AuthorizerActionCode
	arg1, arg2 string
}

// authorize is the callback. Its arguments are those of
// https://www.sqlite.org/c3ref/c_alter_table.html.
func (g *guard) authorize(action sqlite.AuthorizerActionCode, arg1, arg2, _, _ string) sqlite.AuthorizerReturnCode {
	switch action {
	case sqlite.AuthSelect, sqlite.AuthRead, sqlite.AuthRecursive:
		return sqlite.AuthorizerOK
	case sqlite.AuthFunction:
		if !deniedFunctions[arg2] {
			return sqlite.AuthorizerOK
		}
	case sqlite.AuthPragma:
		if takes, ok := allowedPragmas[arg1]; ok && (takes || arg2 == "") {
			return sqlite.AuthorizerOK
		}
	}
	if !g.denied {
		*g = guard{denied: true, action: action, arg1: arg1, arg2: arg2}
	}
	return sqlite.AuthorizerDeny
}

// deniedFunctions are those of SQLite's functions that do more than compute
// from their arguments, and makers of large values that nobody reads for. A
// list of what is denied is enough here, because the set of functions is
// fixed: the driver is our own, and extensions cannot be loaded.
var deniedFunctions = map[string]bool{
	"edit":           true,
	"fts3_tokenizer": true,
	"load_extension": true,
	"randomblob":     true,
	"readfile":       true,
	"writefile":      true,
	"zeroblob":       true,
}

// allowedPragmas are those that only tell, and whether they take an argument.
// One without must not be of the kind that sets something: SQLite reports
// PRAGMA x=” as it does PRAGMA x.
var allowedPragmas = map[string]bool{
	"collation_list":   false,
	"compile_options":  false,
	"data_version":     false,
	"foreign_key_list": true,
	"freelist_count":   false,
	"function_list":    false,
	"index_info":       true,
	"index_list":       true,
	"index_xinfo":      true,
	"module_list":      false,
	"page_count":       false,
	"pragma_list":      false,
	"table_info":       true,
	"table_list":       true,
	"table_xinfo":      true,
}

// String says what was denied.
func (g *guard) String() string {
	switch g.action {
	case sqlite.AuthFunction:
		return fmt.Sprintf("the function %s()", g.arg2)
	case sqlite.AuthPragma:
		if g.arg2 != "" {
			return fmt.Sprintf("PRAGMA %s with the value %q", g.arg1, g.arg2)
		}
		return "PRAGMA " + g.arg1
	case sqlite.AuthInsert, sqlite.AuthUpdate, sqlite.AuthDelete:
		switch g.arg1 {
		case "sqlite_master", "sqlite_temp_master":
			return "a change of the schema"
		}
		return actions[g.action] + " " + g.arg1
	}
	if name, ok := actions[g.action]; ok {
		return name
	}
	return "a change of the schema"
}

var actions = map[sqlite.AuthorizerActionCode]string{
	sqlite.AuthInsert:      "INSERT INTO",
	sqlite.AuthUpdate:      "UPDATE",
	sqlite.AuthDelete:      "DELETE FROM",
	sqlite.AuthTransaction: "a transaction statement",
	sqlite.AuthSavepoint:   "SAVEPOINT",
	sqlite.AuthAttach:      "ATTACH",
	sqlite.AuthDetach:      "DETACH",
	sqlite.AuthReindex:     "REINDEX",
	sqlite.AuthAnalyze:     "ANALYZE",
}
