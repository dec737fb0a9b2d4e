package sqlite

import (
	"context"
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
	err = d.read.with(ctx, s.Timeout, func(ctx context.Context, c *conn) error {
		first, err := c.compile(ctx, s.SQL) // also the errors are about the statement as it was sent
		if err != nil {
			return err
		}
		first.close()
		return c.explain(ctx, s.SQL, params, &plan)
	})
	return plan, d.explain(ctx, err)
}

func (c *conn) explain(ctx context.Context, sql string, params []any, plan *engine.Plan) error {
	s, err := c.compile(ctx, "EXPLAIN QUERY PLAN "+strings.TrimLeft(sql, "; \t\r\n\f"))
	if err != nil {
		return err
	}
	defer s.close()
	if len(params) > 0 { // a plan wants no values
		if err := s.bind(params); err != nil {
			return err
		}
	}
	root := &step{}
	steps := map[int64]*step{0: root}
	var b strings.Builder
	depth := map[int64]int{0: -1}
	for {
		ok, err := s.step(ctx)
		if err != nil {
			return s.runError(err)
		}
		if !ok {
			break
		}
		id, parent, line := s.integer(0), s.integer(1), &step{Detail: s.text(3)}
		if steps[parent] == nil {
			parent = 0
		}
		steps[id], depth[id] = line, depth[parent]+1
		steps[parent].Steps = append(steps[parent].Steps, line)
		fmt.Fprintf(&b, "%s%s\n", strings.Repeat("  ", depth[id]), line.Detail)
	}
	plan.Text = b.String()
	if plan.JSON, err = json.Marshal(root.Steps); err != nil {
		return err
	}
	return c.warn(ctx, plan)
}

// warn adds what of the plan takes long, in plain words.
func (c *conn) warn(ctx context.Context, plan *engine.Plan) error {
	for line := range strings.Lines(plan.Text) {
		line = strings.TrimSpace(line)
		switch name, isScan := strings.CutPrefix(line, "SCAN "); {
		case isScan && !strings.Contains(line, " USING "):
			t, err := c.find(ctx, name)
			if err != nil || t == nil {
				return err
			}
			if rows, err := c.estimate(ctx, t); err != nil {
				return err
			} else if rows != nil && *rows >= manyRows {
				plan.Warnings = append(plan.Warnings, fmt.Sprintf("all of %s is read, about %d rows: filter by an indexed column, see describe_table", t.name, *rows))
			}
		case strings.HasPrefix(line, "USE TEMP B-TREE FOR "):
			plan.Warnings = append(plan.Warnings, "all rows are sorted before the first is returned ("+strings.TrimPrefix(line, "USE TEMP B-TREE FOR ")+")")
		case strings.Contains(line, "AUTOMATIC "):
			plan.Warnings = append(plan.Warnings, "an index is built for this statement alone: "+line)
		}
	}
	return nil
}
