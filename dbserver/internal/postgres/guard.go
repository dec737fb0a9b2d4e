package postgres

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/sqltext"
)

// calls are the names in a statement that may be those of functions. Which
// functions they are is for the catalog to say, in the transaction in which the
// statement runs and before it does.
type calls struct {
	names  []call
	policy *engine.Policy
	write  bool     // sequences may be moved
	known  *cleared // nil to look at all
}

// A call is a name that may be that of a function.
type call struct {
	schema, name string // no schema where it has none
	attribute    bool   // it stands behind a dot and no parenthesis follows it
}

// callsIn finds names that an opening parenthesis follows, and names behind a
// dot, because t.f is f(t), too, where t is a row
// (https://www.postgresql.org/docs/current/rowtypes.html#ROWTYPES-USAGE).
func callsIn(sql string, p *engine.Policy) (*calls, error) {
	c := &calls{policy: p}
	var name, before string // the name read last, and that before its dot
	named, dotted := false, false
	end := func() {
		if named && dotted {
			c.add("", name, true)
		}
		named, dotted, name, before = false, false, "", ""
	}
	for i := 0; i < len(sql); {
		kind, next := dialect.Next(sql, i)
		token := sql[i:next]
		i = next
		if kind == sqltext.Param && token[0] == ':' { // the end of a slice, a[1:f(2)]
			kind, token = sqltext.Word, token[1:]
			end()
		}
		switch {
		case kind == sqltext.Space || kind == sqltext.Comment:
		case kind == sqltext.Word || kind == sqltext.Quoted:
			if named { // two names in a row
				end()
			}
			if kind == sqltext.Quoted && token[0] != '"' {
				return nil, &engine.Error{Code: engine.FunctionDenied, Layer: engine.LayerGuard,
					Message: `names with Unicode escapes (U&"…") are not taken`, Next: "write the characters themselves"}
			}
			name, named = fold(token), true
			if f := tellers[name]; f != "" {
				c.add("", f, false)
			}
		case token == "." && named:
			if dotted { // of a.b.c the last two count, as with a database in front
				c.add("", name, true)
			}
			before, named, dotted = name, false, true
		case token == "(" && named:
			schema := ""
			if dotted {
				schema = before
			}
			c.add(schema, name, false)
			named, dotted = false, false
		case token == ".": // behind what is no name, such as (row).f
			named, dotted, before = false, true, ""
		default:
			end()
		}
	}
	end()
	return c, nil
}

// fold returns a name as PostgreSQL keeps it: letters of ASCII outside of quotes
// become small, and all is cut to the length of a name.
func fold(token string) string {
	if token[0] == '"' {
		token = strings.ReplaceAll(strings.TrimSuffix(token[1:], `"`), `""`, `"`)
	} else {
		token = strings.Map(func(r rune) rune {
			if 'A' <= r && r <= 'Z' {
				return r + 'a' - 'A'
			}
			return r
		}, token)
	}
	for len(token) > longestName {
		n := longestName
		for n > 0 && token[n]&0xc0 == 0x80 {
			n--
		}
		token = token[:n]
	}
	return token
}

func (c *calls) add(schema, name string, attribute bool) {
	if n := (call{schema, name, attribute}); !slices.Contains(c.names, n) {
		c.names = append(c.names, n)
	}
}

// any reports whether there are names to be looked at.
func (c *calls) any() bool { return len(c.names) > 0 }

// harmless are the volatile functions of PostgreSQL that only tell something.
const harmless = `random random_normal clock_timestamp timeofday gen_random_uuid uuidv4 uuidv7
	pg_database_size pg_tablespace_size pg_relation_size pg_table_size pg_indexes_size pg_total_relation_size
	pg_blocking_pids pg_safe_snapshot_blocking_pids pg_is_in_recovery pg_is_wal_replay_paused pg_last_xact_replay_timestamp
	pg_last_wal_receive_lsn pg_last_wal_replay_lsn pg_current_wal_lsn pg_current_wal_insert_lsn pg_current_wal_flush_lsn
	pg_notification_queue_usage pg_lock_status pg_stat_get_backend_idset pg_postmaster_start_time pg_conf_load_time
	bernoulli system`

// harmful are functions that run SQL given as text, reach files, other servers,
// sessions and settings, or tell what others run, however they are declared.
var harmful = regexp.MustCompile(`^(pg_read_.*|pg_ls_.*|pg_stat_file|pg_file_.*|lo_.*|lo(read|write)|dblink.*|postgres_fdw.*|pg_(try_)?advisory_.*` +
	`|pg_terminate_backend|pg_cancel_backend|pg_notify|set_config|setseed|setval|pg_sleep.*|pg_export_snapshot|pg_logical_.*` +
	`|pg_replication_.*|pg_create_.*|pg_drop_.*|pg_switch_.*|pg_rotate_.*|pg_reload_conf|pg_stat_reset.*|pg_stat_statements(_reset)?|pg_stat_get_(backend_)?activity` +
	`|pg_stat_clear_.*|pg_import_.*|pg_promote|pg_(wal|xact)_.*pause.*|pg_wal_replay_.*|pg_(start|stop)_backup|pg_backup_.*` +
	`|(query|table|cursor|schema|database)_to_xml.*|ts_stat|crosstab.*|connectby|xpath_table|brin_.*summarize.*|gin_clean_.*` +
	`|binary_upgrade_.*|pg_nextoid|txid_current|pg_current_xact_id|pg_log_.*|pg_restore_.*|pg_clear_.*|cron_.*|pg_stop_.*|pg_prewarm|autoprewarm_.*` +
	`|plpgsql_.*handler|currtid.*|http.*|pg_background.*)$`)

// tellers are views that show what other callers of the same role run, and the
// functions that they do it with; these are among the harmful.
var tellers = map[string]string{"pg_stat_activity": "pg_stat_get_activity", "pg_stat_statements": "pg_stat_statements"}

// sequences are what a statement that writes may call besides.
const sequences = `nextval currval lastval`

// deniedMark leads the names of denied functions in an error of the server.
const deniedMark = "mcpool denied:"

// lookQuery fails where a name is that of a function that must not be called:
// one that is volatile, in a family that is denied, written in a language that
// may do anything, or, where tables or columns are hidden, any that is not
// PostgreSQL's own, since it may read them in another name. Functions with an
// argument of type internal cannot be called by statements.
const lookQuery = `SELECT ('` + deniedMark + `' || pg_catalog.string_agg(DISTINCT CASE WHEN n.nspname = 'pg_catalog' THEN '' ELSE n.nspname || '.' END
		|| p.proname, ', '))::pg_catalog.int4
	FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.text[]), pg_catalog.unnest($3::pg_catalog.bool[]),
		pg_catalog.unnest($4::pg_catalog.bool[])) AS u(s, f, attribute, harmful)
	JOIN pg_catalog.pg_proc p ON p.proname = u.f::pg_catalog.name
	JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
	JOIN pg_catalog.pg_language l ON l.oid = p.prolang
	WHERE (u.s = '' OR n.nspname = u.s::pg_catalog.name)
		AND NOT 2281 = ANY (p.proargtypes)
		AND (NOT u.attribute OR p.pronargs - p.pronargdefaults <= 1 AND p.pronargs > 0 AND EXISTS (SELECT FROM pg_catalog.pg_type t
			WHERE t.oid = p.proargtypes[0] AND t.typtype IN ('c', 'p')))
		AND (u.harmful
			OR p.provolatile = 'v' AND NOT (n.nspname = 'pg_catalog' AND p.proname::pg_catalog.text = ANY ($5::pg_catalog.text[]))
			OR n.nspname <> 'pg_catalog' AND ($6::pg_catalog.bool OR NOT l.lanpltrusted AND l.lanname NOT IN ('internal', 'c', 'sql')))
		AND NOT COALESCE(n.nspname || '.' || p.proname ~ $7, false)
	HAVING count(*) > 0`

// query is the look at the functions.
func (c *calls) query() query {
	allowed := strings.Fields(harmless)
	if c.write {
		allowed = append(allowed, strings.Fields(sequences)...)
	}
	n := len(c.names)
	schemas, names, attributes, harms := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	for i, f := range c.names {
		schemas[i], names[i] = f.schema, f.name
		attributes[i], harms[i] = fmt.Sprint(f.attribute), fmt.Sprint(harmful.MatchString(f.name))
	}
	return query{lookQuery, [][]byte{arrayOf(schemas), arrayOf(names), arrayOf(attributes), arrayOf(harms), arrayOf(allowed),
		fmt.Append(nil, c.policy.Restricts()), allowPattern(c.policy.Functions)}}
}

// allowPattern is a regular expression for schema.function that patterns of
// either fit; nil for none.
func allowPattern(patterns []string) []byte {
	if len(patterns) == 0 {
		return nil
	}
	each := make([]string, len(patterns))
	for i, p := range patterns {
		p = strings.NewReplacer(`\*`, `[^.]*`, `\?`, `[^.]`).Replace(regexp.QuoteMeta(strings.ToLower(p)))
		if !strings.Contains(p, `\.`) {
			p = `[^.]*\.` + p
		}
		each[i] = p
	}
	return []byte("^(" + strings.Join(each, "|") + ")$")
}

// arrayOf is an array of texts in text form.
func arrayOf(list []string) []byte {
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	a := []byte{'{'}
	for i, s := range list {
		if i > 0 {
			a = append(a, ',')
		}
		a = append(append(append(a, '"'), escape.Replace(s)...), '"')
	}
	return append(a, '}')
}

// refusal turns what the look at functions failed with into what the caller is
// told.
func (c *calls) refusal(err error) error {
	if err == nil && c.known != nil {
		c.known.add(c.names)
	}
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return err
	}
	_, names, found := strings.Cut(pg.Message, deniedMark)
	if !found {
		return err
	}
	names = strings.TrimRight(names, `"»'”`)
	return &engine.Error{Code: engine.FunctionDenied, Layer: engine.LayerGuard,
		Message: fmt.Sprintf("not allowed to be called: %s", names),
		Next:    "leave it out; functions that only compute are allowed, and others where the configuration names them"}
}
