package dbplugin

import (
	"context"
	"errors"
	"fmt"
	"iter"
)

// ReadOptions say how to run a statement.
type ReadOptions struct {
	// Limit is the most rows that come back. Zero means Options.DefaultLimit.
	Limit int
	// Params are bound to the placeholders of the statement: a slice by their
	// order or a map by their names, of what encoding/json knows. A server that
	// binds none is [ErrUnsupported].
	Params any
}

// ReadData runs one statement that reads and returns its first rows. Nil
// options are the defaults. The server can have a lower cap of its own than the
// limit: Truncated says whether there are more rows.
func (p *Plugin) ReadData(ctx context.Context, query string, options *ReadOptions) (ResultSet, error) {
	var o ReadOptions
	if options != nil {
		o = *options
	}
	return p.readData(ctx, "", query, o)
}

func (p *Plugin) readData(ctx context.Context, database, query string, o ReadOptions) (ResultSet, error) {
	return p.rows(ctx, readData, database, o.Limit, arguments{"query": query, "params": o.Params})
}

// FetchRows returns the next rows of a result, at most limit of them; zero
// means Options.DefaultLimit. The handle is that of the result before. The
// server keeps a result for a time of its own.
func (p *Plugin) FetchRows(ctx context.Context, handle string, limit int) (ResultSet, error) {
	return p.rows(ctx, fetchRows, "", limit, arguments{"handle": handle})
}

// rows calls a tool that answers with rows, and keeps no more than the limit.
func (p *Plugin) rows(ctx context.Context, o operation, database string, limit int, a arguments) (ResultSet, error) {
	if limit < 0 {
		return ResultSet{}, fmt.Errorf("dbplugin: limit is %d: want 1 or more, or 0 for the default", limit)
	}
	if limit == 0 {
		limit = p.options.DefaultLimit
	}
	a["limit"] = limit
	answer, err := p.call(ctx, o, database, a)
	if err != nil {
		return ResultSet{Answer: answer}, err
	}
	tool := o.tool(&answer.from.site.Profile).Name
	v, err := answer.value(tool)
	if err != nil {
		return ResultSet{Answer: answer}, err
	}
	r, err := readResult(v)
	if err != nil {
		err = anotherForm(tool, err)
	}
	r.Answer = answer
	r.cut(limit)
	return r, err
}

// Pages runs one statement that reads and yields all its rows, page after page
// of at most ReadOptions.Limit rows. It ends with an error, and the page before
// it was good; where there are more rows and no way to get them that is
// [ErrUnsupported]. Pages that nobody asks for are not fetched.
func (p *Plugin) Pages(ctx context.Context, query string, options *ReadOptions) iter.Seq2[ResultSet, error] {
	return func(yield func(ResultSet, error) bool) {
		limit := 0
		if options != nil {
			limit = options.Limit
		}
		r, err := p.ReadData(ctx, query, options)
		for {
			if err != nil {
				yield(ResultSet{}, err)
				return
			}
			if !yield(r, nil) {
				return
			}
			switch {
			case r.Handle != "" && len(r.Rows) == 0:
				yield(ResultSet{}, errors.New("dbplugin: a page has no rows, and is not the last"))
				return
			case r.Handle != "":
				r, err = p.FetchRows(ctx, r.Handle, limit)
			case r.TruncatedBy == "rows" || r.TruncatedBy == "bytes":
				yield(ResultSet{}, fmt.Errorf("dbplugin: %s has more rows, and no handle to fetch them by: %w", r.from.site.Name, ErrUnsupported))
				return
			default:
				return
			}
		}
	}
}
