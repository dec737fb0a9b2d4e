package dbserver

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

// A queryPlan is what explain_query tells.
type queryPlan struct {
	Database string          `json:"database"`
	Format   string          `json:"format"`
	Plan     json.RawMessage `json:"plan,omitempty"`
	Cost     *float64        `json:"cost,omitempty"`
	Rows     *float64        `json:"rows_estimate,omitempty"`
	Warnings []string        `json:"warnings"`
}

// explainQuery serves explain_query.
func (r *request) explainQuery(ctx context.Context) ([]byte, error) {
	plan, err := r.engine.Explain(ctx, r.who, engine.Statement{SQL: r.args.Query, Params: r.args.Params, Timeout: r.timeout()})
	if err != nil {
		return nil, err
	}
	told := queryPlan{Database: r.Name, Format: plan.Format, Plan: plan.JSON, Cost: plan.Cost, Rows: plan.Rows, Warnings: plan.Warnings}
	if told.Warnings == nil {
		told.Warnings = []string{}
	}
	if len(told.Plan) > r.MaxBytes {
		told.Plan = nil
		told.Warnings = append(told.Warnings, "the plan is larger than an answer may be: only its text is here, cut")
		plan.Text = plan.Text[:min(len(plan.Text), r.MaxBytes)]
	}
	text := untrusted + plan.Text
	for _, w := range told.Warnings {
		text = strings.TrimSuffix(text, "\n") + "\nWarning: " + w
	}
	return marshalResult(text, told)
}
