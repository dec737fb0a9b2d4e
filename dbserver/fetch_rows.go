package dbserver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// fetchRows serves fetch_rows: the rows behind those that the handle came with.
// A handle says where it is, so it can be used again, and gives the same rows.
func (r *request) fetchRows(ctx context.Context) ([]byte, error) {
	start := time.Now()
	kept, at, err := r.server.spools.find(r.args.Handle, r.who.Principal)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(r.server.databases, kept.database) {
		return nil, expired(fmt.Sprintf("the database %s is not served any more, or in another way, and its rows are not kept", kept.database.Name))
	}
	r.database = kept.database
	limit, notice := r.rowLimit()
	page, err := kept.page(ctx, at, r.pageLimits(limit))
	if errors.Is(err, errGone) {
		return nil, notKept()
	}
	if err != nil {
		return nil, err
	}
	a := r.newAnswer(page.Page, start, notice)
	a.fetched, a.before, a.complete = true, kept.first+at.row, page.complete
	if page.large > 0 {
		a.notices = append(a.notices, fmt.Sprintf("%d rows were left out, for each of them alone has more than %d bytes: select fewer columns", page.large, r.MaxBytes))
	}
	all := kept.first + page.kept
	switch {
	case page.more:
		a.handle = r.server.spools.handle(kept, page.next, r.server.handleTTL)
	case page.TruncatedBy == byTime:
		a.notices = append(a.notices, fmt.Sprintf("the result has %d rows or more; reading it took too long, and what is behind them was not kept: aggregate or filter in SQL", all))
	case page.TruncatedBy == byError:
		a.notices = append(a.notices, fmt.Sprintf("reading failed behind row %d: %s", all, page.err))
	case page.complete != nil && !*page.complete:
		a.notices = append(a.notices, fmt.Sprintf("the result has more than %d rows, and those behind them were not kept: aggregate or filter in SQL", all))
	}
	return a.encode(), nil
}
