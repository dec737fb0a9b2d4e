package sqlserver

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/sqltext"
)

// A token is a token of a statement, without space and comments.
type token struct {
	kind  sqltext.Kind
	text  string
	word  string // in upper case; empty for what is no word
	depth int    // of parentheses around it
}

// A statement is a text taken apart.
type statement struct {
	sql    string // without what follows its last token
	tokens []token
}

// scan takes a text apart that is to have one statement with so many params.
// What this lexer might read in another way than the server is refused.
func scan(sql string, params int) (*statement, error) {
	first, only := sqltext.SQLServer.Statement(sql)
	if !only {
		return nil, &engine.Error{Code: engine.MultiStatement, Layer: engine.LayerGuard,
			Message: "the text has more than one statement", Next: "send one statement a call"}
	}
	s := &statement{sql: first}
	used := make([]bool, params)
	depth := 0
	for i := 0; i < len(first); {
		kind, next := sqltext.SQLServer.Next(first, i)
		t := token{kind: kind, text: first[i:next], depth: depth}
		if err := unambiguous(t, first[next:]); err != nil {
			return nil, err
		}
		i = next
		switch {
		case kind == sqltext.Space || kind == sqltext.Comment || kind == sqltext.Semicolon:
			continue
		case kind == sqltext.Word:
			t.word = strings.ToUpper(t.text)
		case kind == sqltext.Param:
			n, err := strconv.Atoi(t.text[min(len("@p"), len(t.text)):])
			if err != nil || !strings.EqualFold(t.text[:len("@p")], "@p") || n < 1 || n > params || t.text[len("@p")] == '0' {
				return nil, engine.Invalid("%s in the statement is none of its %d params, which are @p1, @p2 and so on", t.text, params)
			}
			used[n-1] = true
		case t.text == "(":
			depth++
		case t.text == ")":
			depth--
			t.depth = depth
		}
		s.tokens = append(s.tokens, t)
	}
	if len(s.tokens) == 0 {
		return nil, &engine.Error{Code: engine.SyntaxError, Layer: engine.LayerInput,
			Message: "the text has no statement", Next: "send one SELECT"}
	}
	for i, ok := range used {
		if !ok {
			return nil, engine.Invalid("params/%d: the statement has no @p%d", i, i+1)
		}
	}
	return s, nil
}

// numeral is a number that ends where it seems to: SQL Server also reads
// 1INTO as 1 and INTO, 0xINTO as 0x and INTO.
var numeral = regexp.MustCompile(`^(0[xX][0-9A-Fa-f]*|[0-9]*\.?[0-9]*([eE][0-9]+)?)$`)

// dollar is a word that begins with a dollar and is one: $INTO is money, and INTO.
var dollar = regexp.MustCompile(`^\$([0-9]*|(?i:action|identity|rowguid|partition|node_id|edge_id|from_id|to_id))$`)

// unambiguous refuses a token that the server may read in another way.
func unambiguous(t token, rest string) error {
	doubtful := func(what string) error {
		return &engine.Error{Code: engine.SyntaxError, Layer: engine.LayerGuard, Message: what, Next: "write the statement without it"}
	}
	for i, r := range t.text {
		switch {
		case r == '\t' || r == '\n' || t.kind == sqltext.String || t.kind == sqltext.Quoted:
		case r == '\r':
			// Whether one alone ends a comment is not documented.
			if t.kind == sqltext.Comment && !strings.HasPrefix(t.text[i:], "\r\n") {
				return doubtful("a comment has a carriage return without a line feed")
			}
		case r < ' ' || r == 0x7f || r == unicode.ReplacementChar, r == 0x85 || r == 0x2028 || r == 0x2029:
			return doubtful(fmt.Sprintf("the statement has the character %U", r))
		case t.kind == sqltext.Comment:
		case r >= 0x80 && !unicode.In(r, unicode.L, unicode.M, unicode.Nd), 0xff00 <= r && r <= 0xffef:
			return doubtful(fmt.Sprintf("the statement has the character %U outside of quotes", r))
		}
	}
	switch t.kind {
	case sqltext.Number:
		signed := len(t.text) > 1 && (strings.HasPrefix(rest, "+") || strings.HasPrefix(rest, "-"))
		if signed && numeral.MatchString(strings.TrimRight(t.text, "eE")) || numeral.MatchString(t.text) {
			return nil
		}
		return doubtful(fmt.Sprintf("%s is no number", t.text))
	case sqltext.Word:
		if t.text[0] == '$' && !dollar.MatchString(t.text) {
			return doubtful(fmt.Sprintf("%s is no word", t.text))
		}
	}
	return nil
}

// forbidden are words that no statement has that only reads, and that a name has
// only in quotes. OPEN… and READTEXT read what is not in the database.
var forbidden = wordSet(`
	ALTER BACKUP BEGIN BREAK BULK CHECKPOINT CLOSE COMMIT CONTINUE CREATE CURSOR DBCC DEALLOCATE DECLARE DELETE DENY DISK DROP
	DUMP EXEC EXECUTE GO GOTO GRANT IF INSERT INTO KILL LINENO LOAD OPEN OPENDATASOURCE OPENQUERY OPENROWSET OPENXML PRINT PROC
	PROCEDURE RAISERROR READTEXT RECONFIGURE RESTORE RETURN REVERT REVOKE ROLLBACK SAVE SET SETUSER SHUTDOWN THROW TRAN
	TRANSACTION TRIGGER TRUNCATE UPDATE UPDATETEXT USE WAITFOR WHILE WRITETEXT
	TABLOCKX UPDLOCK XLOCK`)

// forbiddenWriting are those of them that no statement has that changes rows or
// the schema, which runs in a transaction of ours.
var forbiddenWriting = wordSet(`
	BACKUP BEGIN BREAK BULK CHECKPOINT CLOSE COMMIT CONTINUE CURSOR DBCC DEALLOCATE DECLARE DENY DISK DUMP EXEC EXECUTE GO GOTO
	GRANT IF KILL LINENO LOAD OPEN OPENDATASOURCE OPENQUERY OPENROWSET OPENXML PRINT PROC PROCEDURE RAISERROR READTEXT
	RECONFIGURE RESTORE RETURN REVERT REVOKE ROLLBACK SAVE SETUSER SHUTDOWN THROW TRAN TRANSACTION TRIGGER UPDATETEXT USE
	WAITFOR WHILE WRITETEXT`)

// hiding are words of statements whose plans do not name all columns that they
// read.
var hiding = wordSet(`CHANGETABLE CONTAINS CONTAINSTABLE FREETEXT FREETEXTTABLE RECOMPILE
	SEMANTICKEYPHRASETABLE SEMANTICSIMILARITYDETAILSTABLE SEMANTICSIMILARITYTABLE SYSTEM_TIME`)

// forbiddenNames are functions and views of the system, in quotes or not, that
// read files or the log, or values around the permissions on columns.
var forbiddenNames = wordSet(`
	DM_DB_STATS_HISTOGRAM DM_OS_ENUMERATE_FILESYSTEM DM_OS_FILE_EXISTS DM_EXEC_INPUT_BUFFER FN_DBLOG FN_DUMP_DBLOG
	FN_FULL_DBLOG FN_GET_AUDIT_FILE FN_TRACE_GETTABLE FN_TRACE_GETINFO FN_XE_FILE_TARGET_READ_FILE
	FN_XE_TELEMETRY_BLOB_TARGET_READ_FILE DM_XE_SESSION_TARGETS SYSCACHEOBJECTS`)

func wordSet(words string) map[string]bool {
	set := map[string]bool{}
	for _, w := range strings.Fields(words) {
		set[w] = true
	}
	return set
}

// reads refuses a statement whose words say that it does more than read.
func (s *statement) reads(policy *engine.Policy) error {
	switch word := sqltext.SQLServer.Keyword(s.sql); word {
	case "SELECT", "WITH":
	default:
		return readOnly(fmt.Sprintf("the statement begins with %s", s.beginning(word)))
	}
	for i, t := range s.tokens {
		switch {
		case forbidden[t.word]:
			return readOnly(fmt.Sprintf("the statement has the word %s", t.text))
		case t.word == "MERGE" && !s.follows(i, "JOIN") && !s.follows(i, "UNION"): // which are hints
			return readOnly("the statement has the word MERGE")
		case t.word == "NEXT" && s.follows(i, "VALUE"):
			return readOnly("NEXT VALUE FOR advances a sequence")
		case policy.Masking() && hiding[t.word]:
			return &engine.Error{Code: engine.ColumnMasked, Layer: engine.LayerPolicy,
				Message: fmt.Sprintf("columns of this database are masked, and which %s reads cannot be told", t.text),
				Next:    "write the statement without it"}
		}
	}
	return s.names(policy)
}

func (s *statement) beginning(word string) string {
	if word == "" {
		return "no word"
	}
	return word
}

// follows reports whether a word stands behind a token.
func (s *statement) follows(i int, word string) bool {
	return i+1 < len(s.tokens) && s.tokens[i+1].word == word
}

// names refuses a statement that names what may not be read. The names of
// tables that are denied are looked for in the plan, too; here those of views
// and synonyms are, which are not in it.
func (s *statement) names(policy *engine.Policy) error {
	denied := engine.Policy{DenyTables: policy.DenyTables}
	for _, n := range s.chains() {
		if forbiddenNames[strings.ToUpper(n.Table)] {
			return &engine.Error{Code: engine.FunctionDenied, Layer: engine.LayerGuard,
				Message: fmt.Sprintf("%s is not allowed", n.Table), Next: "leave it out of the statement"}
		}
		if !denied.Readable(n) {
			return deniedTable(n)
		}
	}
	return nil
}

// chains returns the names of a statement, each with the one before it and a
// dot as its schema.
func (s *statement) chains() []engine.Name {
	var list []engine.Name
	for i, t := range s.tokens {
		if t.kind != sqltext.Word && t.kind != sqltext.Quoted {
			continue
		}
		n := engine.Name{Table: unquote(t)}
		if i >= 2 && s.tokens[i-1].text == "." && (s.tokens[i-2].kind == sqltext.Word || s.tokens[i-2].kind == sqltext.Quoted) {
			n.Schema = unquote(s.tokens[i-2])
		}
		list = append(list, n)
	}
	return list
}

func unquote(t token) string {
	if t.kind != sqltext.Quoted || len(t.text) < 2 {
		return t.text
	}
	closing := t.text[len(t.text)-1:]
	return strings.ReplaceAll(t.text[1:len(t.text)-1], closing+closing, closing)
}

func readOnly(why string) *engine.Error {
	return &engine.Error{Code: engine.ReadOnly, Layer: engine.LayerGuard,
		Message: "the database is read-only: " + why, Next: "send one SELECT (also WITH … SELECT) that only reads; put names that are words of SQL in brackets"}
}

func deniedTable(n engine.Name) *engine.Error {
	return &engine.Error{Code: engine.AccessDenied, Layer: engine.LayerPolicy,
		Message: fmt.Sprintf("%s may not be read here", n), Next: "call list_tables for what may be read"}
}
