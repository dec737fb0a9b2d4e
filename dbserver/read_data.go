package dbserver

import (
	"context"
	"fmt"
	"time"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
)

// readData serves read_data.
func (r *request) readData(ctx context.Context) ([]byte, error) {
	limit, notice := r.rowLimit()
	out := result.NewWriter(result.Limits{Rows: limit, Bytes: r.MaxBytes, Cell: r.MaxCellBytes}, nil)
	start := time.Now()
	if err := r.engine.Read(ctx, r.who, engine.Statement{SQL: r.args.Query, Params: r.args.Params, Timeout: r.timeout()}, out); err != nil {
		return nil, err
	}
	a := pageAnswer{Page: out.Page(), database: r.Name, shape: r.args.Shape, elapsed: time.Since(start), maxBytes: r.MaxBytes, maxCell: r.MaxCellBytes}
	r.rows = int64(a.Count)
	if notice != "" {
		a.notices = append(a.notices, notice)
	}
	return a.encode(), nil
}

// rowLimit returns the limit of a call, and what to say if it is not the one
// that was asked for.
func (r *request) rowLimit() (limit int, notice string) {
	asked, most := int(r.args.Limit), r.MaxRows
	switch {
	case asked == 0:
		return min(DefaultLimit, most), ""
	case asked > most:
		return most, fmt.Sprintf("limit was lowered to %d, the server's cap", most)
	}
	return asked, ""
}
