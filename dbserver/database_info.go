package dbserver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
)

// A databaseInfo is what database_info tells of a database.
type databaseInfo struct {
	Database    string           `json:"database"`
	Description string           `json:"description,omitempty"`
	Engine      string           `json:"engine"`
	Version     string           `json:"version"`
	Place       string           `json:"place,omitempty"`
	Size        int64            `json:"size_bytes,omitempty"`
	Mode        string           `json:"mode"`
	Status      string           `json:"status"`
	LastError   string           `json:"last_error,omitempty"`
	ReadOnly    *engine.Proof    `json:"read_only,omitempty"`
	Limits      map[string]int64 `json:"limits"`
	Pool        map[string]int64 `json:"pool"`
	Findings    []engine.Finding `json:"findings,omitempty"`
}

// databaseInfo serves database_info. It does not fail because a database is
// down: that is what it then tells.
func (r *request) databaseInfo(ctx context.Context) ([]byte, error) {
	if r.database != nil {
		info, err := r.database.info(ctx, r.who)
		if err != nil {
			return nil, err
		}
		return marshalResult(untrusted+info.text(), info)
	}
	list := make([]*databaseInfo, len(r.server.databases))
	errs := make([]error, len(list))
	var asking sync.WaitGroup
	for i, d := range r.server.databases {
		asking.Go(func() { list[i], errs[i] = d.info(ctx, r.who) })
	}
	asking.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	text := untrusted
	for _, info := range list {
		text += info.text()
	}
	return marshalResult(text, map[string]any{"databases": list})
}

func (d *database) info(ctx context.Context, who engine.Caller) (*databaseInfo, error) {
	told, err := d.state(ctx, who)
	if err != nil {
		return nil, err
	}
	if most := told.MaxConnections; most > 0 && d.opens > most {
		told.Findings = append(slices.Clone(told.Findings), engine.Finding{Severity: "warning",
			Message: fmt.Sprintf("the server takes %d connections, and the pools of the databases on it may have %d", most, d.opens),
			Fix:     "lower max_connections of the databases here, or raise it on the server"})
	}
	return &databaseInfo{Database: d.Name, Description: d.Description, Engine: told.Engine, Version: told.Version,
		Place: told.Place, Size: told.Size, Mode: d.Mode, Status: told.Status, LastError: told.LastError,
		ReadOnly: told.Proof, Limits: d.limitInfo(), Pool: told.Pool, Findings: told.Findings}, nil
}

// infoTime is how long a database has to tell how it is.
const infoTime = 3 * time.Second

// state asks a database how it is. Of one that has no connection free it tells
// at once what was known before, and how the connections are.
func (d *database) state(ctx context.Context, who engine.Caller) (engine.Info, error) {
	if info, busy := d.busy(); busy {
		return info, nil
	}
	within, cancel := context.WithTimeout(ctx, infoTime)
	defer cancel()
	info, err := d.engine.Info(within, who)
	switch {
	case err == nil && info.Status == "ready":
		d.known.Store(&info)
	case err != nil && ctx.Err() == nil && within.Err() != nil:
		if info, busy := d.busy(); busy {
			return info, nil
		}
		info.Status, info.LastError, info.Pool = "down", fmt.Sprintf("it did not answer in %v", infoTime), d.connections()
		return info, nil
	}
	return info, err
}

// busy tells of a database all of whose connections are in use.
func (d *database) busy() (info engine.Info, busy bool) {
	pool := d.connections()
	if pool["in_use"] < pool["max_connections"] {
		return info, false
	}
	info.Engine = d.Engine
	if known := d.known.Load(); known != nil {
		info = *known
	}
	info.Status, info.Pool = "busy", pool
	return info, true
}

// connections tells how they are, without asking the database.
func (d *database) connections() map[string]int64 {
	open := int64(d.engine.Open())
	d.turns.mu.Lock()
	defer d.turns.mu.Unlock()
	return map[string]int64{"max_connections": int64(d.turns.most), "open": open, "in_use": int64(d.turns.running),
		"waiting": int64(d.turns.waiting), "waited": int64(d.turns.waited)} // #nosec G115 -- counted one by one
}

func (d *database) limitInfo() map[string]int64 {
	return map[string]int64{
		"rows":                 int64(d.MaxRows),
		"default_rows":         int64(min(DefaultLimit, d.MaxRows)),
		"bytes":                int64(d.MaxBytes),
		"cell_bytes":           int64(d.MaxCellBytes),
		"spool_rows":           int64(max(d.SpoolRows, 0)),
		"spool_bytes":          int64(d.SpoolBytes),
		"blob_bytes":           result.BlobBytes,
		"statement_timeout_ms": d.Timeout.Milliseconds(),
		"lock_timeout_ms":      d.LockTimeout.Milliseconds(),
		"acquire_timeout_ms":   d.AcquireTimeout.Milliseconds(),
	}
}

// text returns the information for a reader of text.
func (i *databaseInfo) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s, %s, %s\n", i.Database, strings.TrimSpace(i.Engine+" "+i.Version), i.Mode, i.Status)
	if i.Description != "" {
		b.WriteString(i.Description + "\n")
	}
	if i.LastError != "" {
		fmt.Fprintf(&b, "last error: %s\n", i.LastError)
	}
	if i.Place != "" {
		fmt.Fprintf(&b, "at: %s\n", i.Place)
	}
	if p := i.ReadOnly; p != nil {
		fmt.Fprintf(&b, "read-only by: %s (verified: %t)\n", strings.Join(p.EnforcedBy, "; "), p.Verified)
		for _, w := range p.Warnings {
			fmt.Fprintf(&b, "warning: %s\n", w)
		}
	}
	for _, f := range i.Findings {
		fmt.Fprintf(&b, "%s: %s; %s\n", f.Severity, f.Message, f.Fix)
	}
	fmt.Fprintf(&b, "limits: %s\npool: %s\n", pairs(i.Limits), pairs(i.Pool))
	return b.String()
}

// pairs writes numbers with their names, in the order of these.
func pairs(m map[string]int64) string {
	var list []string
	for name, n := range m {
		list = append(list, fmt.Sprintf("%s %d", name, n))
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}
