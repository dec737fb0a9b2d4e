package mysql

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/pingcap/tidb/pkg/parser/ast"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

// Explain returns the plan of a statement that only reads.
func (d *Database) Explain(ctx context.Context, who engine.Caller, s engine.Statement) (engine.Plan, error) {
	parsed, err := d.read(s.SQL)
	if err != nil {
		return engine.Plan{}, err
	}
	switch parsed.node.(type) {
	case *ast.SelectStmt, *ast.SetOprStmt:
	default:
		return engine.Plan{}, engine.Invalid("the query is no SELECT, of which alone there is a plan")
	}
	params, err := bind(s.Params, parsed.params)
	if err != nil {
		return engine.Plan{}, err
	}
	plan := engine.Plan{Format: "json"}
	err = d.run(ctx, task{who: who, timeout: s.Timeout}, parsed, func(ctx context.Context, c *conn) error {
		sql, err := d.permit(c, parsed)
		if err != nil {
			return err
		}
		text, err := c.plan(marked(who)+"EXPLAIN FORMAT=JSON "+sql, params)
		plan.JSON, plan.Text = []byte(text), text
		return err
	})
	if err != nil {
		return engine.Plan{}, err
	}
	readPlan(&plan)
	return plan, nil
}

func (c *conn) plan(statement string, params []any) (string, error) {
	plan := ""
	err := c.query(statement, params, func(row []driver.Value) error {
		plan += text(row[0])
		return nil
	})
	return plan, err
}

const (
	manyRows = 100_000 // read without an index
	maxFacts = 10      // warnings
)

// readPlan finds in a plan what it costs and what is to be warned of.
func readPlan(p *engine.Plan) {
	var tree any
	if json.Unmarshal(p.JSON, &tree) != nil {
		p.Format, p.JSON = "text", nil
		return
	}
	walkPlan(p, tree)
}

// walkPlan looks at each object of a plan: MySQL's and MariaDB's differ in where
// things stand, and agree in their names.
func walkPlan(p *engine.Plan, node any) {
	switch node := node.(type) {
	case []any:
		for _, n := range node {
			walkPlan(p, n)
		}
	case map[string]any:
		if cost := numberAt(node, "query_cost", "cost"); cost != nil && p.Cost == nil {
			p.Cost = cost
		}
		if name, ok := node["table_name"].(string); ok {
			planTable(p, name, node)
		}
		for key, warning := range planWarnings {
			if used, ok := node[key]; ok && used != false {
				warn(p, warning)
			}
		}
		for _, n := range node {
			walkPlan(p, n)
		}
	}
}

// planWarnings are what keys of a plan mean.
var planWarnings = map[string]string{
	"filesort":              "rows are sorted, which an index in that order would spare",
	"using_filesort":        "rows are sorted, which an index in that order would spare",
	"temporary_table":       "rows are kept in a temporary table",
	"using_temporary_table": "rows are kept in a temporary table",
	"block-nl-join":         "tables are joined without an index: each row of one is compared with all of the other",
	"using_join_buffer":     "tables are joined without an index: each row of one is compared with all of the other",
}

func planTable(p *engine.Plan, name string, node map[string]any) {
	rows := numberAt(node, "rows_examined_per_scan", "rows")
	if rows != nil && (p.Rows == nil || *rows > *p.Rows) {
		p.Rows = rows
	}
	if node["access_type"] != "ALL" || rows == nil {
		return
	}
	if *rows >= manyRows {
		warn(p, fmt.Sprintf("%s is read whole, about %.0f rows, for no index fits", name, *rows))
	}
}

func warn(p *engine.Plan, warning string) {
	if len(p.Warnings) < maxFacts && !slices.Contains(p.Warnings, warning) {
		p.Warnings = append(p.Warnings, warning)
	}
}

// numberAt is a number by the first of its names, which MySQL writes as a text.
func numberAt(node map[string]any, names ...string) *float64 {
	for _, name := range names {
		switch v := node[name].(type) {
		case float64:
			return &v
		case string:
			if n, err := strconv.ParseFloat(v, 64); err == nil {
				return &n
			}
		}
	}
	return nil
}
