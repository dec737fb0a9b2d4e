package postgres

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
	"github.com/mcpool-dev/mcpool/dbserver/internal/sqltext"
)

// A judge decides by the plan of a statement whether a policy lets it run, and
// which columns of its result are hidden. The plan names the tables themselves,
// whatever views stood before them, and says every column that a step reads. A
// use of a masked column that is not plainly a column of the result is refused:
// a condition, an order or a computation tells of a value, too.
type judge struct {
	policy    *engine.Policy
	relations map[engine.Name]*relation
	aliases   map[string]*relation // of the tables in the plan
	sole      string               // the alias, if there is one alone
	used      bool                 // a masked column is more than read and dropped
	foreign   bool                 // something is computed from what is no column of a table
	ordered   bool                 // rows come in the order of an index with a masked column
	mentioned map[string]bool      // masked columns, by their bare names
}

// A relation is a table or view with the tables that it is a part of.
type relation struct {
	name    engine.Name
	kind    string
	planned bool // the plan reads it; otherwise the statement names it
	columns []string
	parents []engine.Name
	parts   []engine.Name       // tables that are parts of it, and parts of those
	copies  bool                // a materialized view of what is hidden
	indexes map[string][]string // columns of each, * for an expression
}

// hidden returns how a column is hidden, the strictest way of the table's own
// and of those that it is a part of.
func (r *relation) hidden(p *engine.Policy, column string) engine.With {
	strictest := engine.With("")
	order := []engine.With{"", engine.WithPartial, engine.WithNull, engine.WithRefuse}
	for _, n := range append([]engine.Name{r.name}, r.parents...) {
		if w := p.MaskOf(n, column); slices.Index(order, w) > slices.Index(order, strictest) {
			strictest = w
		}
	}
	return strictest
}

// masked reports whether a column of a table, or of a part of it, is hidden.
func (r *relation) masked(p *engine.Policy) bool {
	return slices.ContainsFunc(r.columns, func(c string) bool {
		return r.hidden(p, c) != "" || slices.ContainsFunc(r.parts, func(n engine.Name) bool { return p.MaskOf(n, c) != "" })
	})
}

// statistics are where PostgreSQL keeps values of all tables besides.
var statistics = []string{"pg_statistic", "pg_statistic_ext_data", "pg_largeobject"}

func (r *relation) readable(p *engine.Policy) bool {
	if r.copies {
		return false
	}
	for _, n := range append([]engine.Name{r.name}, r.parents...) {
		if !p.Readable(n) || n.Schema == "pg_toast" || n.Schema == "pg_catalog" && slices.Contains(statistics, n.Table) {
			return false
		}
	}
	return true
}

// judge returns how each column of the result of a statement is hidden, nil
// where the policy hides nothing.
func (d *Database) judge(t *tx, r *reading, top *node) ([]result.Mask, error) {
	p := &d.options.Policy
	if !p.Restricts() {
		return nil, nil
	}
	j := &judge{policy: p, relations: map[engine.Name]*relation{}, aliases: map[string]*relation{}, mentioned: map[string]bool{}}
	if err := j.load(t, r, top); err != nil {
		return nil, err
	}
	for _, rel := range j.relations {
		if !rel.readable(p) {
			return nil, &engine.Error{Code: engine.AccessDenied, Layer: engine.LayerPolicy,
				Message: fmt.Sprintf("%s may not be read", rel.name), Next: "leave it out; list_tables says which tables there are"}
		}
	}
	if !p.Masking() {
		return nil, nil
	}
	if err := j.step(top, nil, false); err != nil {
		return nil, err
	}
	if err := j.names(r); err != nil {
		return nil, err
	}
	if j.used && (j.foreign || j.ordered || r.write) {
		return nil, j.refuse("")
	}
	return j.result(top)
}

// load asks the catalog for the tables that the plan reads and those that the
// statement names.
func (j *judge) load(t *tx, r *reading, top *node) error {
	var schemas, tables []string
	aliases := map[string]engine.Name{}
	opaque := false
	top.walk(func(n *node) {
		if n.Relation != "" {
			schemas, tables = append(schemas, n.Schema), append(tables, n.Relation)
			aliases[n.Alias] = engine.Name{Schema: n.Schema, Table: n.Relation}
		} else if n.Type == "Foreign Scan" || n.Type == "Custom Scan" {
			opaque = true
		}
	})
	if opaque {
		return &engine.Error{Code: engine.AccessDenied, Layer: engine.LayerPolicy,
			Message: "the plan does not tell what another server would read", Next: "read one foreign table at a time"}
	}
	err := t.rows(query{`WITH RECURSIVE named AS (SELECT pg_catalog.unnest($3::pg_catalog.name[]) AS w),
		rel AS (
			SELECT c.oid, n.nspname, c.relname, c.relkind, bool_or(planned) AS planned FROM (
				SELECT s, f, true AS planned FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.name[]), pg_catalog.unnest($2::pg_catalog.name[])) AS u(s, f)
				UNION ALL SELECT NULL, w, false FROM named) x
			JOIN pg_catalog.pg_class c ON c.relname = x.f
			JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND (n.nspname = x.s
				OR x.s IS NULL AND (pg_catalog.pg_table_is_visible(c.oid) OR n.nspname IN (SELECT w FROM named)))
			WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 't') GROUP BY 1, 2, 3, 4),
		up AS (SELECT oid AS base, oid FROM rel UNION SELECT up.base, i.inhparent FROM up JOIN pg_catalog.pg_inherits i ON i.inhrelid = up.oid),
		down AS (SELECT oid AS base, oid FROM rel UNION SELECT down.base, i.inhrelid FROM down JOIN pg_catalog.pg_inherits i ON i.inhparent = down.oid)
		SELECT rel.nspname, rel.relname, rel.relkind, rel.planned,
			(SELECT json_agg(a.attname) FROM pg_catalog.pg_attribute a WHERE a.attrelid = rel.oid AND a.attnum > 0 AND NOT a.attisdropped),
			(SELECT json_agg(json_build_object('Schema', n.nspname, 'Table', c.relname)) FROM up JOIN pg_catalog.pg_class c ON c.oid = up.oid
				JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE up.base = rel.oid AND up.oid <> rel.oid),
			(SELECT json_agg(json_build_object('Schema', n.nspname, 'Table', c.relname)) FROM down JOIN pg_catalog.pg_class c ON c.oid = down.oid
				JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE down.base = rel.oid AND down.oid <> rel.oid),
			(SELECT json_object_agg(c.relname, (SELECT json_agg(COALESCE(a.attname, '*')) FROM pg_catalog.unnest(i.indkey::int2[]) k
				LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = rel.oid AND a.attnum = k AND k <> 0))
				FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = rel.oid)
		FROM rel`, [][]byte{arrayOf(schemas), arrayOf(tables), arrayOf(namesIn(r.sql))}}, func(v [][]byte) error {
		rel := &relation{name: engine.Name{Schema: string(v[0]), Table: string(v[1])}, kind: string(v[2]), planned: string(v[3]) == "t"}
		for i, to := range []any{&rel.columns, &rel.parents, &rel.parts, &rel.indexes} {
			if v[4+i] != nil {
				if err := json.Unmarshal(v[4+i], to); err != nil {
					return err
				}
			}
		}
		j.relations[rel.name] = rel
		return nil
	})
	if err != nil {
		return err
	}
	if err := j.copies(t); err != nil {
		return err
	}
	for alias, name := range aliases {
		rel := j.relations[name]
		if rel == nil {
			return fmt.Errorf("the catalog does not know %s, which the plan reads", name)
		}
		j.aliases[alias] = rel
		if len(aliases) == 1 {
			j.sole = alias
		}
	}
	return nil
}

// copies finds the materialized views that were made of what is hidden. Of which
// columns each of theirs was made is not known, but of which all of them were,
// save for whole rows, which only the definition has.
func (j *judge) copies(t *tx) error {
	for _, rel := range j.relations {
		if rel.kind != "m" {
			continue
		}
		err := t.rows(query{copiedQuery, [][]byte{[]byte(rel.name.Schema), []byte(rel.name.Table)}}, func(v [][]byte) error {
			of := &relation{name: engine.Name{Schema: string(v[0]), Table: string(v[1])}}
			rel.copies = rel.copies || !of.readable(j.policy) || v[2] != nil && of.hidden(j.policy, string(v[2])) != ""
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// copiedQuery tells of which columns of which tables a materialized view may
// have been made, also by others that it was made of, and NULL for the column of
// one of which none was used. A table stands for its parts and what it is a part
// of, and a whole row, which has the number 0, for all columns.
const copiedQuery = `WITH RECURSIVE base AS (SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = $1 AND c.relname = $2),
	made (oid) AS (SELECT oid FROM base UNION SELECT x.oid FROM made, LATERAL (
		SELECT d.refobjid FROM pg_catalog.pg_rewrite w JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = w.oid
		WHERE w.ev_class = made.oid AND w.ev_type = '1' AND d.refclassid = 'pg_catalog.pg_class'::regclass
		UNION ALL SELECT inhparent FROM pg_catalog.pg_inherits WHERE inhrelid = made.oid
		UNION ALL SELECT inhrelid FROM pg_catalog.pg_inherits WHERE inhparent = made.oid) x (oid)),
	rule AS MATERIALIZED (SELECT w.oid, w.ev_action FROM made JOIN pg_catalog.pg_rewrite w ON w.ev_class = made.oid AND w.ev_type = '1'),
	used AS MATERIALIZED (SELECT a.attname FROM rule JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = rule.oid
		JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
		WHERE d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjsubid > 0)
	SELECT n.nspname, c.relname, a.attname FROM made JOIN pg_catalog.pg_class c ON c.oid = made.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
	LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
		AND (a.attname IN (SELECT attname FROM used) OR EXISTS (SELECT FROM rule WHERE ev_action::text LIKE '%:varattno 0 %'))
	WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.oid <> (SELECT oid FROM base)`

func (j *judge) refuse(column string) error {
	what := "a masked column"
	if column != "" {
		what = "the masked column " + column
	}
	return &engine.Error{Code: engine.ColumnMasked, Layer: engine.LayerPolicy,
		Message: what + " is used in a way that could tell its values",
		Next:    "leave it out of conditions, orders, groups, joins and expressions; name it alone in the list of columns, if at all"}
}

// Steps that hand on, at most, columns of what is below them as they are, or
// say in words what they do with them.
var transparent = func() map[string]bool {
	m := map[string]bool{}
	for step := range strings.SplitSeq("Seq Scan,Index Scan,Index Only Scan,Bitmap Heap Scan,Bitmap Index Scan,BitmapAnd,BitmapOr,Tid Scan,"+
		"Tid Range Scan,Sample Scan,Nested Loop,Hash Join,Merge Join,Hash,Sort,Incremental Sort,Limit,Materialize,Memoize,Gather,"+
		"Gather Merge,Result,Append,Merge Append,Aggregate,ModifyTable,LockRows", ",") {
		m[step] = true
	}
	return m
}()

// handsOn are steps whose columns are those of the one below them, in order.
var handsOn = map[string]bool{"Limit": true, "Gather": true, "Gather Merge": true, "Sort": true, "Incremental Sort": true,
	"Materialize": true, "LockRows": true}

// said are members of a step that are no expressions.
var said = map[string]bool{"Node Type": true, "Parent Relationship": true, "Schema": true, "Relation Name": true, "Alias": true,
	"Join Type": true, "Index Name": true, "Scan Direction": true, "Strategy": true, "Partial Mode": true, "Command": true,
	"Operation": true, "Subplan Name": true, "CTE Name": true, "Function Name": true, "Function Schema": true, "Plans": true, "Output": true,
	"Cache Mode": true, "Sampling Method": true}

// step looks at a step of the plan and those below it. opaque says that one
// above it may use columns without saying so.
func (j *judge) step(n, above *node, opaque bool) error {
	opaque = opaque || !transparent[n.Type]
	if rel := j.aliases[n.Alias]; rel != nil && rel.masked(j.policy) && (n.member("Operation") == "Merge" || n.member("Conflict Resolution") == "UPDATE") {
		return &engine.Error{Code: engine.ColumnMasked, Layer: engine.LayerPolicy,
			Message: fmt.Sprintf("MERGE and ON CONFLICT DO UPDATE do not go with %s, which has masked columns: the plan does not show what they read", rel.name),
			Next:    "send INSERT, UPDATE and DELETE by themselves"}
	}
	for member, value := range n.more {
		if said[member] {
			continue
		}
		for _, s := range stringsIn(value) {
			refs := j.refs(s)
			if err := j.none(refs); err != nil {
				return err
			}
			j.foreign = j.foreign || refs.foreign(j)
		}
	}
	if rel := j.aliases[n.Alias]; rel != nil && n.Index != "" {
		for _, column := range rel.indexes[n.Index] {
			j.ordered = j.ordered || column == "*" && rel.masked(j.policy) || rel.hidden(j.policy, column) != ""
		}
	}
	for _, s := range n.Output {
		refs := j.refs(s)
		column, with, whole := j.plain(refs)
		switch {
		case with == "":
			if err := j.none(refs); err != nil {
				return err
			}
			j.foreign = j.foreign || !refs.alone && refs.foreign(j)
			continue
		case whole || opaque:
			return j.refuse(column)
		}
		j.mentioned[column] = true
		// A scan below another step may read all columns of its table and have
		// most of them dropped.
		below := above != nil && above.Type != "Append" && above.Type != "Merge Append" && n.relationship("Outer", "Inner")
		if n.Relation != "" && below && transparent[above.Type] && !handsOn[above.Type] && above.Type != "ModifyTable" {
			continue
		}
		if j.used = true; with == engine.WithRefuse {
			return j.refuse(column)
		}
	}
	for i := range n.Plans {
		if err := j.step(&n.Plans[i], n, opaque); err != nil {
			return err
		}
	}
	return nil
}

// member returns a text that the plan says about a step, or none.
func (n *node) member(name string) string {
	var s string
	_ = json.Unmarshal(n.more[name], &s)
	return s
}

func (n *node) relationship(any ...string) bool {
	return slices.Contains(any, n.member("Parent Relationship"))
}

// plain returns the masked column that an item of a list of columns is, and how
// it is hidden; none if it is something else. whole says that it is a whole row
// of a table with masked columns.
func (j *judge) plain(refs references) (column string, with engine.With, whole bool) {
	if !refs.alone {
		return "", "", false
	}
	rel := j.aliases[refs.list[0].alias]
	switch {
	case rel == nil:
		return "", "", false
	case refs.list[0].column == "*":
		if rel.masked(j.policy) {
			return "*", engine.WithRefuse, true
		}
		return "", "", false
	}
	return refs.list[0].column, rel.hidden(j.policy, refs.list[0].column), false
}

// none refuses references to masked columns.
func (j *judge) none(refs references) error {
	for _, ref := range refs.list {
		rel := j.aliases[ref.alias]
		if rel != nil && (ref.column == "*" && rel.masked(j.policy) || rel.hidden(j.policy, ref.column) != "") {
			return j.refuse(ref.column)
		}
	}
	return nil
}

// names refuses statements whose text names what the plan does not show: a
// masked column that was reasoned away, or a view whose own columns are masked
// where those of the tables below it are not.
func (j *judge) names(r *reading) error {
	words := namesIn(r.sql)
	for _, rel := range j.relations {
		for _, column := range rel.columns {
			if rel.hidden(j.policy, column) == "" || j.mentioned[column] {
				continue
			}
			if rel.kind != "v" && slices.Contains(words, column) || rel.kind == "v" && !j.masks(column) {
				return j.refuse(column)
			}
		}
	}
	return nil
}

// masks reports whether a table that the plan reads has a masked column of that
// name.
func (j *judge) masks(column string) bool {
	for _, rel := range j.relations {
		if rel.planned && slices.Contains(rel.columns, column) && rel.hidden(j.policy, column) != "" {
			return true
		}
	}
	return false
}

// result returns how each column of the result is hidden.
func (j *judge) result(n *node) ([]result.Mask, error) {
	var below []*node
	for i := range n.Plans {
		if n.Plans[i].relationship("Outer", "Member") {
			below = append(below, &n.Plans[i])
		}
	}
	appends := n.Type == "Append" || n.Type == "Merge Append"
	if handsOn[n.Type] && len(below) == 1 || appends && len(below) > 0 {
		var hidden []result.Mask
		for i, b := range below {
			more, err := j.result(b)
			if err != nil {
				return nil, err
			}
			if i > 0 && len(more) != len(hidden) {
				return nil, j.refuse("")
			}
			hidden = strictest(hidden, more)
		}
		return hidden, nil
	}
	hidden := make([]result.Mask, len(n.Output))
	for i, s := range n.Output {
		refs := j.refs(s)
		if _, with, _ := j.plain(refs); with != "" {
			hidden[i] = with.Result()
		} else if j.used && refs.foreign(j) {
			return nil, j.refuse("")
		}
	}
	if len(n.Output) == 0 && j.used {
		return nil, j.refuse("")
	}
	return hidden, nil
}

// strictest joins how the columns of several steps are hidden.
func strictest(a, b []result.Mask) []result.Mask {
	if a == nil {
		return b
	}
	for i := range a {
		if b[i] == result.MaskNull || a[i] == result.Unmasked {
			a[i] = b[i]
		}
	}
	return a
}

// references are what an expression of a plan refers to.
type references struct {
	list   []reference
	alone  bool // the expression is one reference and nothing else
	hidden bool // it refers to the result of another part of the plan
}

type reference struct{ alias, column string }

// foreign reports whether something is no column of a table in the plan.
func (r references) foreign(j *judge) bool {
	return r.hidden || slices.ContainsFunc(r.list, func(ref reference) bool { return j.aliases[ref.alias] == nil })
}

// refs finds alias.column in an expression, as PostgreSQL writes it in plans. Of
// a plan with one table alone it leaves out the alias, so that any name may be a
// column.
func (j *judge) refs(s string) references {
	var r references
	var name string
	named, dotted, rest := false, false, 0
	bare := func() {
		if named && j.sole != "" {
			r.list = append(r.list, reference{j.sole, name})
		} else if named || dotted {
			rest++
		}
		named, dotted = false, false
	}
	for i := 0; i < len(s); {
		kind, next := dialect.Next(s, i)
		token := s[i:next]
		i = next
		switch {
		case (kind == sqltext.Word || kind == sqltext.Quoted) && dotted:
			r.list = append(r.list, reference{name, fold(token)})
			named, dotted = false, false
		case token == "*" && dotted:
			r.list = append(r.list, reference{name, "*"})
			named, dotted = false, false
		case kind == sqltext.Word || kind == sqltext.Quoted:
			bare()
			name, named = fold(token), true
			r.hidden = r.hidden || token == "SubPlan" || token == "InitPlan"
		case token == "." && named:
			named, dotted = false, true
		case kind == sqltext.Space:
		default:
			r.hidden = r.hidden || kind == sqltext.Param
			bare()
			rest++
		}
	}
	bare()
	r.alone = len(r.list) == 1 && rest == 0
	return r
}

// stringsIn returns the strings in a part of a plan.
func stringsIn(raw json.RawMessage) []string {
	var value any
	_ = json.Unmarshal(raw, &value)
	var list []string
	var visit func(any)
	visit = func(v any) {
		switch v := v.(type) {
		case string:
			list = append(list, v)
		case []any:
			for _, e := range v {
				visit(e)
			}
		case map[string]any:
			for member, e := range v {
				if !said[member] {
					visit(e)
				}
			}
		}
	}
	visit(value)
	return list
}
