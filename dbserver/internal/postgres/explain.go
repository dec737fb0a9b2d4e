package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
	"github.com/mcpool-dev/mcpool/dbserver/internal/sqltext"
)

// planned is what a statement is asked the plan of by. It is never run. Steps
// alone are without what each returns, which has values that are to be written.
const (
	planned = "EXPLAIN (FORMAT JSON, VERBOSE) "
	steps   = "EXPLAIN (FORMAT JSON) "
)

// Explain returns the plan of a statement. Also one that writes has a plan.
func (d *Database) Explain(ctx context.Context, who engine.Caller, s engine.Statement) (engine.Plan, error) {
	var plan engine.Plan
	keyword := dialect.Keyword(s.SQL)
	changes := keyword == "INSERT" || keyword == "UPDATE" || keyword == "DELETE" || keyword == "MERGE"
	r, err := d.taken(s, changes)
	switch {
	case err != nil:
		return plan, err
	case changes:
		r.planOf = r.sql
	case keyword == "EXPLAIN":
		return plan, engine.Invalid("leave EXPLAIN out: the statement itself is wanted")
	case writes[keyword], keyword == "SHOW":
		return plan, engine.Invalid("only queries, INSERT, UPDATE, DELETE and MERGE have plans")
	}
	err = d.run(ctx, d.reads, who, s.Timeout, func(_ context.Context, t *tx) error {
		top, _, err := d.plan(t, r)
		if err != nil {
			return err
		}
		plan = engine.Plan{Format: "json", JSON: top.raw, Cost: &top.Cost, Rows: &top.Rows, Text: top.text()}
		plan.Warnings, err = d.warnings(t, top)
		return err
	})
	return plan, err
}

// checkExplain returns where the query of an EXPLAIN starts. It refuses one that
// would run it, and one of something else.
func checkExplain(sql string) (inner int, err error) {
	for i := 0; i < len(sql); {
		kind, next := dialect.Next(sql, i)
		start, token := i, sql[i:next]
		i = next
		switch {
		case kind == sqltext.Quoted:
			return 0, readOnly("options of EXPLAIN are written without quotes")
		case kind == sqltext.Word:
			switch word := strings.ToUpper(token); word {
			case "ANALYZE", "ANALYSE":
				return 0, readOnly("EXPLAIN ANALYZE would run the statement")
			case "SELECT", "WITH", "VALUES", "TABLE":
				return start, nil
			case "EXPLAIN", "VERBOSE", "COSTS", "SETTINGS", "GENERIC_PLAN", "FORMAT", "SUMMARY", "MEMORY", "TEXT", "JSON", "XML", "YAML", "ON", "OFF", "TRUE", "FALSE":
			default:
				return 0, readOnly(fmt.Sprintf("EXPLAIN of %s is not taken here", word))
			}
		}
	}
	return len(sql), nil
}

// A node is one step of a plan.
type node struct {
	Type     string   `json:"Node Type"`
	Schema   string   `json:"Schema"`
	Relation string   `json:"Relation Name"`
	Alias    string   `json:"Alias"`
	Cost     float64  `json:"Total Cost"`
	Rows     float64  `json:"Plan Rows"`
	Filter   string   `json:"Filter"`
	Index    string   `json:"Index Name"`
	Output   []string `json:"Output"`
	Plans    []node   `json:"Plans"`

	raw  []byte
	more map[string]json.RawMessage
}

// UnmarshalJSON keeps, beside what has a place, everything else that the plan
// says about a step.
func (n *node) UnmarshalJSON(raw []byte) error {
	type plain node
	if err := json.Unmarshal(raw, (*plain)(n)); err != nil {
		return err
	}
	return json.Unmarshal(raw, &n.more)
}

// walk calls visit for a step and all below it.
func (n *node) walk(visit func(*node)) {
	visit(n)
	for i := range n.Plans {
		n.Plans[i].walk(visit)
	}
}

// plan asks for the plan of a statement, once its functions have been looked at.
func (d *Database) plan(t *tx, r *reading) (*node, []result.Mask, error) {
	return d.planBy(t, r, planned)
}

func (d *Database) planBy(t *tx, r *reading, explain string) (*node, []result.Mask, error) {
	if r.calls.any() {
		t.send(r.calls.query())
	}
	t.send(query{explain + r.planOf, r.params})
	if err := t.flush(); err != nil {
		return nil, nil, err
	}
	if r.calls.any() {
		if err := r.calls.refusal(t.done()); err != nil {
			return nil, nil, err
		}
	}
	answer, err := t.next()
	if err != nil {
		return nil, nil, &statementError{err, r.sql, len(explain) + len(r.planOf) - len(r.sql)}
	}
	var raw []byte
	for answer.next() {
		raw = append(raw, answer.values[0]...)
	}
	if _, err := answer.close(); err != nil {
		return nil, nil, &statementError{err, r.sql, len(explain) + len(r.planOf) - len(r.sql)}
	}
	var plans []struct{ Plan json.RawMessage }
	switch err := json.Unmarshal(raw, &plans); {
	case err != nil:
		return nil, nil, &engine.Error{Code: engine.ResultTooLarge, Layer: engine.LayerEngine, Message: "the plan is too large to be read",
			Next: "simplify the statement"}
	case len(plans) != 1:
		return nil, nil, &engine.Error{Code: engine.AccessDenied, Layer: engine.LayerGuard,
			Message: "a rule in the database makes another statement of this one, or several", Next: "leave the table or view out"}
	}
	top := &node{}
	if err := json.Unmarshal(plans[0].Plan, top); err != nil {
		return nil, nil, err
	}
	top.raw = plans[0].Plan
	hidden, err := d.judge(t, r, top)
	return top, hidden, err
}

// text is the plan as lines, a step under that which it is for.
func (n *node) text() string {
	var b strings.Builder
	n.write(&b, 0)
	return b.String()
}

func (n *node) write(b *strings.Builder, depth int) {
	fmt.Fprintf(b, "%s%s", strings.Repeat("  ", depth), n.Type)
	if n.Index != "" {
		fmt.Fprintf(b, " using %s", n.Index)
	}
	if n.Relation != "" {
		fmt.Fprintf(b, " on %s", engine.Name{Schema: n.Schema, Table: n.Relation})
	}
	fmt.Fprintf(b, " (cost %.2f, rows %.0f)", n.Cost, n.Rows)
	if n.Filter != "" {
		fmt.Fprintf(b, " filter %s", n.Filter)
	}
	b.WriteByte('\n')
	for i := range n.Plans {
		n.Plans[i].write(b, depth+1)
	}
}

// From so many rows on a step is worth a warning.
const (
	manyScanned = 10_000
	manySorted  = 100_000
)

// warnings says in plain words what makes a plan slow.
func (d *Database) warnings(t *tx, top *node) ([]string, error) {
	var list []string
	var scanned []*node
	top.walk(func(n *node) {
		switch {
		case n.Type == "Seq Scan":
			scanned = append(scanned, n)
		case n.Type == "Sort" && len(n.Plans) == 1 && n.Plans[0].Rows >= manySorted:
			list = append(list, fmt.Sprintf("sorts about %.0f rows; an index in that order, or fewer rows, would save it", n.Plans[0].Rows))
		case n.Type == "Nested Loop" && len(n.Plans) == 2 && n.Plans[0].Rows*n.Plans[1].Rows >= 10*manySorted:
			list = append(list, fmt.Sprintf("joins about %.0f rows with about %.0f each by a nested loop", n.Plans[0].Rows, n.Plans[1].Rows))
		}
	})
	for _, n := range scanned {
		err := t.rows(query{`SELECT c.reltuples::int8 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
			WHERE n.nspname = $1 AND c.relname = $2`, [][]byte{[]byte(n.Schema), []byte(n.Relation)}}, func(v [][]byte) error {
			rows := max(float64(*count(v[0])), n.Rows)
			if rows < manyScanned {
				return nil
			}
			w := fmt.Sprintf("reads all about %.0f rows of %s", rows, engine.Name{Schema: n.Schema, Table: n.Relation})
			if n.Filter != "" {
				w += " to filter them by " + short(n.Filter) + "; an index on these columns might help"
			}
			list = append(list, w)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	if top.Rows >= manySorted {
		list = append(list, fmt.Sprintf("returns about %.0f rows; aggregate, filter or limit them", top.Rows))
	}
	return list, nil
}
