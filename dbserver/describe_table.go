package dbserver

import (
	"context"
	"errors"
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
		d, err := r.describe(ctx, name)
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

// describe describes the table that a caller writes so.
func (r *request) describe(ctx context.Context, written string) (*engine.Description, error) {
	var unknown *engine.Error
	for _, n := range namesOf(written) {
		d, err := r.engine.Describe(ctx, r.who, n, int(r.args.SampleRows))
		var told *engine.Error
		if !errors.As(err, &told) || told.Code != engine.UnknownObject && told.Code != engine.InvalidArgument {
			return d, err
		}
		if unknown == nil || len(unknown.DidYouMean) == 0 && len(told.DidYouMean) > 0 {
			unknown = told
		}
	}
	return nil, unknown
}

// nameText writes a name so that namesOf finds it first. It is in quotes where
// its dots, or quotes, would be taken for others.
func nameText(n engine.Name) string {
	if !strings.Contains(n.Schema+n.Table, ".") && !strings.HasPrefix(n.String(), `"`) {
		return n.String()
	}
	quoted := `"` + strings.ReplaceAll(n.Table, `"`, `""`) + `"`
	if n.Schema != "" {
		quoted = `"` + strings.ReplaceAll(n.Schema, `"`, `""`) + `".` + quoted
	}
	return quoted
}

// maxNames is how many names a text can be.
const maxNames = 8

// namesOf are the names that a text can be, the likeliest first: table, or
// schema.table, where both can have dots or be in double quotes.
func namesOf(s string) []engine.Name {
	var names []engine.Name
	if first, rest, ok := unquote(s); ok && rest == "" {
		names = append(names, engine.Name{Table: first})
	} else if second, end, ok2 := unquote(strings.TrimPrefix(rest, ".")); ok && ok2 && rest[0] == '.' && end == "" {
		names = append(names, engine.Name{Schema: first, Table: second})
	}
	for i := len(s) - 2; i > 0 && len(names) < maxNames-1; i-- {
		if s[i] == '.' {
			names = append(names, engine.Name{Schema: s[:i], Table: s[i+1:]})
		}
	}
	return append(names, engine.Name{Table: s})
}

// unquote reads a name in double quotes, and returns what is behind it.
func unquote(s string) (name, rest string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		return "", s, false
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		if s[i] == '"' {
			if i++; i == len(s) || s[i] != '"' {
				return b.String(), s[i:], b.Len() > 0
			}
		}
		b.WriteByte(s[i])
	}
	return "", s, false
}

// writeDescription writes a description for a reader of text.
func writeDescription(b *strings.Builder, d *engine.Description) {
	fmt.Fprintf(b, "%s %s", d.Type, result.TSV(nameText(engine.Name{Schema: d.Schema, Table: d.Name})))
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
