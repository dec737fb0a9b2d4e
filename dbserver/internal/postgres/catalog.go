package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/sqltext"
)

// catalogTime is how long a look into the catalog may take.
const catalogTime = 0 // that of a statement

// mostColumns is how many columns of a table a list names.
const mostColumns = 200

// kinds are the kinds of tables, by pg_class.relkind.
var kinds = map[string]string{"r": "table", "p": "table", "v": "view", "m": "materialized_view", "f": "foreign"}

// listed are the tables that can be read, but for the parts of partitioned ones
// and those of the system: $1 is a schema that is wanted, or empty.
const listed = ` FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
	WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
	AND CASE WHEN $1 = '' THEN n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)' ELSE n.nspname = $1 END
	AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_any_column_privilege(c.oid, 'SELECT')`

// estimate is about how many rows a table has, NULL if nobody has counted: of a
// partitioned one as many as its parts.
const estimate = `CASE c.relkind WHEN 'v' THEN NULL
	WHEN 'p' THEN (SELECT CASE WHEN bool_or(l.reltuples < 0) THEN NULL ELSE sum(l.reltuples)::int8 END
		FROM pg_catalog.pg_partition_tree(c.oid) p JOIN pg_catalog.pg_class l ON l.oid = p.relid WHERE p.isleaf)
	ELSE CASE WHEN c.reltuples < 0 THEN NULL ELSE c.reltuples::int8 END END`

// Tables lists tables. A name is in the order of its bytes.
func (d *Database) Tables(ctx context.Context, who engine.Caller, f engine.Filter) (engine.Tables, error) {
	var list engine.Tables
	err := d.run(ctx, d.reads, who, catalogTime, func(_ context.Context, t *tx) error {
		list = engine.Tables{}
		// What the policy hides is left out of each part, so there may be need of
		// another.
		for after := f.After; ; {
			n := 0
			err := t.rows(tablesQuery(f, after), func(v [][]byte) error {
				n++
				found, err := tableOf(v)
				if err != nil {
					return err
				}
				after = engine.Name{Schema: found.Schema, Table: found.Name}
				if !d.options.Policy.Readable(after) {
					return nil
				}
				if len(list.Tables) == f.Limit {
					list.More = true
				} else {
					list.Tables = append(list.Tables, *found)
				}
				return nil
			})
			if err != nil || list.More || n <= f.Limit {
				return err
			}
		}
	})
	return list, err
}

func tablesQuery(f engine.Filter, after engine.Name) query {
	extra := "NULL, NULL, NULL, NULL"
	if f.Detail >= engine.Summary {
		columns := "NULL"
		if f.Detail == engine.Full {
			columns = fmt.Sprintf(`(SELECT json_agg(a.attname || ' ' || pg_catalog.format_type(a.atttypid, a.atttypmod) ORDER BY a.attnum)
				FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum BETWEEN 1 AND %d AND NOT a.attisdropped)`, mostColumns)
		}
		extra = `(SELECT count(*) FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), ` +
			estimate + `, pg_catalog.obj_description(c.oid, 'pg_class'), ` + columns
	}
	pattern := strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`, `*`, `%`, `?`, `_`).Replace(f.Pattern)
	if !strings.ContainsAny(f.Pattern, "*?") {
		pattern = "%" + pattern + "%"
	}
	var relkinds []string
	for relkind, kind := range kinds {
		if len(f.Kinds) == 0 || slices.Contains(f.Kinds, kind) {
			relkinds = append(relkinds, relkind)
		}
	}
	return query{`SELECT n.nspname, c.relname, c.relkind, ` + extra + listed + `
		AND c.relname ILIKE $2 AND c.relkind::text = ANY ($3::text[])
		AND (n.nspname COLLATE "C", c.relname COLLATE "C") > ($4::text COLLATE "C", $5::text COLLATE "C")
		ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C" LIMIT $6::int8`,
		[][]byte{[]byte(f.Schema), []byte(pattern), arrayOf(relkinds), []byte(after.Schema), []byte(after.Table), fmt.Append(nil, f.Limit+1)}}
}

func tableOf(v [][]byte) (*engine.Table, error) {
	t := &engine.Table{Schema: string(v[0]), Name: string(v[1]), Type: kinds[string(v[2])],
		ColumnCount: count(v[3]), Estimate: count(v[4]), Comment: comment(v[5])}
	if v[6] != nil {
		if err := json.Unmarshal(v[6], &t.Columns); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// count is a number, nil for NULL.
func count(v []byte) *int64 {
	if v == nil {
		return nil
	}
	var n int64
	if _, err := fmt.Sscan(string(v), &n); err != nil {
		return nil
	}
	return &n
}

// comment is what somebody has said about an object, in as much room as there is
// for it.
func comment(v []byte) string {
	const most = 300
	n := min(len(v), most)
	for n > 0 && n < len(v) && !utf8.RuneStart(v[n]) {
		n--
	}
	if n < len(v) {
		return string(v[:n]) + "…"
	}
	return string(v)
}

// mostNear is among how many names those like an unknown one are looked for.
const mostNear = 5000

// suggest finds names like one that the server did not know.
func (d *Database) suggest(ctx context.Context, told *engine.Error, pg *pgconn.PgError, sql string) {
	if told.Code != engine.UnknownObject || told.DidYouMean != nil {
		return
	}
	name := unknownName(pg.Message)
	if name == "" {
		return
	}
	var q query
	switch pg.Code {
	case "42P01":
		q = query{`SELECT n.nspname, c.relname, pg_catalog.pg_table_is_visible(c.oid), ''` + listed + fmt.Sprintf(" LIMIT %d", mostNear), [][]byte{{}}}
	case "42703":
		q = query{`SELECT n.nspname, c.relname, true, a.attname FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
			JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
			WHERE c.relname = ANY ($1::name[]) AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND a.attnum > 0 AND NOT a.attisdropped
			AND pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT')` + fmt.Sprintf(" LIMIT %d", mostNear),
			[][]byte{arrayOf(namesIn(sql))}}
	default:
		return
	}
	var names []string
	err := d.readCatalog(ctx, q, func(v [][]byte) {
		n := engine.Name{Schema: string(v[0]), Table: string(v[1])}
		switch {
		case !d.options.Policy.Readable(n):
		case len(v[3]) > 0:
			names = append(names, string(v[3]))
		case string(v[2]) == "t":
			names = append(names, n.Table)
		default:
			names = append(names, n.String())
		}
	})
	if err == nil {
		name = name[strings.LastIndexByte(name, '.')+1:] // without its schema or alias
		slices.Sort(names)
		told.DidYouMean = engine.Near(name, slices.Compact(names))
	}
}

// unknownName is the name in quotes in a message such as relation "x" does not
// exist, or before the words where it has none.
func unknownName(message string) string {
	if _, rest, ok := strings.Cut(message, `"`); ok {
		name, _, _ := strings.Cut(rest, `"`)
		return name
	}
	if _, rest, ok := strings.Cut(message, "column "); ok {
		name, _, _ := strings.Cut(rest, " ")
		return name
	}
	return ""
}

// namesIn are the names and words in a statement, as PostgreSQL keeps them.
func namesIn(sql string) []string {
	var names []string
	for i := 0; i < len(sql); {
		kind, next := dialect.Next(sql, i)
		if kind == sqltext.Word || kind == sqltext.Quoted {
			names = append(names, fold(sql[i:next]))
		}
		i = next
	}
	return names
}

// readCatalog runs a query of ours on the connection for it, on a new one if
// that has died. row may be called again for rows that it has seen.
func (d *Database) readCatalog(ctx context.Context, q query, row func(v [][]byte)) error {
	for fresh := false; ; fresh = true {
		c, err := d.catalog.acquire(ctx, fresh)
		if err != nil {
			return err
		}
		r := c.pg.ExecParams(ctx, q.sql, q.params, nil, nil, nil)
		for r.NextRow() {
			row(r.Values())
		}
		_, err = r.Close()
		died := c.used && dead(err) && ctx.Err() == nil
		// One that the server was asked to end a statement on may end another yet.
		d.catalog.releaseOnce(c, func() bool { return ctx.Err() == nil && !c.pg.IsClosed() && !c.pg.IsBusy() })
		if !died || fresh {
			return err
		}
	}
}
