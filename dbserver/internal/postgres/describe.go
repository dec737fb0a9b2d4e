package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
)

// Describe describes a table or view. A name without a schema is one that
// statements find without, or one that a single schema has.
func (d *Database) Describe(ctx context.Context, who engine.Caller, n engine.Name, samples int) (*engine.Description, error) {
	var about *engine.Description
	err := d.run(ctx, d.reads, who, catalogTime, func(_ context.Context, t *tx) error {
		oid, err := d.find(t, n)
		if err != nil {
			return err
		}
		about, err = d.describe(t, oid)
		return err
	})
	if err != nil {
		return nil, err
	}
	if samples > 0 {
		if err := d.sample(ctx, who, about, samples); err != nil {
			return nil, err
		}
	}
	return about, nil
}

// find returns the number of a table. Of names that differ in case alone the
// one that is exact counts.
func (d *Database) find(t *tx, n engine.Name) (oid string, err error) {
	type candidate struct {
		oid     string
		name    engine.Name
		visible bool
	}
	var found []candidate
	err = t.rows(query{`SELECT c.oid, n.nspname, c.relname, pg_catalog.pg_table_is_visible(c.oid)
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND lower(c.relname) = lower($2::text COLLATE "C") AND ($1 = '' OR lower(n.nspname) = lower($1::text COLLATE "C"))
		AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_any_column_privilege(c.oid, 'SELECT')
		ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C" LIMIT 100`, [][]byte{[]byte(n.Schema), []byte(n.Table)}},
		func(v [][]byte) error {
			c := candidate{string(v[0]), engine.Name{Schema: string(v[1]), Table: string(v[2])}, string(v[3]) == "t"}
			if d.options.Policy.Readable(c.name) {
				found = append(found, c)
			}
			return nil
		})
	if err != nil {
		return "", err
	}
	for _, better := range []func(candidate) bool{
		func(c candidate) bool {
			return c.name.Table == n.Table && (n.Schema == "" || c.name.Schema == n.Schema)
		},
		func(c candidate) bool { return c.visible },
	} {
		if fewer := slices.DeleteFunc(slices.Clone(found), func(c candidate) bool { return !better(c) }); len(fewer) > 0 {
			found = fewer
		}
	}
	switch len(found) {
	case 1:
		return found[0].oid, nil
	case 0:
		return "", d.unknownTable(t, n)
	}
	told := &engine.Error{Code: engine.AmbiguousObject, Layer: engine.LayerInput, Message: fmt.Sprintf("several tables are called %s", n),
		Next: "write the schema in front of the name"}
	for _, c := range found[:min(len(found), 10)] {
		told.DidYouMean = append(told.DidYouMean, c.name.String())
	}
	return "", told
}

func (d *Database) unknownTable(t *tx, n engine.Name) error {
	var names []string
	err := t.rows(query{`SELECT n.nspname, c.relname` + listed + fmt.Sprintf(" LIMIT %d", mostNear), [][]byte{[]byte(n.Schema)}},
		func(v [][]byte) error {
			if other := (engine.Name{Schema: string(v[0]), Table: string(v[1])}); d.options.Policy.Readable(other) {
				names = append(names, other.String())
			}
			return nil
		})
	if err != nil {
		return err
	}
	bare := make([]string, len(names))
	full := map[string]string{}
	for i, name := range names {
		_, bare[i], _ = strings.Cut(name, ".")
		full[bare[i]] = name
	}
	told := &engine.Error{Code: engine.UnknownObject, Layer: engine.LayerInput, Message: fmt.Sprintf("no such table: %s", n),
		Next: "call list_tables for the names of tables"}
	for _, near := range engine.Near(n.Table, bare) {
		told.DidYouMean = append(told.DidYouMean, full[near])
	}
	return told
}

// describe reads what the catalog knows of a table, in one round trip.
func (d *Database) describe(t *tx, oid string) (*engine.Description, error) {
	about := &engine.Description{Columns: []engine.Column{}, ForeignKeys: []engine.Key{}, ReferencedBy: []engine.Key{}, Indexes: []engine.Index{}}
	parts := []struct {
		sql string
		row func(v [][]byte) error
	}{
		{`SELECT n.nspname, c.relname, c.relkind, ` + estimate + `, pg_catalog.obj_description(c.oid, 'pg_class')
			FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1::oid`,
			func(v [][]byte) error {
				about.Schema, about.Name, about.Type = string(v[0]), string(v[1]), kinds[string(v[2])]
				about.Estimate, about.Comment = count(v[3]), comment(v[4])
				return nil
			}},
		{`SELECT a.attname, a.atttypid, a.atttypmod, t.typname, et.typname, NOT a.attnotnull,
				pg_catalog.pg_get_expr(ad.adbin, ad.adrelid), COALESCE(array_position(i.indkey::int2[], a.attnum), -1),
				a.attgenerated <> '' OR a.attidentity <> '', pg_catalog.col_description(a.attrelid, a.attnum),
				(SELECT json_agg(e.enumlabel ORDER BY e.enumsortorder) FROM pg_catalog.pg_enum e WHERE e.enumtypid = COALESCE(NULLIF(t.typbasetype, 0), t.oid))
			FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
			LEFT JOIN pg_catalog.pg_type et ON et.oid = t.typelem AND t.typcategory = 'A'
			LEFT JOIN pg_catalog.pg_attrdef ad ON ad.adrelid = a.attrelid AND ad.adnum = a.attnum
			LEFT JOIN pg_catalog.pg_index i ON i.indrelid = a.attrelid AND i.indisprimary
			WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`,
			func(v [][]byte) error { return d.column(about, v) }},
		{keysQuery("conrelid", "confrelid", "conkey", "confkey"), func(v [][]byte) error { return d.addKey(&about.ForeignKeys, about, v) }},
		{keysQuery("confrelid", "conrelid", "confkey", "conkey"), func(v [][]byte) error { return d.addKey(&about.ReferencedBy, about, v) }},
		{`SELECT c.relname, i.indisunique, i.indpred IS NOT NULL, (SELECT json_agg(a.attname ORDER BY k.n)
				FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, n)
				LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum AND k.attnum > 0 WHERE k.n <= i.indnkeyatts)
			FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
			WHERE i.indrelid = $1::oid AND i.indislive ORDER BY c.relname COLLATE "C"`,
			func(v [][]byte) error {
				i := engine.Index{Name: string(v[0]), Unique: string(v[1]) == "t", Partial: string(v[2]) == "t"}
				err := json.Unmarshal(v[3], &i.Columns)
				about.Indexes = append(about.Indexes, i)
				return err
			}},
		{`SELECT pg_catalog.pg_get_expr(conbin, conrelid) FROM pg_catalog.pg_constraint WHERE conrelid = $1::oid AND contype = 'c'
			ORDER BY conname COLLATE "C"`,
			func(v [][]byte) error { about.Checks = append(about.Checks, comment(v[0])); return nil }},
	}
	for _, p := range parts {
		t.send(query{p.sql, [][]byte{[]byte(oid)}})
	}
	if err := t.flush(); err != nil {
		return nil, err
	}
	for _, p := range parts {
		r, err := t.next()
		if err != nil {
			return nil, err
		}
		for r.next() {
			if err := p.row(r.values); err != nil {
				return nil, err
			}
		}
		if _, err := r.close(); err != nil {
			return nil, err
		}
	}
	return about, nil
}

func (d *Database) column(about *engine.Description, v [][]byte) error {
	t := typ{oid: number32(v[1]), name: string(v[3])}
	modifier := int32(-1)
	if n, err := strconv.ParseInt(text(v[2]), 10, 32); err == nil {
		modifier = int32(n)
	}
	c := engine.Column{Name: string(v[0]), Type: t.with(modifier), Nullable: string(v[5]) == "t", Generated: string(v[8]) == "t", Comment: comment(v[9])}
	if v[4] != nil {
		c.Type = typ{name: string(v[4])}.with(modifier) + "[]"
	}
	if v[6] != nil {
		def := comment(v[6])
		c.Default = &def
	}
	if n := count(v[7]); n != nil {
		c.PrimaryKey = *n + 1 // the positions of an int2vector start at 0
	}
	if v[10] != nil {
		if err := json.Unmarshal(v[10], &c.Values); err != nil {
			return err
		}
	}
	c.Policy = string(d.options.Policy.MaskOf(engine.Name{Schema: about.Schema, Table: about.Name}, c.Name))
	about.Columns = append(about.Columns, c)
	return nil
}

// keysQuery returns the query for foreign keys on one side, ours, with the table
// and the columns of the other. Keys of partitions are those of their table.
func keysQuery(ours, theirs, ourKey, theirKey string) string {
	columns := func(table, key string) string {
		return fmt.Sprintf(`(SELECT json_agg(a.attname ORDER BY u.n) FROM unnest(k.%s) WITH ORDINALITY u(attnum, n)
			JOIN pg_catalog.pg_attribute a ON a.attrelid = k.%s AND a.attnum = u.attnum)`, key, table)
	}
	return fmt.Sprintf(`SELECT n.nspname, c.relname, %s, %s FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.%s
		JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE k.%s = $1::oid AND k.contype = 'f' AND k.conparentid = 0
		ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C", k.conname COLLATE "C" LIMIT 500`,
		columns("conrelid", "conkey"), columns("confrelid", "confkey"), theirs, ours)
}

func (d *Database) addKey(to *[]engine.Key, about *engine.Description, v [][]byte) error {
	other := engine.Name{Schema: string(v[0]), Table: string(v[1])}
	if !d.options.Policy.Readable(other) {
		return nil
	}
	if other.Schema == about.Schema {
		other.Schema = ""
	}
	k := engine.Key{Table: other.String()}
	err := errors.Join(json.Unmarshal(v[2], &k.Columns), json.Unmarshal(v[3], &k.Referenced))
	*to = append(*to, k)
	return err
}

// Samples come from the first sampledRows rows, as far as they are read within
// sampleTime, and are cut to sampleLength characters.
const (
	sampledRows  = 100
	sampleLength = 60
	sampleTime   = 2 * time.Second
)

// sample adds values of each column that no policy hides, neither itself nor
// what it comes from. A table that is too slow, or of which not all may be read,
// goes without.
func (d *Database) sample(ctx context.Context, who engine.Caller, about *engine.Description, most int) error {
	var columns []*engine.Column
	var names []string
	for i := range about.Columns {
		if c := &about.Columns[i]; c.Policy == "" {
			columns, names = append(columns, c), append(names, quoteName(c.Name))
		}
	}
	if len(columns) == 0 {
		return nil
	}
	from := fmt.Sprintf(" FROM %s.%s LIMIT %d", quoteName(about.Schema), quoteName(about.Name), sampledRows)
	all := &reading{sql: "SELECT " + strings.Join(names, ", ") + from, calls: &calls{}}
	all.planOf = all.sql
	err := d.run(ctx, d.reads, who, sampleTime, func(_ context.Context, t *tx) error {
		hidden, err := all.permit(d, t)
		if err != nil {
			return err
		}
		var shown []*engine.Column
		var texts []string
		for i, c := range columns {
			if i >= len(hidden) || hidden[i] == result.Unmasked {
				shown = append(shown, c)
				texts = append(texts, fmt.Sprintf("pg_catalog.left(%s::pg_catalog.text, %d)", names[i], sampleLength))
			}
		}
		return t.rows(query{sql: "SELECT " + strings.Join(texts, ", ") + from}, func(v [][]byte) error {
			for i, c := range shown {
				if s := string(v[i]); v[i] != nil && len(c.Samples) < most && !slices.Contains(c.Samples, s) {
					c.Samples = append(c.Samples, s)
				}
			}
			return nil
		})
	})
	var told *engine.Error
	if errors.As(err, &told) || errors.Is(err, engine.ErrTimeout) {
		return nil
	}
	return err
}
