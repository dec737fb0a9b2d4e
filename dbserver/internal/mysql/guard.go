package mysql

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/pingcap/tidb/pkg/parser"
	"github.com/pingcap/tidb/pkg/parser/ast"
	parsermode "github.com/pingcap/tidb/pkg/parser/mysql"
	"github.com/pingcap/tidb/pkg/parser/test_driver" // the parser's own values, without TiDB

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/sqltext"
)

// maxSQL is how long a statement may be, in bytes.
const maxSQL = 256 << 10

// A statement is one that the guard has understood.
type statement struct {
	sql    string // what is sent: without comments, at the same positions
	node   ast.StmtNode
	tables []engine.Name // that it names, CTEs among them
	params int           // placeholders
}

// parsers are those of the guard; one is for one goroutine at a time.
var parsers = sync.Pool{New: func() any {
	p := parser.New()
	mode, err := parsermode.GetSQLMode(sqlMode)
	if err != nil {
		panic(err) // it is a constant
	}
	p.SetSQLMode(mode)
	return p
}}

// parse returns the one statement that a text has.
func parse(sql string) (*statement, error) {
	plain, err := uncomment(sql)
	if err != nil {
		return nil, err
	}
	first, only := sqltext.MySQL.Statement(plain)
	switch {
	case !only:
		return nil, &engine.Error{Code: engine.MultiStatement, Layer: engine.LayerGuard,
			Message: "the text has more than one statement", Next: "send one statement a call"}
	case first == "":
		return nil, &engine.Error{Code: engine.SyntaxError, Layer: engine.LayerInput,
			Message: "the text has no statement", Next: "send one SELECT"}
	}
	p := parsers.Get().(*parser.Parser)
	s := &statement{sql: first}
	count := 0
	var parseErr error
	err = safely(func() {
		var nodes []ast.StmtNode // of the parser, which puts the next one's in their place
		if nodes, _, parseErr = p.ParseSQL(first); len(nodes) > 0 {
			s.node, count = nodes[0], len(nodes)
		}
	})
	if err != nil {
		return nil, err // and p is not used again
	}
	parsers.Put(p)
	if parseErr != nil {
		return nil, notUnderstood(first, parseErr)
	}
	if count != 1 {
		return nil, &engine.Error{Code: engine.MultiStatement, Layer: engine.LayerGuard,
			Message: "the text has more than one statement", Next: "send one statement a call"}
	}
	return s, nil
}

// safely runs code of the parser's on what a stranger wrote: where it panics the
// statement is refused.
func safely(fn func()) (err error) {
	defer func() {
		if recover() != nil {
			err = refused("syntax that the parser fails on")
		}
	}()
	fn()
	return nil
}

// uncomment returns a text with spaces in place of comments, so that nothing in
// one can be a statement to the server and none to the parser, or the other way
// round: /*!, /*M!, /*T! and /*+ are such.
func uncomment(sql string) (string, error) {
	if len(sql) > maxSQL {
		return "", engine.Invalid("the statement has %d bytes, at most %d are possible", len(sql), maxSQL)
	}
	if !utf8.ValidString(sql) {
		return "", engine.Invalid("the statement is not valid UTF-8")
	}
	plain := []byte(sql)
	for i := 0; i < len(sql); {
		kind, next := sqltext.MySQL.Next(sql, i)
		switch token := sql[i:next]; kind {
		case sqltext.Executable:
			return "", refused("a comment that is executed, %s", strings.TrimSpace(token[:min(len(token), 4)]))
		case sqltext.Comment:
			if strings.HasPrefix(token, "/*+") || strings.HasPrefix(token, "/*T!") {
				return "", refused("a hint, %s", token[:3])
			}
			for n := i; n < next; n++ {
				if plain[n] != '\n' {
					plain[n] = ' '
				}
			}
		case sqltext.String, sqltext.Quoted, sqltext.Space:
		default:
			if strings.IndexFunc(token, unicode.IsControl) >= 0 {
				return "", engine.Invalid("the statement has control characters outside of texts")
			}
		}
		i = next
	}
	return string(plain), nil
}

// refused is the error about a statement that would do more than read.
func refused(format string, args ...any) *engine.Error {
	return &engine.Error{Code: engine.ReadOnly, Layer: engine.LayerGuard,
		Message: "the database is read-only, and the statement has " + fmt.Sprintf(format, args...),
		Next:    "send one SELECT (also WITH, VALUES, TABLE, SHOW, EXPLAIN) that only reads"}
}

// writes are the first words of the statements that do more than read
// (https://dev.mysql.com/doc/refman/8.4/en/sql-statements.html,
// https://mariadb.com/kb/en/sql-statements/). What starts with another one, or
// with none, is a mistake.
var writes = func() map[string]bool {
	m := map[string]bool{}
	for word := range strings.FieldsSeq(`ALTER ANALYZE BACKUP BEGIN BINLOG CACHE CALL CHANGE CHECK CHECKSUM CLONE COMMIT CREATE
		DEALLOCATE DECLARE DELETE DO DROP EXECUTE FLUSH GET GRANT HANDLER HELP IMPORT INSERT INSTALL KILL LOAD LOCK OPTIMIZE PREPARE
		PURGE RELEASE RENAME REPAIR REPLACE RESET RESIGNAL RESTART REVOKE ROLLBACK SAVEPOINT SET SHUTDOWN SIGNAL START STOP
		TRUNCATE UNINSTALL UNLOCK UPDATE USE XA`) {
		m[word] = true
	}
	return m
}()

// parserNear is where the parser stopped; its column is that of the end of a
// token.
var parserNear = regexp.MustCompile(`(?s)^line (\d+) column \d+ near "(.*)"`)

// notUnderstood is the error about a statement that the parser has refused. The
// server has not seen it.
func notUnderstood(sql string, err error) error {
	if word := sqltext.MySQL.Keyword(sql); writes[word] {
		return refused("%s", word)
	}
	for i := 0; i < len(sql); {
		kind, next := sqltext.MySQL.Next(sql, i)
		if kind == sqltext.Word && strings.EqualFold(sql[i:next], "INTO") {
			return refused("INTO")
		}
		i = next
	}
	message := strings.TrimSpace(err.Error())
	e := &engine.Error{Code: engine.SyntaxError, Layer: engine.LayerGuard,
		Message: "the statement is not understood: " + cutMessage(message),
		Next:    "correct the statement, or say it in plainer SQL: what is not understood cannot be shown to only read"}
	if m := parserNear.FindStringSubmatch(message); m != nil {
		line, _ := strconv.Atoi(m[1])
		e.Position = near(sql, line, m[2])
	}
	return e
}

func orUnknown(word string) string {
	if word == "" {
		return "no word at its start"
	}
	return word
}

// cutMessage bounds a message, of which the parser's have the rest of the
// statement.
func cutMessage(s string) string {
	const most = 300
	if len(s) <= most {
		return s
	}
	for most := most; ; most-- {
		if utf8.RuneStart(s[most]) {
			return s[:most] + "…"
		}
	}
}

// read returns the statement of a text, if it only reads.
func (d *Database) read(sql string) (*statement, error) {
	s, err := parse(sql)
	if err != nil {
		return nil, err
	}
	g := &guard{functions: d.options.Policy.Functions}
	switch n := s.node.(type) {
	case *ast.SelectStmt, *ast.SetOprStmt:
	case *ast.ShowStmt:
		g.show(n)
	case *ast.ExplainStmt:
		g.explain(n)
	default:
		return nil, refused("%s", orUnknown(sqltext.MySQL.Keyword(s.sql)))
	}
	return s, g.check(s)
}

// A guard looks at all that a statement consists of, and remembers what it
// found first that is not allowed.
type guard struct {
	functions []string // allowed besides those of the list
	writes    bool     // the statement may write
	tables    []engine.Name
	params    int
	err       error
}

// check walks a statement.
func (g *guard) check(s *statement) error {
	if err := safely(func() { s.node.Accept(g) }); err != nil {
		return err
	}
	s.tables, s.params = g.tables, g.params
	return g.err
}

func (g *guard) deny(err error) {
	if g.err == nil {
		g.err = err
	}
}

// Leave goes on until something is refused.
func (g *guard) Leave(n ast.Node) (ast.Node, bool) { return n, g.err == nil }

// Enter is called for each node. What is not in its list is refused.
func (g *guard) Enter(n ast.Node) (_ ast.Node, skipChildren bool) {
	switch n := n.(type) {
	case *ast.SelectStmt:
		g.selects(n)
	case *ast.FuncCallExpr:
		g.function(n)
	case *ast.AggregateFuncExpr:
		if strings.HasPrefix(strings.ToLower(n.F), "approx_") { // of TiDB: to the servers it would be a stored function
			g.deny(functionDenied(n.F))
		}
	case *ast.VariableExpr:
		if n.Value != nil {
			g.deny(refused("an assignment to the variable @%s", n.Name))
		}
	case *ast.TableName:
		if n.TableSample != nil || n.AsOf != nil {
			g.deny(refused("syntax that neither MySQL nor MariaDB has"))
		}
		g.tables = append(g.tables, engine.Name{Schema: n.Schema.O, Table: n.Name.O})
	case *test_driver.ParamMarkerExpr:
		g.params++
	case *ast.ShowStmt, *ast.ExplainStmt, // which were looked at before
		*ast.SetOprStmt, *ast.SetOprSelectList, *ast.WithClause, *ast.CommonTableExpression,
		*ast.FieldList, *ast.SelectField, *ast.WildCardField, *ast.TableRefsClause, *ast.Join, *ast.TableSource, *ast.OnCondition,
		*ast.GroupByClause, *ast.HavingClause, *ast.OrderByClause, *ast.ByItem, *ast.Limit,
		*ast.WindowSpec, *ast.PartitionByClause, *ast.FrameClause, *ast.FrameBound,
		*ast.ColumnName, *ast.ColumnNameExpr, *ast.DefaultExpr, *ast.ValuesExpr, *test_driver.ValueExpr,
		*ast.BetweenExpr, *ast.BinaryOperationExpr, *ast.UnaryOperationExpr, *ast.ParenthesesExpr, *ast.RowExpr,
		*ast.CaseExpr, *ast.WhenClause, *ast.SubqueryExpr, *ast.CompareSubqueryExpr, *ast.ExistsSubqueryExpr,
		*ast.PatternInExpr, *ast.PatternLikeOrIlikeExpr, *ast.PatternRegexpExpr, *ast.IsNullExpr, *ast.IsTruthExpr,
		*ast.PositionExpr, *ast.MatchAgainst, *ast.SetCollationExpr, *ast.MaxValueExpr,
		*ast.FuncCastExpr, *ast.WindowFuncExpr,
		*ast.TrimDirectionExpr, *ast.TimeUnitExpr, *ast.GetFormatSelectorExpr:
	case *ast.InsertStmt, *ast.UpdateStmt, *ast.DeleteStmt, *ast.Assignment, *ast.DeleteTableList,
		*ast.CreateTableStmt, *ast.AlterTableStmt, *ast.DropTableStmt, *ast.RenameTableStmt, *ast.TruncateTableStmt,
		*ast.CreateIndexStmt, *ast.DropIndexStmt, *ast.CreateViewStmt, *ast.ColumnDef, *ast.ColumnOption, *ast.ColumnPosition,
		*ast.Constraint, *ast.ReferenceDef, *ast.OnDeleteOpt, *ast.OnUpdateOpt, *ast.IndexPartSpecification, *ast.IndexOption,
		*ast.IndexLockAndAlgorithm, *ast.AlterTableSpec, *ast.TableToTable, *ast.TableOption:
		if !g.writes {
			g.deny(refused("a part that writes"))
		}
	default:
		g.deny(refused("syntax that is not known to only read (%s)", strings.TrimPrefix(fmt.Sprintf("%T", n), "*ast.")))
	}
	return n, g.err != nil
}

func (g *guard) selects(n *ast.SelectStmt) {
	switch {
	case n.SelectIntoOpt != nil:
		g.deny(refused("INTO"))
	case n.LockInfo != nil && n.LockInfo.LockType != ast.SelectLockNone:
		g.deny(refused("a lock (FOR UPDATE, FOR SHARE or LOCK IN SHARE MODE)"))
	case len(n.TableHints) > 0:
		g.deny(refused("a hint"))
	}
}

func (g *guard) function(n *ast.FuncCallExpr) {
	name := n.FnName.L
	if n.Schema.L != "" {
		name = n.Schema.L + "." + name
	} else if isFunction(name) && (name != ast.LastInsertId || len(n.Args) == 0) {
		return // LAST_INSERT_ID(n) sets what the next LAST_INSERT_ID() returns
	}
	for _, allowed := range g.functions {
		if engine.Like(allowed, name) {
			return
		}
	}
	g.deny(functionDenied(strings.TrimSuffix(name, "_func")))
}

func functionDenied(name string) error {
	return &engine.Error{Code: engine.FunctionDenied, Layer: engine.LayerGuard,
		Message: fmt.Sprintf("the function %s() is not allowed", name), Next: "leave it out of the statement"}
}

// shows are what SHOW may show. Other sessions, accounts, replication and what
// the session before left are not in it.
var shows = map[ast.ShowStmtType]bool{
	ast.ShowEngines: true, ast.ShowDatabases: true, ast.ShowTables: true, ast.ShowTableStatus: true, ast.ShowColumns: true,
	ast.ShowCharset: true, ast.ShowVariables: true, ast.ShowStatus: true, ast.ShowCollation: true, ast.ShowCreateTable: true,
	ast.ShowCreateView: true, ast.ShowCreateDatabase: true, ast.ShowIndex: true, ast.ShowTriggers: true,
	ast.ShowProcedureStatus: true, ast.ShowFunctionStatus: true, ast.ShowEvents: true, ast.ShowPlugins: true,
}

func (g *guard) show(n *ast.ShowStmt) {
	if !shows[n.Tp] {
		g.deny(&engine.Error{Code: engine.ReadOnly, Layer: engine.LayerGuard,
			Message: "that kind of SHOW is not allowed", Next: "SHOW TABLES, COLUMNS, INDEX, CREATE TABLE, VARIABLES and STATUS are"})
	}
}

// explain lets the plan of a reading statement be told, which does not run then.
func (g *guard) explain(n *ast.ExplainStmt) {
	switch inner := n.Stmt.(type) {
	case *ast.SelectStmt, *ast.SetOprStmt:
	case *ast.ShowStmt: // DESCRIBE of a table
		g.show(inner)
	default:
		g.deny(refused("EXPLAIN of a statement that is no SELECT"))
	}
	if n.Analyze || n.Explore || n.PlanDigest != "" || n.SQLDigest != "" {
		g.deny(refused("EXPLAIN ANALYZE, which runs the statement"))
	}
}
