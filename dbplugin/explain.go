package dbplugin

import (
	"context"
	"errors"
)

// A Plan is the answer of Explain.
type Plan struct {
	Answer
	// Plan is how the engine would run the statement: a text, or what the
	// engine's JSON is in Go, with [json.Number] for numbers.
	Plan     any
	Warnings []string // in plain words; mcpool alone has them
}

// Explain returns the plan of a statement, which is not run. Params are as in
// [ReadOptions], nil for none.
func (p *Plugin) Explain(ctx context.Context, query string, params any) (Plan, error) {
	answer, err := p.call(ctx, explainQuery, "", arguments{"query": query, "params": params})
	plan := Plan{Answer: answer}
	if err != nil {
		return plan, err
	}
	v, err := answer.value(answer.from.site.ExplainQuery.Name)
	var failed *ToolError
	switch {
	case errors.As(err, &failed):
		return plan, err
	case err != nil:
		plan.Plan = answer.Text // as Postgres MCP Pro draws it
		return plan, nil
	}
	if list, ok := v.([]any); ok && len(list) == 1 && answer.from.site.RowBlocks {
		v = list[0]
	}
	plan.Plan = plain(v)
	if o, ok := v.(object); ok {
		plan.Warnings = o.texts("warnings")
		if inner := o.get("plan", "QUERY PLAN", "data"); inner != nil {
			plan.Plan = plain(inner)
		}
	}
	return plan, nil
}
