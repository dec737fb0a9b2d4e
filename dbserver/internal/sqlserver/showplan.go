package sqlserver

import (
	"cmp"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

// A plan is what a document of SET SHOWPLAN_XML says
// (http://schemas.microsoft.com/sqlserver/2004/07/showplan).
type plan struct {
	statements []planned
	objects    []object
	columns    []columnRef
	functions  []string // that someone wrote, as schema.name
	strange    string   // the first thing in it that no plan of ours may have; empty for none
	changing   string   // the first thing in it that plans of statements that write alone have
	root       *operator
	warnings   []string
}

// A planned is a statement of a plan.
type planned struct {
	element string // StmtSimple, StmtCond, …
	kind    string // SELECT, INSERT, …
	text    string
	cost    *float64
	rows    *float64
}

// An object is a table, index or function that a plan reads or changes.
type object struct {
	server, database, schema, table, index, indexKind string
	function                                          bool
}

// A columnRef is a mention of a column of a table.
type columnRef struct {
	server, database, schema, table, column string
}

// An operator is a step of a plan.
type operator struct {
	name, logical string
	rows, cost    float64
	object        string
	inputs        []*operator
}

// reading are the elements that the schema has for operators of plans that
// read tables of the server itself. Those that it has besides change
// something, read what is elsewhere, or belong to other products.
var reading = wordSet(`AdaptiveJoin Assert BatchHashTableBuild Bitmap Collapse ComputeScalar Concat ConstantScan Extension Filter
	Hash IndexScan Merge MergeInterval NestedLoops Parallelism ParameterTableScan RowCountSpool Segment Sequence SequenceProject
	Sort Split Spool StreamAggregate Switch TableScan TableValuedFunction Top TopSort WindowAggregate WindowSpool XcsScan`)

// changing are those that plans of statements that write have besides.
var changing = wordSet(`CreateIndex DeletedScan ForeignKeyReferencesCheck InsertedScan OnlineIndex ScalarInsert SimpleUpdate Update`)

// besides are the elements of an operator that are none.
var besides = wordSet(`OutputList Warnings MemoryFractions RunTimeInformation RunTimePartitionSummary InternalInfo`)

// errNoPlan says that a document is not what it should be. Nothing is run then.
var errNoPlan = errors.New("the server's plan is not one that is understood")

// parsePlan reads a document. A first statement that is our own declaration is
// left out.
func parsePlan(document, declaration string) (*plan, error) {
	p := &plan{}
	r := planReader{plan: p, declaration: declaration}
	decoder := xml.NewDecoder(strings.NewReader(document))
	decoder.CharsetReader = func(_ string, in io.Reader) (io.Reader, error) { return in, nil } // it says UTF-16, and the driver has decoded it
	for {
		t, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %v", errNoPlan, err)
		}
		switch t := t.(type) {
		case xml.StartElement:
			r.start(t)
		case xml.EndElement:
			r.end(t)
		}
	}
	if !r.rooted || len(p.statements) == 0 {
		return nil, fmt.Errorf("%w: it has no statement", errNoPlan)
	}
	return p, nil
}

// A planReader reads a plan, an element at a time.
type planReader struct {
	*plan
	declaration string
	rooted      bool
	path        []string
	operators   []*operator // those around
}

var statementPath = []string{"ShowPlanXML", "BatchSequence", "Batch", "Statements"}

func (r *planReader) start(e xml.StartElement) {
	name, parent := e.Name.Local, ""
	if len(r.path) > 0 {
		parent = r.path[len(r.path)-1]
	}
	attribute := map[string]string{}
	for _, a := range e.Attr {
		attribute[a.Name.Local] = a.Value
	}
	switch {
	case len(r.path) == 0:
		r.rooted = name == "ShowPlanXML"
	case parent == "Statements":
		r.statement(name, attribute)
	case parent == "RelOp" && besides[name]:
	case parent == "RelOp":
		r.step(name)
	}
	switch name {
	case "RelOp":
		r.operator(attribute)
	case "Object":
		r.object(parent, attribute)
	case "ColumnReference":
		r.column(attribute)
	case "UserDefinedFunction":
		r.function(attribute["FunctionName"])
	case "UDF", "StoredProc":
		r.function(attribute["ProcName"])
	case "UDAggObject":
		r.function(attribute["Schema"] + "." + attribute["Table"])
	case "CLRFunction":
		if parent != "UDTMethod" || bare(attribute["Assembly"]) != "Microsoft.SqlServer.Types" {
			r.function(bare(attribute["Class"]) + "." + bare(attribute["Method"]))
		}
	case "Sequence":
		if parent == "ScalarOperator" && r.changing == "" {
			r.changing = "a value drawn from a sequence"
		}
	case "MissingIndex", "NoJoinPredicate", "PlanAffectingConvert", "ColumnsWithNoStatistics", "Warnings":
		r.warning(name, attribute)
	}
	r.path = append(r.path, name)
}

func (r *planReader) end(e xml.EndElement) {
	r.path = r.path[:len(r.path)-1] // the decoder has checked that they match
	if e.Name.Local == "RelOp" {
		r.operators = r.operators[:len(r.operators)-1]
	}
}

func (r *planReader) step(name string) {
	switch {
	case reading[name]:
	case !changing[name]:
		r.strangeness("the operator " + name)
	case r.changing == "":
		r.changing = "the operator " + name
	}
}

func (r *planReader) strangeness(what string) {
	if r.strange == "" {
		r.strange = what
	}
}

func (r *planReader) statement(element string, attribute map[string]string) {
	if !slices.Equal(r.path, statementPath) {
		if !slices.Contains(r.path, "UDF") { // whose name has been kept
			r.strangeness("a statement within a statement")
		}
		return
	}
	if r.declaration != "" && len(r.statements) == 0 && strings.TrimSpace(attribute["StatementText"]) == r.declaration {
		r.declaration = ""
		return
	}
	r.statements = append(r.statements, planned{element: element, kind: attribute["StatementType"], text: attribute["StatementText"],
		cost: float(attribute["StatementSubTreeCost"]), rows: float(attribute["StatementEstRows"])})
}

func float(s string) *float64 {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return nil
	}
	return &v
}

func (r *planReader) operator(attribute map[string]string) {
	if attribute["RemoteDataAccess"] == "true" || attribute["RemoteDataAccess"] == "1" {
		r.strangeness("data of another server")
	}
	o := &operator{name: attribute["PhysicalOp"], logical: attribute["LogicalOp"]}
	if v := float(attribute["EstimateRows"]); v != nil {
		o.rows = *v
	}
	if v := float(attribute["EstimatedTotalSubtreeCost"]); v != nil {
		o.cost = *v
	}
	if len(r.operators) > 0 {
		above := r.operators[len(r.operators)-1]
		above.inputs = append(above.inputs, o)
	} else if r.root == nil {
		r.root = o
	}
	r.operators = append(r.operators, o)
}

func (r *planReader) object(parent string, attribute map[string]string) {
	o := object{server: bare(attribute["Server"]), database: bare(attribute["Database"]), schema: bare(attribute["Schema"]),
		table: bare(attribute["Table"]), index: bare(attribute["Index"]), indexKind: attribute["IndexKind"],
		function: parent == "TableValuedFunction"}
	r.objects = append(r.objects, o)
	if o.function && o.schema != "" && !strings.EqualFold(o.schema, "sys") {
		r.function(o.schema + "." + o.table)
	}
	if len(r.operators) > 0 {
		if at := r.operators[len(r.operators)-1]; at.object == "" {
			at.object = strings.TrimPrefix(o.schema+"."+o.table, ".")
			if o.index != "" {
				at.object += " (" + o.index + ")"
			}
		}
	}
}

func (r *planReader) column(attribute map[string]string) {
	if attribute["Table"] == "" {
		return // of an expression
	}
	r.columns = append(r.columns, columnRef{server: bare(attribute["Server"]), database: bare(attribute["Database"]),
		schema: bare(attribute["Schema"]), table: bare(attribute["Table"]), column: bare(attribute["Column"])})
}

// function keeps the last two parts of a function's name.
func (r *planReader) function(name string) {
	parts := splitName(name)
	name = strings.Join(parts[max(0, len(parts)-2):], ".")
	if !slices.Contains(r.functions, name) {
		r.functions = append(r.functions, name)
	}
}

func (r *planReader) warning(name string, attribute map[string]string) {
	said := ""
	switch {
	case name == "MissingIndex":
		said = fmt.Sprintf("an index of %s.%s would make it faster", bare(attribute["Schema"]), bare(attribute["Table"]))
	case name == "PlanAffectingConvert":
		said = "values are converted before they are compared, which no index can serve: " + attribute["Expression"]
	case name == "ColumnsWithNoStatistics":
		said = "there are no statistics of a column, so estimates may be wrong"
	case attribute["NoJoinPredicate"] == "true" || attribute["NoJoinPredicate"] == "1":
		said = "tables are joined without a condition: every row with every row"
	}
	if said != "" && !slices.Contains(r.warnings, said) {
		r.warnings = append(r.warnings, said)
	}
}

// bare returns a name without its brackets.
func bare(name string) string {
	if len(name) >= 2 && name[0] == '[' && name[len(name)-1] == ']' {
		return strings.ReplaceAll(name[1:len(name)-1], "]]", "]")
	}
	return name
}

// splitName returns the parts of a name with dots, without their brackets.
func splitName(name string) []string {
	var parts []string
	start, quoted := 0, false
	for i := 0; i < len(name); i++ {
		switch c := name[i]; {
		case c == '[' && i == start:
			quoted = true
		case c == ']' && quoted:
			if i+1 < len(name) && name[i+1] == ']' {
				i++
			} else {
				quoted = false
			}
		case c == '.' && !quoted:
			parts = append(parts, bare(name[start:i]))
			start = i + 1
		}
	}
	return append(parts, bare(name[start:]))
}

// reads refuses a plan that does more than read.
func (p *plan) reads() error {
	if len(p.statements) != 1 {
		return &engine.Error{Code: engine.MultiStatement, Layer: engine.LayerGuard,
			Message: fmt.Sprintf("the text has %d statements", len(p.statements)), Next: "send one statement a call"}
	}
	switch s := p.statements[0]; {
	case s.element != "StmtSimple" || s.kind != "SELECT" && s.kind != "SELECT WITHOUT QUERY":
		return readOnly(fmt.Sprintf("the statement is of type %q", s.kind))
	case p.strange+p.changing != "":
		return readOnly("its plan has " + cmp.Or(p.strange, p.changing))
	}
	return nil
}

// obeys refuses a plan that reads what the policy hides. database is the one
// that the connection is in.
func (p *plan) obeys(policy *engine.Policy, database string) error {
	for _, name := range p.functions {
		allowed := slices.ContainsFunc(policy.Functions, func(pattern string) bool {
			return engine.Like(pattern, name) || engine.Like(pattern, name[strings.LastIndexByte(name, '.')+1:])
		})
		if !allowed {
			return &engine.Error{Code: engine.FunctionDenied, Layer: engine.LayerGuard,
				Message: fmt.Sprintf("the function %s, which is not part of SQL Server, is not allowed", name),
				Next:    "leave it out of the statement, or have it allowed in the configuration"}
		}
	}
	for _, o := range p.objects {
		if err := o.readable(policy, database); err != nil {
			return err
		}
	}
	for _, c := range p.columns {
		o := object{server: c.server, database: c.database, schema: c.schema, table: c.table}
		if c.schema != "" { // not of a function's rows
			if err := o.readable(policy, database); err != nil {
				return err
			}
		}
		if policy.MaskOf(engine.Name{Schema: c.schema, Table: c.table}, c.column) != "" {
			return &engine.Error{Code: engine.ColumnMasked, Layer: engine.LayerPolicy,
				Message: fmt.Sprintf("the column %s of %s.%s is masked, and the statement reads it", c.column, c.schema, c.table),
				Next:    "leave the column out of the whole statement; name columns instead of *"}
		}
	}
	return nil
}

// readable refuses an object that may not be read.
func (o *object) readable(policy *engine.Policy, database string) error {
	n := engine.Name{Schema: o.schema, Table: o.table}
	system := strings.EqualFold(o.schema, "sys")
	switch {
	case o.server != "":
		return readOnly("its plan reads " + n.String() + " of another server")
	case !policy.Restricts() || o.function && (o.schema == "" || system):
		return nil
	case o.database != "" && !strings.EqualFold(o.database, database) && !system:
		return deniedTable(engine.Name{Schema: o.database + "." + o.schema, Table: o.table})
	case !policy.Readable(n):
		return deniedTable(n)
	case policy.Masking() && strings.HasPrefix(o.indexKind, "View"):
		// An indexed view stands for tables whose columns are not named then.
		return &engine.Error{Code: engine.ColumnMasked, Layer: engine.LayerPolicy,
			Message: fmt.Sprintf("columns of this database are masked, and which the indexed view %s has cannot be told", n),
			Next:    "read the tables with OPTION (EXPAND VIEWS)"}
	}
	return nil
}

// seen refuses a statement that names what has masked columns and is not in the
// plan: a view or synonym, of which it cannot be told what it shows.
func (p *plan) seen(policy *engine.Policy, names []engine.Name) error {
	for _, m := range policy.Masks {
		for _, pattern := range m.Columns {
			at := strings.LastIndexByte(pattern, '.')
			if at < 0 {
				continue
			}
			of := engine.Policy{DenyTables: []string{pattern[:at]}}
			for _, n := range names {
				inPlan := slices.ContainsFunc(p.objects, func(o object) bool { return strings.EqualFold(o.table, n.Table) })
				if strings.Trim(pattern[:at], "*.") != "" && !of.Readable(n) && !inPlan {
					return &engine.Error{Code: engine.ColumnMasked, Layer: engine.LayerPolicy,
						Message: fmt.Sprintf("%s has masked columns, and whether the statement reads them cannot be told", n),
						Next:    "read the tables below it, without their masked columns"}
				}
			}
		}
	}
	return nil
}
