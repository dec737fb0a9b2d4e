package sqlserver

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
)

// Read runs a statement that only reads.
func (d *Database) Read(ctx context.Context, who engine.Caller, s engine.Statement, out *result.Writer) error {
	stmt, bound, err := d.prepare(s)
	if err != nil {
		return err
	}
	return d.use(ctx, d.read, who, s.Timeout, func(ctx context.Context, q *session) error {
		if _, err := d.classify(ctx, q, stmt, bound); err != nil {
			return err
		}
		return q.within(ctx, q.facts.snapshot, s.MaxRows, func() (bool, error) {
			return false, q.stream(ctx, stmt.sql, bound, out)
		})
	})
}

// prepare takes a statement apart that is to do nothing but read.
func (d *Database) prepare(s engine.Statement) (*statement, params, error) {
	bound, err := bind(s.Params)
	if err != nil {
		return nil, nil, err
	}
	stmt, err := scan(s.SQL, len(bound))
	if err != nil {
		return nil, nil, err
	}
	return stmt, bound, stmt.reads(&d.options.Policy)
}

// classify has the server plan a statement, and refuses one that does more than
// read, or reads what is hidden.
func (d *Database) classify(ctx context.Context, q *session, stmt *statement, bound params) (*plan, error) {
	p, err := q.plan(ctx, stmt.sql, bound)
	if err != nil {
		if errors.Is(err, errNoPlan) {
			return nil, readOnly(err.Error())
		}
		return nil, d.explainStatement(ctx, q, stmt, err)
	}
	if err := p.reads(); err != nil {
		return nil, err
	}
	policy := &d.options.Policy
	if err := p.obeys(policy, q.facts.database); err != nil {
		return nil, err
	}
	return p, p.seen(policy, stmt.chains())
}

// stream runs a statement and hands its rows to out until there are no more or
// out wants no more.
func (q *session) stream(ctx context.Context, sql string, bound params, out *result.Writer) error {
	rows, err := q.query(ctx, "sp_executesql", bound.call(sql)...)
	if err != nil {
		return err
	}
	columns, types := columnsOf(rows)
	out.SetColumns(columns)
	row := make([]driver.Value, len(columns))
	for err == nil {
		if err = rows.Next(row); err == nil && !add(out, row, types) {
			break
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	// Close ends what is still running with an attention, whose echo is no error.
	if closeErr := rows.Close(); err == nil && out.Wants() {
		err = closeErr
	}
	return err
}

// Explain returns the plan of a statement that reads.
func (d *Database) Explain(ctx context.Context, who engine.Caller, s engine.Statement) (engine.Plan, error) {
	var told engine.Plan
	stmt, bound, err := d.prepare(s)
	if err != nil {
		return told, err
	}
	err = d.use(ctx, d.read, who, s.Timeout, func(ctx context.Context, q *session) error {
		p, err := d.classify(ctx, q, stmt, bound)
		if err == nil {
			told = p.tell()
		}
		return err
	})
	return told, err
}

const (
	// manyRows is from how many rows on reading a table whole is worth a warning.
	manyRows = 10_000
	// maxSteps is how many operators of a plan are shown.
	maxSteps = 200
)

// tell says what a plan does, in words.
func (p *plan) tell() engine.Plan {
	told := engine.Plan{Format: "text", Cost: p.statements[0].cost, Rows: p.statements[0].rows, Warnings: p.warnings}
	var b strings.Builder
	steps := 0
	var walk func(o *operator, depth int)
	walk = func(o *operator, depth int) {
		if steps++; steps > maxSteps {
			return
		}
		b.WriteString(strings.Repeat("  ", depth) + o.name)
		if o.logical != "" && o.logical != o.name {
			b.WriteString(" (" + o.logical + ")")
		}
		if o.object != "" {
			b.WriteString(" on " + o.object)
		}
		fmt.Fprintf(&b, ": about %.0f rows, cost %.4g\n", o.rows, o.cost)
		if o.object != "" && strings.HasSuffix(o.name, " Scan") && o.rows >= manyRows {
			told.Warnings = append(told.Warnings, fmt.Sprintf("%s is read whole or in large part, about %.0f rows: filter by an indexed column, see describe_table", o.object, o.rows))
		}
		for _, input := range o.inputs {
			walk(input, depth+1)
		}
	}
	if p.root == nil {
		b.WriteString("no table is read\n")
	} else {
		walk(p.root, 0)
	}
	if steps > maxSteps {
		fmt.Fprintf(&b, "… and more: the first %d steps are shown\n", maxSteps)
	}
	told.Text = b.String()
	return told
}
