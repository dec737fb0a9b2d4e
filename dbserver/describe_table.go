package dbserver

import (
	"context"
	"fmt"
	"strings"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
)

// maxDescribed is how many tables one call can describe.
const maxDescribed = 20

// describeTable serves describe_table.
func (r *request) describeTable(ctx context.Context) ([]byte, error) {
	names := r.args.TableNames
	if r.args.TableName != "" {
		names = append([]string{r.args.TableName}, names...)
	}
	switch {
	case len(names) == 0:
		return nil, engine.Invalid("table_name or table_names is needed")
	case len(names) > maxDescribed:
		return nil, engine.Invalid("table_names has %d names, at most %d can be described at once", len(names), maxDescribed)
	}
	var b strings.Builder
	b.WriteString(untrusted)
	described := make([]*engine.Description, len(names))
	for i, name := range names {
		d, err := r.engine.Describe(ctx, r.who, nameOf(name), int(r.args.SampleRows))
		if err != nil {
			return nil, err
		}
		described[i] = d
		writeDescription(&b, d)
	}
	if len(r.args.TableNames) == 0 {
		return marshalResult(b.String(), described[0])
	}
	return marshalResult(b.String(), map[string]any{"tables": described})
}

// nameOf takes apart a name as callers write it: table, or schema.table. Parts
// can be in double quotes; without, the last dot divides.
func nameOf(s string) engine.Name {
	if schema, table, ok := strings.Cut(s, `"."`); ok && strings.HasPrefix(schema, `"`) && strings.HasSuffix(table, `"`) {
		return engine.Name{Schema: schema[1:], Table: strings.TrimSuffix(table, `"`)}
	}
	if len(s) > 2 && s[0] == '"' && s[len(s)-1] == '"' {
		return engine.Name{Table: strings.ReplaceAll(s[1:len(s)-1], `""`, `"`)}
	}
	if i := strings.LastIndexByte(s, '.'); i > 0 {
		return engine.Name{Schema: s[:i], Table: s[i+1:]}
	}
	return engine.Name{Table: s}
}

// writeDescription writes a description for a reader of text.
func writeDescription(b *strings.Builder, d *engine.Description) {
	fmt.Fprintf(b, "%s %s", d.Type, result.TSV(engine.Name{Schema: d.Schema, Table: d.Name}.String()))
	if d.Estimate != nil {
		fmt.Fprintf(b, ", about %d rows", *d.Estimate)
	}
	if d.Comment != "" {
		b.WriteString(": " + result.TSV(d.Comment))
	}
	b.WriteString("\ncolumn\ttype\tnullable\tdefault\tprimary_key\tcomment\n")
	for _, c := range d.Columns {
		def := `\N`
		if c.Default != nil {
			def = result.TSV(*c.Default)
		}
		fmt.Fprintf(b, "%s\t%s\t%t\t%s\t%d\t%s\n", result.TSV(c.Name), result.TSV(c.Type), c.Nullable, def, c.PrimaryKey, result.TSV(c.Comment))
		writeValues(b, "values", c.Values)
		writeValues(b, "samples", c.Samples)
		if c.Policy != "" {
			fmt.Fprintf(b, "  hidden: %s\n", c.Policy)
		}
	}
	for _, k := range d.ForeignKeys {
		fmt.Fprintf(b, "foreign key (%s) references %s (%s)\n", listText(k.Columns), result.TSV(k.Table), listText(k.Referenced))
	}
	for _, k := range d.ReferencedBy {
		fmt.Fprintf(b, "referenced by %s (%s) on (%s)\n", result.TSV(k.Table), listText(k.Columns), listText(k.Referenced))
	}
	for _, i := range d.Indexes {
		columns := make([]string, len(i.Columns))
		for n, c := range i.Columns {
			if columns[n] = "an expression"; c != nil {
				columns[n] = *c
			}
		}
		unique := ""
		if i.Unique {
			unique = "unique "
		}
		fmt.Fprintf(b, "%sindex %s (%s)\n", unique, result.TSV(i.Name), listText(columns))
	}
	for _, c := range d.Checks {
		fmt.Fprintf(b, "check %s\n", result.TSV(c))
	}
	for _, n := range d.Notices {
		b.WriteString(n + "\n")
	}
}

func writeValues(b *strings.Builder, what string, values []string) {
	if len(values) > 0 {
		fmt.Fprintf(b, "  %s: %s\n", what, listText(values))
	}
}
