package sqlite

import (
	"context"
	"errors"
	"slices"
	"strings"

	lib "modernc.org/sqlite/lib"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
)

// sampledRows is how many rows of a table are looked at for samples, from its
// start; maxSample is how much is shown of one, in bytes.
const (
	sampledRows = 200
	maxSample   = 100
)

// readSamples adds some values that are in each column, each once. There are
// none of masked columns, of blobs, of what is hidden, and of views, which may
// take long.
func (c *conn) readSamples(ctx context.Context, t *table, d *engine.Description, most int) error {
	if t.kind != "table" || c.cover != nil && c.cover.hidden[strings.ToLower(t.name)] {
		return nil
	}
	var columns []*engine.Column
	var list []string
	for i := range d.Columns {
		if column := &d.Columns[i]; column.Policy == "" && !strings.EqualFold(column.Type, "BLOB") {
			columns = append(columns, column)
			list = append(list, quoteName(column.Name))
		}
	}
	if len(list) == 0 {
		return nil
	}
	err := c.each(ctx, "SELECT "+strings.Join(list, ",")+" FROM main."+quoteName(t.name)+" LIMIT ?1", func(row *stmt) error {
		for i, column := range columns {
			switch lib.Xsqlite3_column_type(row.tls, row.handle, int32(i)) {
			case lib.SQLITE_NULL, lib.SQLITE_BLOB:
				continue
			}
			if len(column.Samples) == most {
				continue
			}
			value, cut := result.Cut(row.view(i), maxSample)
			value = strings.ToValidUTF8(value, "\ufffd")
			if cut {
				value += "…"
			}
			if !slices.Contains(column.Samples, value) {
				column.Samples = append(column.Samples, strings.Clone(value))
			}
		}
		return nil
	}, int64(sampledRows))
	var f *failure
	if errors.As(err, &f) && f.code == lib.SQLITE_TOOBIG {
		return nil // some value is larger than may be read; samples end before it
	}
	return err
}
