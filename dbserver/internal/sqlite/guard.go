package sqlite

import (
	"fmt"
	"strings"

	"modernc.org/sqlite"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

// A guard is SQLite's authorizer on one connection: it allows reading, denies
// all else, and remembers what it denied first.
//
// It decides while a statement is compiled, before anything of it runs, and
// from what SQLite found the statement to do, so comments, CTEs or quoting do
// not get around it.
type guard struct {
	mode    mode
	writing bool   // of a connection of Write
	ddl     bool   // the statement may change the schema
	cover   *cover // what the policy hides, nil for nothing

	// Of the statement that was compiled last.
	denied *denial
	does   string                 // insert, update, delete or ddl; empty if it only reads
	shown  map[string]engine.With // masked columns that it names, in lower case
}

// A mode is whose statement is compiled.
type mode int

const (
	callers    mode = iota
	own             // a statement of our own, to which the policy does not apply
	connecting      // a statement that is not run, for what its compilation does
)

// reset forgets the last statement.
func (g *guard) reset() { g.denied, g.does, g.shown = nil, "", nil }

// A denial is what was denied.
type denial struct {
	code       string // of the error
	action     sqlite.AuthorizerActionCode
	arg1, arg2 string
	writing    bool
}

// authorize is the callback. Its arguments are those of
// https://www.sqlite.org/c3ref/c_alter_table.html; within is the innermost view
// or trigger, by the name that it is called by.
func (g *guard) authorize(action sqlite.AuthorizerActionCode, arg1, arg2, schema, within string) sqlite.AuthorizerReturnCode {
	if g.mode == connecting {
		return sqlite.AuthorizerOK
	}
	code := engine.ReadOnly
	switch action {
	case sqlite.AuthSelect, sqlite.AuthRecursive:
		return sqlite.AuthorizerOK
	case sqlite.AuthRead:
		if g.cover == nil || g.mode == own {
			return sqlite.AuthorizerOK
		}
		if code = g.readPolicy(arg1, arg2, schema, within); code == "" {
			return sqlite.AuthorizerOK
		}
	case sqlite.AuthFunction:
		if !deniedFunctions[strings.ToLower(arg2)] {
			return sqlite.AuthorizerOK
		}
		code = engine.FunctionDenied
	case sqlite.AuthPragma:
		takes, ok := allowedPragmas[arg1]
		ok = ok && (takes || arg2 == "")
		switch {
		case g.mode == own && arg1 == "schema_version" && arg2 == "", ok && g.tells(arg1, arg2):
			return sqlite.AuthorizerOK
		case ok:
			code = engine.AccessDenied
		}
	case sqlite.AuthTransaction:
		if g.mode == own {
			return sqlite.AuthorizerOK
		}
	default:
		// Also a COMMIT writes: what full-text indexes have gathered until then.
		if g.writing && g.writes(action, arg1, within) {
			return sqlite.AuthorizerOK
		}
		if g.cover != nil && g.writing && g.cover.hidden[strings.ToLower(arg1)] {
			code = engine.AccessDenied
		}
	}
	if g.denied == nil {
		g.denied = &denial{code: code, action: action, arg1: arg1, arg2: arg2, writing: g.writing}
	}
	return sqlite.AuthorizerDeny
}

// writes reports whether a change is one that Write allows: of rows, and, where
// the statement may, of the schema. Objects in temp would outlive the
// statement. Shadow tables, sqlite_dbpage and the text of the schema are kept
// from being written by the defensive mode.
func (g *guard) writes(action sqlite.AuthorizerActionCode, arg1, within string) bool {
	does := changes[action]
	table := strings.ToLower(arg1)
	switch {
	case does == "":
		return false
	case action == sqlite.AuthAlterTable && strings.EqualFold(arg1, "temp"), strings.HasPrefix(table, "sqlite_temp_"):
		// Renaming looks for the name in temporary objects, too; there are none.
		return g.ddl && action == sqlite.AuthUpdate
	case does != "ddl" && strings.HasPrefix(table, "sqlite_"):
		return g.ddl
	case does == "ddl" && !g.ddl:
		return false
	case g.cover != nil && (g.cover.hidden[table] || does == "ddl"):
		return false
	}
	if does == "ddl" || g.does == "" && within == "" {
		g.does = does
	}
	return true
}

// changes are actions that Write knows, and what a statement with them does.
var changes = map[sqlite.AuthorizerActionCode]string{
	sqlite.AuthInsert:        "insert",
	sqlite.AuthUpdate:        "update",
	sqlite.AuthDelete:        "delete",
	sqlite.AuthCreateIndex:   "ddl",
	sqlite.AuthCreateTable:   "ddl",
	sqlite.AuthCreateTrigger: "ddl",
	sqlite.AuthCreateView:    "ddl",
	sqlite.AuthCreateVTable:  "ddl",
	sqlite.AuthDropIndex:     "ddl",
	sqlite.AuthDropTable:     "ddl",
	sqlite.AuthDropTrigger:   "ddl",
	sqlite.AuthDropView:      "ddl",
	sqlite.AuthDropVTable:    "ddl",
	sqlite.AuthAlterTable:    "ddl",
	sqlite.AuthReindex:       "ddl",
	sqlite.AuthAnalyze:       "ddl",
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

// explain is what the caller is told.
func (d *denial) explain(engineCode string) *engine.Error {
	told := &engine.Error{Code: d.code, Layer: engine.LayerGuard, EngineCode: engineCode}
	switch d.code {
	case engine.FunctionDenied:
		told.Message, told.Next = fmt.Sprintf("%s is not allowed", d), "leave it out of the statement"
	case engine.AccessDenied:
		told.Layer, told.Message = engine.LayerPolicy, fmt.Sprintf("%s is not allowed by the server's policy", d)
		told.Next = "use the tables that list_tables lists, by their names alone"
	case engine.ColumnMasked:
		told = masked(fmt.Sprintf("%s is not possible, for the table has masked columns", d))
		told.EngineCode = engineCode
	default:
		told.Message = fmt.Sprintf("the database is read-only, and the statement asks for %s", d)
		told.Next = "send one SELECT (also WITH, VALUES, EXPLAIN) that only reads"
		if d.writing {
			told.Message = fmt.Sprintf("the statement asks for %s, which is not allowed", d)
			told.Next = "send one INSERT, UPDATE or DELETE"
		}
	}
	return told
}

// String says what was denied.
func (d *denial) String() string {
	switch d.action {
	case sqlite.AuthRead:
		if d.arg2 == "" {
			return "reading " + d.arg1
		}
		return "reading " + d.arg1 + "." + d.arg2
	case sqlite.AuthFunction:
		return fmt.Sprintf("the function %s()", d.arg2)
	case sqlite.AuthPragma:
		if d.arg2 != "" {
			return fmt.Sprintf("PRAGMA %s with the value %q", d.arg1, d.arg2)
		}
		return "PRAGMA " + d.arg1
	case sqlite.AuthInsert, sqlite.AuthUpdate, sqlite.AuthDelete:
		switch d.arg1 {
		case "sqlite_master", "sqlite_temp_master":
			return "a change of the schema"
		}
		return actions[d.action] + " " + d.arg1
	}
	if name, ok := actions[d.action]; ok {
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
