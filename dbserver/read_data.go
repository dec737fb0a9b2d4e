package dbserver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
)

// spoolTime is how long a statement may go on yielding rows behind its answer,
// though no longer than half of what others wait for its connection.
const spoolTime = 5 * time.Second

// errSpoolTime is the cause with which that time ends.
var errSpoolTime = errors.New("the time for reading on is up")

// readData serves read_data.
func (r *request) readData(ctx context.Context) ([]byte, error) {
	limit, notice := r.rowLimit()
	start := time.Now()
	got := r.read(ctx, r.pageLimits(limit))
	if got.kept != nil {
		a := r.newAnswer(got.page, start, notice)
		a.handle = r.server.spools.handle(got.kept, position{}, r.server.handleTTL)
		return a.encode(), nil
	}
	defer got.out.Release() // when the answer is written
	if got.err != nil {
		return nil, got.err
	}
	return r.newAnswer(got.page, start, notice).encode(), nil
}

func (r *request) pageLimits(rows int) result.Limits {
	return result.Limits{Rows: rows, Bytes: r.MaxBytes, Cell: r.MaxCellBytes}
}

func (r *request) newAnswer(page result.Page, start time.Time, notice string) *pageAnswer {
	r.rows = int64(page.Count)
	a := &pageAnswer{Page: page, database: r.Name, shape: r.args.Shape, elapsed: time.Since(start), maxBytes: r.MaxBytes, maxCell: r.MaxCellBytes,
		ttl: r.server.handleTTL}
	if notice != "" {
		a.notices = append(a.notices, notice)
	}
	return a
}

// A firstPage is what a statement yielded until its first page was full or there
// was no more. With kept there is more, and out is still in use.
type firstPage struct {
	page result.Page
	out  *result.Writer
	kept *spool
	err  error
}

// read runs the statement of the request until the first page of its rows is
// there. If there are more, the reading goes on behind the answer, and they are
// kept.
func (r *request) read(ctx context.Context, limits result.Limits) firstPage {
	statement := engine.Statement{SQL: r.args.Query, Params: r.args.Params, Timeout: r.timeout(),
		MaxRows: limits.Rows + max(r.SpoolRows, 0) + 1} // one tells that there are more
	if r.SpoolRows < 0 {
		out := result.NewWriter(limits, nil)
		err := r.engine.Read(ctx, r.who, statement, out)
		return firstPage{out.Page(), out, nil, err}
	}
	reading, end := context.WithCancelCause(context.WithoutCancel(ctx))
	unfollow := context.AfterFunc(ctx, func() { end(context.Cause(ctx)) }) // which ends with the server, too
	answer := make(chan firstPage, 1)
	r.server.readers.run(func() {
		defer end(nil)
		var kept *spool
		var timer *time.Timer
		var unlive func() bool
		var out *result.Writer
		out = result.NewWriter(limits, func(row, text []byte) bool {
			if kept == nil {
				if !unfollow() {
					return false // ctx has ended before the page was full
				}
				unlive = context.AfterFunc(r.database.life, func() { end(ErrClosed) })
				page := out.Page()
				kept = r.server.spools.open(r, page)
				timer = time.AfterFunc(min(spoolTime, r.AcquireTimeout/2), func() { end(errSpoolTime) })
				answer <- firstPage{page, out, kept, nil}
			}
			cut, invalid := out.Flaws()
			return kept.add(row, text, cut, invalid)
		})
		err := r.engine.Read(reading, r.who, statement, out)
		if kept == nil {
			if unfollow(); err == nil && ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			answer <- firstPage{out.Page(), out, nil, err}
			return
		}
		timer.Stop()
		unlive()
		kept.finish(r.endOf(reading, err))
	})
	return <-answer
}

// endOf says why reading on behind the answer has ended.
func (r *request) endOf(reading context.Context, err error) (cut string, _ error) {
	switch {
	case err == nil:
		return result.ByNone, nil
	case errors.Is(context.Cause(reading), errSpoolTime):
		return byTime, nil
	}
	if told, _ := explain(reading, r, err); told != nil {
		err = told
	}
	return byError, err
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
