package main

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// tableMiB is how large the table is of which the first rows are read.
var tableMiB int

// The rows of the table of PostgreSQL: with what PostgreSQL has around it, one
// takes up rowBytes.
const (
	rowBytes = 256
	rowText  = 200
)

// idleRest is how long servers rest before their memory is measured.
const idleRest = 10 * time.Second

// manyRows and firstRows are of tables that openDatabases makes.
func manyRows() dbQuery {
	return dbQuery{"1000 rows × 3 columns", "select id, name, price from item", 1000, func(i int) []any {
		return []any{float64(i + 1), fmt.Sprintf("item %04d", i+1), float64(i+1) / 4}
	}}
}

func firstRows() dbQuery {
	return dbQuery{"first 100 rows of a large table", "select id, note, price from large", 100, func(i int) []any {
		note := fmt.Sprintf("row %d ", i+1)
		return []any{float64(i + 1), note + strings.Repeat(".", rowText-len(note)), float64(i+1) / 4}
	}}
}

// databases are what is served, and who serves it.
type databases struct {
	folder  string
	all     []database // one of each engine
	servers []*dbServer
	capped  *dbServer // for firstRows
	large   int64     // bytes of its table
	missing []string  // what is not there, and why
}

// openDatabases makes the databases and starts the servers. What is not
// installed is missing, and what ours does not serve.
func openDatabases() *databases {
	folder, err := os.MkdirTemp("", "mcpool-bench-database-")
	must(err)
	d := &databases{folder: folder, all: []database{{file: filepath.Join(folder, "bench.db")}}}
	makeSQLite(d.all[0].file)
	if p, err := startPostgres(); err != nil {
		d.missing = append(d.missing, fmt.Sprintf("%s: %v", postgresEngine, err))
	} else {
		d.all = append(d.all, database{postgres: p})
		d.large = makePostgres(p)
	}
	ours := ourProgram(filepath.Join(folder, "mcpool"))
	build := exec.Command("go", "build", "-o", filepath.Join(folder, "mcpool"), "./cmd/mcpool")
	build.Dir, build.Stderr = "..", os.Stderr
	must(build.Run())
	for _, on := range d.all {
		for _, p := range []dbProgram{ours, toolbox, dbhub} {
			if s := d.serve(p, on); s != nil {
				d.servers = append(d.servers, s)
			}
		}
		if on.postgres != nil {
			d.capped = d.serve(dbhubCapped, on)
		}
	}
	return d
}

// serve returns nil if the server is missing.
func (d *databases) serve(p dbProgram, on database) *dbServer {
	s, err := serve(p, on, d.folder)
	if err != nil {
		d.missing = append(d.missing, fmt.Sprintf("%s over %s: %v", p.name, on.engine(), err))
	}
	return s
}

func (d *databases) stop() {
	for _, s := range d.servers {
		s.stop()
	}
	if d.capped != nil {
		d.capped.stop()
	}
	for _, on := range d.all {
		if on.postgres != nil {
			on.postgres.stop()
		}
	}
	must(os.RemoveAll(d.folder))
}

func makeSQLite(file string) {
	db, err := sql.Open("sqlite", file)
	must(err)
	_, err = db.Exec(`CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, price REAL);
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
		INSERT INTO item SELECT i, printf('item %04d', i), i / 4.0 FROM n`)
	must(err)
	must(db.Close())
}

// makePostgres makes the same table, and the large one, whose bytes it returns.
func makePostgres(p *postgres) (large int64) {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, p.urlOf(postgresOwner))
	must(err)
	for _, statement := range []string{
		`CREATE TABLE item (id int PRIMARY KEY, name text, price float8)`,
		`INSERT INTO item SELECT i, 'item ' || lpad(i::text, 4, '0'), i / 4.0 FROM generate_series(1, 1000) i`,
		fmt.Sprintf(`CREATE UNLOGGED TABLE large AS SELECT i AS id, rpad('row ' || i || ' ', %d, '.') AS note, i / 4.0::float8 AS price
			FROM generate_series(1, %d) i`, rowText, max(firstRows().rows, tableMiB<<20/rowBytes)),
		`CREATE ROLE ` + postgresReader + ` LOGIN`,
		`GRANT SELECT ON ALL TABLES IN SCHEMA public TO ` + postgresReader,
		`VACUUM ANALYZE item`,
		`CHECKPOINT`, // rather than while others are measured
	} {
		_, err := conn.Exec(ctx, statement)
		must(err)
	}
	must(conn.QueryRow(ctx, `SELECT pg_table_size('large')`).Scan(&large))
	must(conn.Close(ctx))
	return large
}

// dbCallers are how many callers there are at once.
var dbCallers = []int{1, 8, 64}

// A dbCase is one query of one database by so many callers.
type dbCase struct {
	database
	dbQuery
	callers int
}

func (c dbCase) title() string {
	return fmt.Sprintf("%s, %s, callers: %d", c.engine(), c.name, c.callers)
}

// cases are those that all servers are measured in; the first rows of the large
// table are one of its own.
func (d *databases) cases() []dbCase {
	var list []dbCase
	for _, on := range d.all {
		for _, q := range []dbQuery{selectOne(), manyRows()} {
			for _, callers := range dbCallers {
				list = append(list, dbCase{on, q, callers})
			}
		}
	}
	return list
}

// of makes a case one that can be measured.
func (d *databases) of(c dbCase) benchCase {
	b := benchCase{name: c.title(), long: true}
	for _, s := range d.servers {
		if s.engine == c.engine() {
			b.open = append(b.open, func() trial { return rawTrial(s, c.dbQuery, c.callers) })
		}
	}
	b.open = append(b.open, func() trial { return driverTrial(c.database, c.dbQuery, c.callers) })
	return b
}

// first is the case of the large table, if there is one.
func (d *databases) first() []benchCase {
	var list []benchCase
	for _, on := range d.all {
		if on.postgres == nil {
			continue
		}
		b := benchCase{name: firstRows().name, long: true}
		for _, s := range append([]*dbServer{d.capped}, d.servers...) {
			if s != nil && s.engine == postgresEngine && (s == d.capped || s.name == dbName) {
				b.open = append(b.open, func() trial { return rawTrial(s, firstRows(), 1) })
			}
		}
		b.open = append(b.open, func() trial { return cursorTrial(on.postgres, firstRows()) })
		list = append(list, b)
	}
	return list
}

// rest has all servers rest, and returns the memory that each has then.
func (d *databases) rest() map[*dbServer]float64 {
	time.Sleep(idleRest)
	memory := map[*dbServer]float64{}
	for _, s := range d.servers {
		memory[s] = s.resident()
	}
	return memory
}

// measureDatabase measures our database server beside those of others, all of
// them on the same databases, and beside the drivers alone. The rounds are
// longer than elsewhere: the processor time of other programs is told in ticks.
func measureDatabase(rounds int, round time.Duration) string {
	d := openDatabases()
	defer d.stop()
	memory := d.rest()
	r := &results{cases: map[string]map[string]series{}}
	for _, c := range d.cases() {
		maps.Copy(r.cases, measure([]benchCase{d.of(c)}, rounds, longer*round))
	}
	for _, c := range d.first() {
		maps.Copy(r.cases, measure([]benchCase{c}, rounds, longer*round))
	}
	var b strings.Builder
	writeVerdicts(&b, r.served(d, memory))
	for _, missing := range d.missing {
		fmt.Fprintf(&b, "\nNot there: %s.\n", missing)
	}
	b.WriteString("\n| call | server | calls/s | ours ÷ it | processor time | p50 | p99 |\n|---|---|--:|--:|--:|--:|--:|\n")
	for _, c := range d.cases() {
		r.servedRows(&b, c.title())
	}
	for _, c := range d.first() {
		r.servedRows(&b, c.name)
	}
	if d.large > 0 {
		fmt.Fprintf(&b, "\nPostgreSQL %s; its large table has %.2f GB.\n", d.all[len(d.all)-1].postgres.version, float64(d.large)/1e9)
	}
	b.WriteString("\n| server | of | idle memory | tools | tokens of both's | tokens of all |\n|---|---|--:|--:|--:|--:|\n")
	for _, s := range d.servers {
		both, all, count := s.definitions()
		fmt.Fprintf(&b, "| %s | %s | %.1f MB | %d | %d | %d |\n", s.name, s.engine, memory[s]/1e6, count, both/4, all/4)
	}
	return b.String()
}

func (r *results) servedRows(b *strings.Builder, title string) {
	ours := r.of(title, dbName)
	shown := title
	for _, subject := range []string{dbName, toolboxName, dbhubName, cappedName, driverName, cursorName} {
		s, ok := r.cases[title][subject]
		if !ok {
			continue
		}
		faster, latency := "", " | "
		if ours != nil {
			faster = fmt.Sprintf("%.2f", paired(s, ours, wall, ratio))
		}
		if s.median(p50) > 0 { // one caller alone
			latency = fmt.Sprintf("%.0f µs | %.0f µs", s.median(p50)/1000, s.median(p99)/1000)
		}
		fmt.Fprintf(b, "| %s | %s | %.0f | %s | %.1f µs | %s |\n", shown, subject, 1e9/s.median(wall), faster, s.median(cpu)/1000, latency)
		shown = ""
	}
}
