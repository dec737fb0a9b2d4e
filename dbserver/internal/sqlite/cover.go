package sqlite

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
	"github.com/mcpool-dev/mcpool/dbserver/internal/sqltext"
)

// A cover is what the policy hides of a database, as its schema was when the
// connection was opened. All names are in lower case.
//
// On a connection that reads, each table with masked columns lies behind a
// temporary view of its name, which has NULL or the first character in their
// place, and what may not be read behind one that is denied. Views of the
// database that read such a table are made again as temporary views, so that
// they read what lies in front. SQLite looks for a name in temp first: a
// statement can only get past that by writing main. before a name, which check
// refuses.
//
// The guard sees each column that is read, and denies those of a masked table
// that are read by another way than its temporary view. It is not enough
// alone: columns that a join compares because of USING or NATURAL, and what a
// FULL JOIN returns of them, are never asked about (SQLite 3.54, select.c,
// sqlite3ProcessJoin, and resolve.c, extendFJMatch), and a CTE can have the
// name of the temporary view.
type cover struct {
	version  int64                             // of the schema
	masks    map[string]map[string]engine.With // by table and column
	hidden   map[string]bool                   // tables, views and indexes that may not be read
	reserved map[string]bool                   // tables of SQLite's own that would show what is hidden
	refused  map[string]bool                   // columns, of any table, that are not there for callers
	denies   bool                              // there are tables that may not be read
}

// An object is an entry of the schema.
type object struct{ kind, name, table, sql string }

var errSchemaChanged = errors.New("the schema was changed by another program")

// protectColumns finds out what the policy hides, and puts the temporary views
// in front of it.
func (c *conn) protectColumns(ctx context.Context) error {
	if err := c.each(ctx, "BEGIN", nil); err != nil {
		return err
	}
	version, err := c.single(ctx, "PRAGMA schema_version")
	if err != nil {
		return err
	}
	var objects []object
	err = c.each(ctx, "SELECT CASE WHEN type = 'table' AND rootpage = 0 THEN 'virtual' ELSE type END, name, tbl_name, sql FROM sqlite_schema",
		func(row *stmt) error {
			objects = append(objects, object{row.text(0), row.text(1), strings.ToLower(row.text(2)), row.text(3)})
			return nil
		})
	if err != nil {
		return err
	}
	k := &cover{version: *version, masks: map[string]map[string]engine.With{}, hidden: map[string]bool{},
		reserved: map[string]bool{}, refused: map[string]bool{}}
	columns := map[string][]string{}
	for _, o := range objects {
		if o.kind == "index" || o.kind == "trigger" {
			continue
		}
		if columns[o.name], err = c.cover1(ctx, k, &o); err != nil {
			return err
		}
	}
	k.reserve()
	k.close(objects, columns, c.writing)
	c.cover, c.guard.cover = k, k
	if !c.writing {
		if err := c.shadow(ctx, k, objects, columns); err != nil {
			return err
		}
	}
	return c.each(ctx, "COMMIT", nil)
}

// cover1 adds a table or view to a cover, and returns its columns.
func (c *conn) cover1(ctx context.Context, k *cover, o *object) (columns []string, err error) {
	name, policy := engine.Name{Schema: "main", Table: o.name}, &c.options.Policy
	if !policy.Readable(name) {
		k.hidden[strings.ToLower(o.name)], k.denies = true, true
		return nil, nil
	}
	var generated []string
	err = c.each(ctx, "SELECT name, hidden FROM pragma_table_xinfo(?1, 'main') WHERE hidden <> 1", func(row *stmt) error {
		columns = append(columns, row.text(0))
		if row.integer(1) > 1 {
			generated = append(generated, row.text(0))
		}
		return nil
	}, o.name)
	switch {
	case err == nil || ctx.Err() != nil:
	case o.kind == "view":
		return nil, nil // it reads what is not there, and nobody can read it
	case o.kind == "virtual":
		k.hidden[strings.ToLower(o.name)] = true // of a module that is not here, so whose columns its shadow tables have nobody can tell
		return nil, nil
	}
	masks := map[string]engine.With{}
	for _, column := range columns {
		if with := policy.MaskOf(name, column); with != "" {
			masks[strings.ToLower(column)] = with
		}
	}
	if len(masks) == 0 {
		return columns, err
	}
	// What they are generated from is not asked about.
	for _, column := range generated {
		if masks[strings.ToLower(column)] == "" {
			masks[strings.ToLower(column)] = engine.WithNull
		}
	}
	for column, with := range masks {
		if with == engine.WithRefuse {
			k.refused[column] = true
		}
	}
	k.masks[strings.ToLower(o.name)] = masks
	return columns, err
}

// close hides what would show what is hidden: virtual tables with a column of
// the name of a masked one, as that of a full-text index has, their shadow
// tables, indexes, and views that read what is hidden, or get past it.
func (k *cover) close(objects []object, columns map[string][]string, writing bool) {
	secret := map[string]bool{}
	for _, masks := range k.masks {
		for column := range masks {
			secret[column] = true
		}
	}
	for _, o := range objects {
		if o.kind != "virtual" {
			continue
		}
		name := strings.ToLower(o.name)
		for _, column := range columns[o.name] {
			if secret[strings.ToLower(column)] {
				k.hidden[name] = true
			}
		}
		if !k.hidden[name] {
			continue
		}
		delete(k.masks, name)
		for _, shadow := range objects {
			if strings.HasPrefix(strings.ToLower(shadow.name), name+"_") {
				k.hidden[strings.ToLower(shadow.name)] = true
			}
		}
	}
	for more := true; more; {
		more = false
		for _, o := range objects {
			name := strings.ToLower(o.name)
			if !k.hidden[name] && (o.kind == "view" && k.past(o.sql, writing) || o.kind == "index" && k.hidden[o.table]) {
				k.hidden[name], more = true, true
				delete(k.masks, name)
			}
		}
	}
}

// past reports whether a view reads what may not be read, or may get past what
// lies in front of a masked table; where writing is set nothing does.
func (k *cover) past(sql string, writing bool) bool {
	masked, unseen := false, false
	for n := range names(sql) {
		masked = masked || k.masks[n.name] != nil
		if writing {
			unseen = unseen || n.word && (n.name == "using" || n.name == "natural")
		} else {
			unseen = unseen || n.name == "main" && n.qualifies
		}
		if k.hidden[n.name] || k.reserved[n.name] {
			return true
		}
	}
	return masked && unseen
}

// reserve keeps tables of SQLite's own from being read: samples of values, pages
// of the file, and, where there are tables that may not be read, the schema.
func (k *cover) reserve() {
	for _, name := range []string{"sqlite_stat1", "sqlite_stat2", "sqlite_stat3", "sqlite_stat4", "dbstat", "sqlite_dbpage"} {
		k.reserved[name] = true
	}
	if k.denies {
		for _, name := range []string{"sqlite_schema", "sqlite_master", "sqlite_temp_schema", "sqlite_temp_master", "sqlite_sequence"} {
			k.reserved[name] = true
		}
	}
}

// shadow makes the temporary views.
func (c *conn) shadow(ctx context.Context, k *cover, objects []object, columns map[string][]string) error {
	again := k.readers(objects)
	for _, o := range objects {
		name := strings.ToLower(o.name)
		from, body := "main."+quoteName(o.name), ""
		switch {
		case o.kind == "index" || o.kind == "trigger" || strings.HasPrefix(name, "sqlite_"):
			continue
		case k.hidden[name]:
			body = "SELECT name FROM main.sqlite_schema"
		case again[name] && k.masks[name] != nil:
			inner := "mcpool behind " + o.name
			k.reserved[strings.ToLower(inner)] = true
			if err := c.tempView(ctx, inner, afterName(o.sql)); err != nil {
				return err
			}
			from = quoteName(inner)
			body = "SELECT " + shown(columns[o.name], k.masks[name]) + " FROM " + from
		case again[name]:
			if err := c.tempView(ctx, o.name, afterName(o.sql)); err != nil {
				return err
			}
			continue
		case k.masks[name] != nil:
			ordered, err := c.ordersBy(ctx, o.name, k.masks[name])
			if err != nil {
				return err
			}
			if ordered {
				from += " NOT INDEXED"
			}
			body = "SELECT " + shown(columns[o.name], k.masks[name]) + " FROM " + from
		default:
			continue
		}
		if err := c.tempView(ctx, o.name, " AS "+body); err != nil {
			return err
		}
	}
	return nil
}

func (c *conn) tempView(ctx context.Context, name, rest string) error {
	if err := c.each(ctx, "CREATE TEMP VIEW "+quoteName(name)+rest, nil); err != nil {
		return fmt.Errorf("hide what the policy hides of %s: %w", name, err)
	}
	return nil
}

// readers are the views that read a table with masked columns, or another such
// view.
func (k *cover) readers(objects []object) map[string]bool {
	list := map[string]bool{}
	for more := true; more; {
		more = false
		for _, o := range objects {
			view := strings.ToLower(o.name)
			if o.kind != "view" || list[view] || k.hidden[view] {
				continue
			}
			for n := range names(afterName(o.sql)) {
				if k.masks[n.name] != nil || list[n.name] {
					list[view], more = true, true
					break
				}
			}
		}
	}
	return list
}

// afterName is what stands behind the name in a CREATE VIEW statement, which
// SQLite stores as CREATE VIEW, the name without its schema, and the rest as it
// was written.
func afterName(create string) string {
	words := 0
	for i := 0; i < len(create); {
		kind, next := sqltext.SQLite.Next(create, i)
		i = next
		if kind == sqltext.Space || kind == sqltext.Comment {
			continue
		}
		if words++; words == 3 {
			return " " + create[i:]
		}
	}
	return ""
}

// ordersBy reports whether an index has masked values in it, or expressions,
// which may be of some. Rows read by it would come in their order.
func (c *conn) ordersBy(ctx context.Context, table string, masks map[string]engine.With) (bool, error) {
	found := false
	err := c.each(ctx, `SELECT x.name, i.partial FROM pragma_index_list(?1, 'main') i JOIN pragma_index_xinfo(i.name, 'main') x WHERE x.key`,
		func(row *stmt) error {
			found = found || row.integer(1) != 0 || row.null(0) || masks[strings.ToLower(row.text(0))] != ""
			return nil
		}, table)
	return found, err
}

// shown are the columns of a table as they may be read.
func shown(columns []string, masks map[string]engine.With) string {
	var list []string
	for _, column := range columns {
		c := quoteName(column)
		switch masks[strings.ToLower(column)] {
		case engine.WithRefuse:
		case engine.WithNull:
			list = append(list, "NULL AS "+c)
		case engine.WithPartial:
			list = append(list, fmt.Sprintf("CASE typeof(%s) WHEN 'null' THEN NULL WHEN 'blob' THEN '***' ELSE substr(%[1]s, 1, 1) || '***' END AS %[1]s", c))
		default:
			list = append(list, c)
		}
	}
	if list == nil {
		return "NULL AS mcpool_masked"
	}
	return strings.Join(list, ", ")
}

// begin begins the transaction of a call. One that only reads needs none unless
// something is hidden: then the database has to stay what it was when the
// connection was opened.
func (c *conn) begin(ctx context.Context) error {
	statement := "BEGIN IMMEDIATE"
	if !c.writing {
		if c.cover == nil {
			return nil
		}
		statement = "BEGIN"
	}
	if err := c.each(ctx, statement, nil); err != nil || c.cover == nil {
		return err
	}
	version, err := c.single(ctx, "PRAGMA schema_version")
	if err == nil && *version != c.cover.version {
		c.lost = true
		err = errSchemaChanged
	}
	return err
}

// A name is a token that can be a name.
type name struct {
	name      string // in lower case, without quotes
	word      bool   // it has no quotes
	qualifies bool   // a dot follows
}

// names are the tokens of a text that can be names: SQLite takes texts in
// single quotes for names, too, where only a name can stand.
func names(sql string) func(yield func(name) bool) {
	return func(yield func(name) bool) {
		var last *name
		for i := 0; i < len(sql); {
			kind, next := sqltext.SQLite.Next(sql, i)
			token := sql[i:next]
			i = next
			switch kind {
			case sqltext.Space, sqltext.Comment:
				continue
			}
			if last != nil {
				last.qualifies = token == "."
				if !yield(*last) {
					return
				}
				last = nil
			}
			switch kind {
			case sqltext.Word, sqltext.Quoted, sqltext.String:
				last = &name{name: strings.ToLower(unquoteName(token)), word: kind == sqltext.Word}
			}
		}
		if last != nil {
			yield(*last)
		}
	}
}

// check refuses a statement that could get past what hides things, see [cover].
func (k *cover) check(sql string, writing bool) error {
	if k == nil {
		return nil
	}
	for n := range names(sql) {
		switch {
		case k.reserved[n.name], writing && k.hidden[n.name]:
			return &engine.Error{Code: engine.AccessDenied, Layer: engine.LayerPolicy, Message: n.name + " may not be read",
				Next: "use the tables that list_tables lists"}
		case !writing && n.name == "main" && n.qualifies:
			return masked("a name may not begin with main. where tables or columns are hidden")
		case writing && n.word && (n.name == "using" || n.name == "natural"):
			return masked("a statement that writes may not join with USING or NATURAL where tables or columns are hidden")
		}
	}
	return nil
}

func masked(message string) *engine.Error {
	return &engine.Error{Code: engine.ColumnMasked, Layer: engine.LayerPolicy, Message: message,
		Next: "write names of tables alone, join with ON, and leave out what describe_table shows a policy for"}
}

func refused(column string) *engine.Error {
	return masked(fmt.Sprintf("column %s may not be read", column))
}

// refuses reports whether a column of that name is hidden as if it were not
// there.
func (k *cover) refuses(column string) bool { return k != nil && k.refused[strings.ToLower(column)] }

// with is how a column is hidden, "" for not at all.
func (k *cover) with(table, column string) engine.With {
	if k == nil {
		return ""
	}
	return k.masks[strings.ToLower(table)][strings.ToLower(column)]
}

// readPolicy says with which code it is denied to read a column, "" for not at
// all.
func (g *guard) readPolicy(table, column, schema, within string) (code string) {
	k, t, w := g.cover, strings.ToLower(table), strings.ToLower(within)
	with := k.masks[t][strings.ToLower(column)]
	switch {
	case k.hidden[w], k.hidden[t] && schema != "temp", k.reserved[t] && (schema != "temp" || k.masks[w] == nil):
		return engine.AccessDenied
	case k.masks[t] == nil:
	case schema == "temp":
		if with != "" {
			if g.shown == nil {
				g.shown = map[string]engine.With{}
			}
			g.shown[strings.ToLower(column)] = with
		}
	case g.writing && with != "", !g.writing && column != "" && w != t:
		return engine.ColumnMasked
	}
	return ""
}

// tells reports whether a pragma may tell what it is asked about.
func (g *guard) tells(pragma, about string) bool {
	if g.cover == nil || g.mode == own {
		return true
	}
	return !g.cover.hidden[strings.ToLower(about)] && !(g.cover.denies && pragma == "table_list")
}

// masked says which columns of a result are masked: those that were named as
// they are and have no origin but the temporary view.
func (s *stmt) masked(columns []result.Column) []result.Column {
	for i := range columns {
		c := &columns[i]
		if with, ok := s.guard.shown[strings.ToLower(c.Name)]; ok && c.Origin == "" {
			c.Mask = with.Result()
		}
	}
	return columns
}
