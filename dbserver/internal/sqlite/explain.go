package sqlite

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/sqltext"
)

// manyRows is from how many rows on reading a table whole is worth a warning.
const manyRows = 10_000

// A step is a line of EXPLAIN QUERY PLAN.
type step struct {
	Detail string  `json:"detail"`
	Steps  []*step `json:"steps,omitempty"`
}

// Explain returns the plan of a statement (https://www.sqlite.org/eqp.html).
func (d *Database) Explain(ctx context.Context, _ engine.Caller, s engine.Statement) (engine.Plan, error) {
	plan := engine.Plan{Format: "sqlite"}
	params, err := bindings(s.Params)
	if err != nil {
		return plan, err
	}
	switch sqltext.SQLite.Keyword(s.SQL) {
	case "EXPLAIN", "PRAGMA":
		return plan, engine.Invalid("query has a plan only if it is a statement that reads rows: send it without EXPLAIN")
	}
	err = d.withSession(ctx, s.Timeout, func(ctx context.Context, q *session) error {
		if _, err := q.prepare(ctx, s.SQL); err != nil { // also the errors are about the statement as it was sent
			return q.compileError(ctx, err)
		}
		first, err := onlyStatement(s.SQL)
		if err != nil {
			return err
		}
		if len(params) == 0 { // a plan wants no values
			params = positional(make([]driver.Value, strings.Count(first, "?")))
		}
		return q.explain(ctx, first, params, &plan)
	})
	return plan, d.explain(ctx, err)
}

func (q *session) explain(ctx context.Context, statement string, params []driver.NamedValue, plan *engine.Plan) error {
	root := &step{}
	steps := map[int64]*step{0: root}
	var b strings.Builder
	depth := map[int64]int{0: -1}
	err := query(ctx, q.engineConn, "EXPLAIN QUERY PLAN "+statement, params, func(row []driver.Value) error {
		id, parent, s := integer(row[0]), integer(row[1]), &step{Detail: text(row[3])}
		if steps[parent] == nil {
			parent = 0
		}
		steps[id], depth[id] = s, depth[parent]+1
		steps[parent].Steps = append(steps[parent].Steps, s)
		fmt.Fprintf(&b, "%s%s\n", strings.Repeat("  ", depth[id]), s.Detail)
		return nil
	})
	if err != nil {
		return q.runError(err)
	}
	plan.Text = b.String()
	if plan.JSON, err = json.Marshal(root.Steps); err != nil {
		return err
	}
	return q.warn(ctx, plan)
}

// warn adds what of the plan takes long, in plain words.
func (q *session) warn(ctx context.Context, plan *engine.Plan) error {
	tables, err := q.tables(ctx)
	if err != nil {
		return err
	}
	for line := range strings.Lines(plan.Text) {
		line = strings.TrimSpace(line)
		switch name, isScan := strings.CutPrefix(line, "SCAN "); {
		case isScan && !strings.Contains(line, " USING "):
			for i := range tables {
				t := &tables[i]
				if !strings.EqualFold(name, t.name) {
					continue
				}
				if rows, err := q.estimate(ctx, t); err != nil {
					return err
				} else if rows != nil && *rows >= manyRows {
					plan.Warnings = append(plan.Warnings, fmt.Sprintf("all of %s is read, about %d rows: filter by an indexed column, see describe_table", t.name, *rows))
				}
			}
		case strings.HasPrefix(line, "USE TEMP B-TREE FOR "):
			plan.Warnings = append(plan.Warnings, "all rows are sorted before the first is returned ("+strings.TrimPrefix(line, "USE TEMP B-TREE FOR ")+")")
		case strings.Contains(line, "AUTOMATIC "):
			plan.Warnings = append(plan.Warnings, "an index is built for this statement alone: "+line)
		}
	}
	return nil
}
