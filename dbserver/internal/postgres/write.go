package postgres

import (
	"context"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
)

func (d *Database) Write(ctx context.Context, who engine.Caller, s engine.Statement, w engine.Write, out *result.Writer) (engine.Written, error) {
	return engine.Written{}, nil
}
