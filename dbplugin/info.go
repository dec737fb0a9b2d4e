package dbplugin

import (
	"context"
	"errors"
)

// Info is the answer of DatabaseInfo.
type Info struct {
	Answer
	Database  string
	Engine    string
	Version   string
	File      string
	SizeBytes int64  // zero if not known
	Mode      string // such as read_only
	Status    string // such as ready or down
	LastError string
	ReadOnly  ReadOnly
	Limits    map[string]int64
	Pool      map[string]int64
}

// ReadOnly is what makes a database read-only.
type ReadOnly struct {
	Verified   bool // a statement that writes was tried and denied
	EnforcedBy []string
}

// DatabaseInfo returns what the server says of its database: engine, status,
// limits, and what makes it read-only. What it does not say is empty.
func (p *Plugin) DatabaseInfo(ctx context.Context) (Info, error) {
	answer, err := p.call(ctx, databaseInfo, "", nil)
	info := Info{Answer: answer}
	if err != nil {
		return info, err
	}
	tool := answer.from.site.DatabaseInfo.Name
	v, err := answer.value(tool)
	if err != nil {
		return info, err
	}
	if list, ok := v.([]any); ok && len(list) == 1 {
		v = list[0]
	}
	o, ok := v.(object)
	if !ok {
		return info, anotherForm(tool, errors.New("it is no object"))
	}
	info.Database, info.Engine, info.Version = o.text("database"), o.text("engine"), o.text("version", "pg_version")
	info.File, info.Mode, info.Status, info.LastError = o.text("file"), o.text("mode"), o.text("status"), o.text("last_error")
	if n := o.integer("size_bytes"); n != nil {
		info.SizeBytes = *n
	}
	readOnly, _ := o.get("read_only").(object)
	info.ReadOnly.Verified, _ = readOnly.flag("verified")
	info.ReadOnly.EnforcedBy = readOnly.texts("enforced_by")
	info.Limits, info.Pool = o.integers("limits"), o.integers("pool")
	return info, nil
}

// integers is get for an object of integers; nil for none.
func (o object) integers(name string) map[string]int64 {
	inner, _ := o.get(name).(object)
	if inner == nil {
		return nil
	}
	all := map[string]int64{}
	for _, m := range inner {
		if n, ok := integer(m.value); ok {
			all[m.name] = n
		}
	}
	return all
}
