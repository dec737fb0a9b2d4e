package sqlite

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
)

// hiding is what the policy of these tests hides: email is NULL, phone its first
// character, ssn is not there, and neither are tables called secret.
var hiding = engine.Policy{
	DenyTables: []string{"secret*"},
	Masks: []engine.Mask{
		{Columns: []string{"users.email", "vip.email"}, With: engine.WithNull},
		{Columns: []string{"phone"}, With: engine.WithPartial},
		{Columns: []string{"ssn"}, With: engine.WithRefuse},
		{Columns: []string{"keyed.id"}, With: engine.WithNull},
	},
}

// secrets makes a database whose hidden values are made with salt: two that
// differ in it alone look alike to whoever may not read them. The order of the
// emails is another if salt is behind r.
func secrets(t testing.TB, salt string) string {
	t.Helper()
	return newDatabase(t, strings.ReplaceAll(`
		CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, email TEXT UNIQUE, phone TEXT, ssn TEXT, domain AS (substr(email, 1, 9)), manager INT REFERENCES users);
		INSERT INTO users VALUES (1, 'Ada', '%s@x.org', '1%s', 's%s', NULL), (2, 'Bob', 'r@x.org', '2%s', 't%s', 1), (3, 'Cyd', NULL, NULL, NULL, 1);
		CREATE INDEX users_email ON users (email);
		CREATE INDEX users_lower ON users (lower(email)) WHERE email > 'a';
		CREATE TABLE keyed (id INTEGER PRIMARY KEY, note TEXT);
		INSERT INTO keyed SELECT unicode('%s') + value * 7, 'k' FROM json_each('[1,2]');
		CREATE TABLE orders (id INTEGER PRIMARY KEY, user_id INT REFERENCES users, amount INT);
		INSERT INTO orders VALUES (10, 1, 5), (11, 2, 7);
		CREATE TABLE secret (id INTEGER PRIMARY KEY, word TEXT); INSERT INTO secret VALUES (1, 'w%s');
		CREATE INDEX secret_word ON secret (word);
		CREATE TABLE refers (id INTEGER PRIMARY KEY, secret INT REFERENCES secret);
		CREATE VIEW contacts AS SELECT id, name, email, phone FROM users;
		CREATE VIEW everybody AS SELECT * FROM users;
		CREATE VIEW deeper AS SELECT * FROM contacts;
		CREATE VIEW vip AS SELECT id, upper(email) AS email FROM users WHERE id = 1;
		CREATE VIEW joined AS SELECT email FROM users FULL JOIN (SELECT 'x' AS email WHERE 0) USING (email);
		CREATE VIEW oracle AS SELECT users.id FROM users NATURAL JOIN (SELECT '%s@x.org' AS email);
		CREATE VIEW spoof AS WITH users AS (SELECT email FROM main.users) SELECT * FROM users;
		CREATE VIEW numbers AS SELECT ssn FROM users;
		CREATE VIEW listed(a, b) AS SELECT id, phone FROM users;
		CREATE VIEW above AS SELECT * FROM joined;
		CREATE VIEW pages AS SELECT sql FROM sqlite_master FULL JOIN (SELECT 1 AS sql WHERE 0) USING (sql);
		CREATE VIEW spill AS SELECT word FROM secret;
		CREATE VIRTUAL TABLE found USING fts5(name, email, content='users', content_rowid='id');
		INSERT INTO found(found) VALUES ('rebuild');
		CREATE VIRTUAL TABLE phones USING fts5(phone);
		INSERT INTO phones SELECT phone FROM users WHERE phone IS NOT NULL;
		CREATE VIRTUAL TABLE terms USING fts5vocab('phones', 'row');
		CREATE VIRTUAL TABLE secret_boxes USING rtree(id, a, b);
		CREATE VIRTUAL TABLE plain USING fts5(body);
		INSERT INTO plain VALUES ('hello');`, "%s", salt))
}

func TestMasksHide(t *testing.T) {
	d := newEngine(t, engine.Options{DSN: secrets(t, "q1"), Policy: hiding})
	for _, c := range []struct{ sql, want string }{
		{"SELECT * FROM users", `[[1,"Ada",null,"1***",null,null],[2,"Bob",null,"2***",null,1],[3,"Cyd",null,null,null,1]]`},
		{"SELECT U.Email, upper(email), email || 'x', length(phone) FROM Users U WHERE id = 1", "[[null,null,null,4]]"},
		{"SELECT count(*) FROM users WHERE email IS NOT NULL OR email LIKE 'a%' OR email > ''", "[[0]]"},
		{"SELECT id FROM users WHERE phone = '1q1'", "[]"},
		{"SELECT id FROM users ORDER BY email, id DESC LIMIT 1", "[[3]]"},
		{"SELECT email, count(*) FROM users GROUP BY email", "[[null,3]]"},
		{"SELECT max(email), min(phone), group_concat(phone) FROM users", `[[null,"1***","1***,2***"]]`},
		{"SELECT (SELECT email FROM users WHERE id = 1), EXISTS (SELECT 1 FROM users WHERE email = 'q1@x.org')", "[[null,0]]"},
		{"WITH x AS (SELECT email FROM users) SELECT * FROM x UNION SELECT phone FROM users WHERE id = 2", `[[null],[null]]`}, // the column is masked as a whole
		{"SELECT u.id FROM users u JOIN (SELECT 'q1@x.org' AS email) USING (email)", "[]"},
		{"SELECT email FROM users FULL JOIN (SELECT 'x' AS email WHERE 0) USING (email)", "[[null],[null],[null]]"},
		{"SELECT * FROM users NATURAL JOIN (SELECT 'q1@x.org' AS email)", "[]"},
		{"SELECT value FROM users, json_each(json_array(email, phone)) WHERE users.id = 1", `[[null],["1***"]]`},
		{"SELECT json_group_array(email) FROM users", `[["[null,null,null]"]]`},
		{"SELECT row_number() OVER (ORDER BY email DESC, id), lag(email) OVER () FROM users WHERE id = 1", "[[1,null]]"},
		{"SELECT email, phone FROM contacts WHERE id = 1", `[[null,"1***"]]`},
		{"SELECT * FROM deeper WHERE id = 1", `[[1,"Ada",null,"1***"]]`},
		{"SELECT * FROM everybody WHERE id = 1", `[[1,"Ada",null,"1***",null,null]]`},
		{"SELECT * FROM joined", "[[null],[null],[null]]"},
		{"SELECT count(*) FROM oracle", "[[0]]"},
		{"SELECT * FROM above", "[[null],[null],[null]]"},
		{"SELECT * FROM vip", "[[1,null]]"},
		{"SELECT b FROM listed WHERE a = 1", `[["1***"]]`},
		{"SELECT * FROM keyed", `[[null,"k"],[null,"k"]]`},
		{"SELECT temp.users.email, domain FROM temp.users LIMIT 1", "[[null,null]]"},
		{"SELECT u.name, sum(o.amount) FROM orders o JOIN users u ON u.id = o.user_id GROUP BY u.id", `[["Ada",5],["Bob",7]]`},
		{"SELECT body FROM plain WHERE plain MATCH 'hello'", `[["hello"]]`},
		{"SELECT id FROM orders NATURAL JOIN (SELECT 5 AS amount)", "[[10]]"},
		{"SELECT name FROM pragma_table_info('users') WHERE name = 'email'", `[["email"]]`},
		{"EXPLAIN QUERY PLAN SELECT email FROM users WHERE email = 'a'", `[[3,0,216,"SCAN main.users"]]`},
	} {
		if got, err := rows(t, d, c.sql); err != nil || got != c.want {
			t.Errorf("%s:\ngot  %s, %v\nwant %s", c.sql, got, err, c.want)
		}
	}
}

// pries are attempts to get at what is hidden that are refused.
var pries = []struct{ sql, code string }{
	{"SELECT email FROM main.users", engine.ColumnMasked},
	{"SELECT id FROM main.users", engine.ColumnMasked},
	{"SELECT id FROM \ufeffmain.users", engine.ColumnMasked},
	{"SELECT id FROM \"main\" /* x */ . users", engine.ColumnMasked},
	{"SELECT id FROM [MAIN].users", engine.ColumnMasked},
	{"SELECT id FROM `main`.[users]", engine.ColumnMasked},
	{"SELECT id FROM 'main'.'users'", engine.ColumnMasked},
	{"SELECT 1 FROM main.users JOIN (SELECT 'q1@x.org' AS email) USING (email)", engine.ColumnMasked},
	{"SELECT email FROM main.users FULL JOIN (SELECT 1 AS email WHERE 0) USING (email)", engine.ColumnMasked},
	{"WITH users AS (SELECT email FROM main.users) SELECT * FROM users", engine.ColumnMasked},
	{"SELECT 'q1@x.org' IN main.contacts", engine.ColumnMasked},
	{"EXPLAIN SELECT email FROM main.users", engine.ColumnMasked},
	{"SELECT ssn FROM users", engine.ColumnMasked},
	{"SELECT u.SSN FROM users u", engine.ColumnMasked},
	{"SELECT id FROM users WHERE ssn = 'sq1'", engine.ColumnMasked},
	{"WITH users AS (SELECT * FROM users) SELECT * FROM users", engine.SyntaxError},
	{"SELECT rowid FROM users", engine.UnknownObject},
	{"SELECT rowid FROM keyed", engine.UnknownObject},
	{"SELECT _rowid_ FROM keyed", engine.UnknownObject},
	{"SELECT * FROM spoof", engine.AccessDenied},
	{"SELECT * FROM numbers", engine.ColumnMasked},
	{"SELECT * FROM \"mcpool behind vip\"", engine.AccessDenied},
	{"SELECT email FROM [MCPOOL behind vip] FULL JOIN (SELECT 1 AS email) USING (email)", engine.AccessDenied},
	{"SELECT email FROM found", engine.AccessDenied},
	{"SELECT rowid FROM found WHERE found MATCH 'q1'", engine.AccessDenied},
	{"SELECT count(*) FROM found('email:q1')", engine.SyntaxError},
	{"SELECT highlight(found, 1, '', '') FROM found", engine.AccessDenied},
	{"SELECT * FROM found_data", engine.AccessDenied},
	{"SELECT * FROM phones", engine.AccessDenied},
	{"SELECT c0 FROM phones_content", engine.AccessDenied},
	{"SELECT c0 FROM phones_content FULL JOIN (SELECT 1 AS c0) USING (c0)", engine.SyntaxError},
	{"SELECT term FROM terms", engine.AccessDenied},
	{"SELECT sample FROM sqlite_stat4", engine.AccessDenied},
	{"SELECT data FROM sqlite_dbpage", engine.AccessDenied},
	{"SELECT data FROM sqlite_dbpage FULL JOIN (SELECT 1 AS data) USING (data)", engine.AccessDenied},
	{"SELECT * FROM \"dbstat\"", engine.AccessDenied},
	{"SELECT * FROM secret", engine.AccessDenied},
	{"SELECT count(*) FROM secret", engine.AccessDenied},
	{"SELECT 1 FROM [Secret]", engine.AccessDenied},
	{"SELECT word FROM secret FULL JOIN (SELECT 1 AS word) USING (word)", engine.SyntaxError},
	{"SELECT id FROM orders WHERE id IN (SELECT id FROM secret)", engine.AccessDenied},
	{"SELECT 1 IN secret", engine.AccessDenied},
	{"SELECT 1 FROM temp.secret", engine.AccessDenied},
	{"SELECT 1 FROM main.secret", engine.ColumnMasked},
	{"SELECT * FROM pages", engine.AccessDenied},
	{"SELECT * FROM spill", engine.AccessDenied},
	{"SELECT * FROM secret_boxes", engine.AccessDenied},
	{"SELECT * FROM secret_boxes_node", engine.AccessDenied},
	{"SELECT sql FROM sqlite_schema", engine.AccessDenied},
	{"SELECT sql FROM sqlite_master", engine.AccessDenied},
	{"SELECT sql FROM sqlite_temp_schema", engine.AccessDenied},
	{"SELECT sql FROM sqlite_master FULL JOIN (SELECT 1 AS sql) USING (sql)", engine.AccessDenied},
	{"PRAGMA table_info(secret)", engine.AccessDenied},
	{"PRAGMA table_xinfo('SECRET')", engine.AccessDenied},
	{"SELECT * FROM pragma_table_info('secret')", engine.AccessDenied},
	{"SELECT * FROM pragma_index_info('secret_word')", engine.AccessDenied},
	{"SELECT * FROM pragma_foreign_key_list('secret')", engine.AccessDenied},
	{"PRAGMA table_list", engine.AccessDenied},
	{"SELECT name FROM pragma_table_list", engine.AccessDenied},
	{"SELECT name FROM pragma_table_list FULL JOIN (SELECT 1 AS name) USING (name)", engine.AccessDenied},
	{"CREATE TEMP VIEW x AS SELECT email FROM users", engine.ReadOnly},
	{"DROP VIEW temp.users", engine.ReadOnly},
}

func TestPryingIsRefused(t *testing.T) {
	d := newEngine(t, engine.Options{DSN: secrets(t, "q1"), Policy: hiding})
	for _, c := range pries {
		if got, err := rows(t, d, c.sql); code(err) != c.code {
			t.Errorf("%s: got %s, %v, want %s", c.sql, got, err, c.code)
		}
	}
}

// TestMaskedColumnsAreMarked is about what a result says of its columns.
func TestMaskedColumnsAreMarked(t *testing.T) {
	d := newEngine(t, engine.Options{DSN: secrets(t, "q1"), Policy: hiding})
	for sql, want := range map[string]string{
		"SELECT * FROM users":                         "id:0 name:0 email:1 phone:2 domain:1 manager:0",
		"SELECT email, phone AS p, name FROM users":   "email:1 p:0 name:0",
		"SELECT amount AS email FROM orders":          "email:0",
		"SELECT id, email FROM contacts":              "id:0 email:1",
		"SELECT x.phone FROM (SELECT * FROM users) x": "phone:2",
	} {
		out := result.NewWriter(result.Limits{Rows: 10, Bytes: 1 << 20, Cell: 100}, nil)
		if err := d.Read(t.Context(), engine.Caller{}, engine.Statement{SQL: sql}, out); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, c := range out.Page().Columns {
			got = append(got, fmt.Sprintf("%s:%d", c.Name, c.Mask))
		}
		if got := strings.Join(got, " "); got != want {
			t.Errorf("%s: got %s, want %s", sql, got, want)
		}
	}
}

// alike runs a statement on databases that differ in hidden values alone. What
// it yields has to be the same, or it tells something of them.
func alike(t *testing.T, a, b *Database, sql string) {
	t.Helper()
	for _, run := range []func(d *Database) string{
		func(d *Database) string { got, err := rows(t, d, sql); return fmt.Sprint(got, err) },
		func(d *Database) string {
			plan, err := d.Explain(t.Context(), engine.Caller{}, engine.Statement{SQL: sql})
			return fmt.Sprint(plan.Text, err)
		},
	} {
		if x, y := run(a), run(b); x != y && !strings.Contains(x+y, engine.ErrTimeout.Error()) {
			t.Errorf("%q tells what is hidden:\n%s\n%s", sql, x, y)
		}
	}
}

// FuzzHidden holds that no statement tells anything of what is hidden.
func FuzzHidden(f *testing.F) {
	for _, c := range pries {
		f.Add(c.sql)
	}
	for _, sql := range []string{"SELECT * FROM users", "SELECT id FROM users", "SELECT id FROM contacts", "SELECT id FROM users LIMIT 1", "SELECT email FROM users FULL JOIN (SELECT 'x' AS email) USING (email)", "SELECT * FROM contacts",
		"SELECT id FROM users WHERE email > 'aq'", "SELECT * FROM users NATURAL JOIN contacts", "SELECT * FROM deeper, keyed", "SELECT * FROM vip",
		"WITH x AS (SELECT phone FROM users) SELECT * FROM x ORDER BY 1", "SELECT count(*) FROM users u JOIN contacts c ON u.email = c.email",
		"PRAGMA table_info(users)", "SELECT * FROM orders", "SELECT name FROM plain", "EXPLAIN SELECT * FROM users", "SELECT main.x FROM (SELECT 1 AS x) AS main",
		"SELECT email FROM users RIGHT JOIN contacts USING (email)", "SELECT 'x' IN contacts", "SELECT email FROM contacts FULL JOIN vip USING (email)"} {
		f.Add(sql)
	}
	a := newEngine(f, engine.Options{DSN: secrets(f, "q1"), Policy: hiding, StatementTimeout: 200_000_000})
	b := newEngine(f, engine.Options{DSN: secrets(f, "z9"), Policy: hiding, StatementTimeout: 200_000_000})
	f.Fuzz(func(t *testing.T, sql string) { alike(t, a, b, sql) })
}

// TestCoverFollowsTheSchema is about tables that come and change while
// connections are open.
func TestCoverFollowsTheSchema(t *testing.T) {
	file := secrets(t, "q1")
	d := newEngine(t, engine.Options{DSN: file, Policy: hiding})
	read := func(sql, want string) {
		t.Helper()
		if got, err := rows(t, d, sql); got != want {
			t.Errorf("%s: got %s, %v, want %s", sql, got, err, want)
		}
	}
	read("SELECT amount FROM orders LIMIT 1", "[[5]]")
	execute(t, file, "CREATE TABLE people (phone TEXT); INSERT INTO people VALUES ('12345')")
	read("SELECT phone FROM people", `[["1***"]]`)
	execute(t, file, "ALTER TABLE orders ADD COLUMN phone TEXT DEFAULT '777'")
	read("SELECT phone FROM orders LIMIT 1", `[["7***"]]`)
	execute(t, file, "CREATE TABLE secret2 (word TEXT); INSERT INTO secret2 VALUES ('x')")
	if got, err := rows(t, d, "SELECT * FROM secret2"); code(err) != engine.AccessDenied {
		t.Errorf("got %s, %v", got, err)
	}
	execute(t, file, "ALTER TABLE people RENAME TO humans")
	read("SELECT phone FROM humans", `[["1***"]]`)
	execute(t, file, "DROP TABLE users")
	if got, err := rows(t, d, "SELECT * FROM users"); code(err) != engine.UnknownObject {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestCatalogHidesDeniedTables(t *testing.T) {
	d := newEngine(t, engine.Options{DSN: secrets(t, "q1"), Policy: hiding})
	list, err := d.Tables(t.Context(), engine.Caller{}, engine.Filter{Limit: 100, Detail: engine.Full})
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range list.Tables {
		if strings.HasPrefix(table.Name, "secret") {
			t.Errorf("%s is listed", table.Name)
		}
	}
	_, err = d.Describe(t.Context(), engine.Caller{}, engine.Name{Table: "SECRET"}, 3)
	if code(err) != engine.UnknownObject || strings.Contains(fmt.Sprint(err.(*engine.Error).DidYouMean), "secret") {
		t.Errorf("got %+v", err)
	}
	if _, err := rows(t, d, "SELECT * FROM secrat"); code(err) != engine.UnknownObject || len(err.(*engine.Error).DidYouMean) > 0 {
		t.Errorf("near names: %+v", err)
	}
	told, err := d.Describe(t.Context(), engine.Caller{}, engine.Name{Table: "users"}, 3)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range told.Columns {
		got = append(got, fmt.Sprintf("%s %s %v", c.Name, c.Policy, c.Samples))
	}
	want := "id  [1 2 3], name  [Ada Bob Cyd], email null [], phone partial [], ssn refuse [], domain null [], manager  [1]"
	if got := strings.Join(got, ", "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if told, err = d.Describe(t.Context(), engine.Caller{}, engine.Name{Table: "refers"}, 0); err != nil || len(told.ForeignKeys) != 0 {
		t.Errorf("keys are %+v, %v", told, err)
	}
}

// TestVirtualTablesOfUnknownModulesAreHidden is about a file that another
// program has put such a table in: the rest of it can be read, and the tables
// below, whose columns have names of their own, cannot.
func TestVirtualTablesOfUnknownModulesAreHidden(t *testing.T) {
	file := newDatabase(t, `
		CREATE TABLE users (id INTEGER PRIMARY KEY, email TEXT);
		INSERT INTO users VALUES (1, 'a@x.org');
		CREATE TABLE old_content (docid INTEGER PRIMARY KEY, c0email TEXT);
		INSERT INTO old_content VALUES (1, 'a@x.org');
		PRAGMA writable_schema = ON;
		INSERT INTO sqlite_schema VALUES ('table', 'old', 'old', 0, 'CREATE VIRTUAL TABLE old USING fts3(email)')`)
	d := newEngine(t, engine.Options{DSN: file, Write: true, Policy: engine.Policy{Masks: []engine.Mask{{Columns: []string{"email"}, With: engine.WithNull}}}})
	if got, err := rows(t, d, "SELECT * FROM users"); got != "[[1,null]]" {
		t.Errorf("got %s, %v", got, err)
	}
	if written, _, err := write(t, d, "UPDATE users SET email = 'b@x.org' WHERE id = 1", engine.Write{Commit: true}); written.Affected != 1 {
		t.Errorf("got %+v, %v", written, err)
	}
	for _, sql := range []string{"SELECT * FROM old", "SELECT * FROM old_content", "SELECT c0email FROM old_content WHERE docid = 1"} {
		if got, err := rows(t, d, sql); code(err) != engine.AccessDenied {
			t.Errorf("%s: got %s, %v", sql, got, err)
		}
		if _, _, err := write(t, d, "INSERT INTO users (email) "+sql, engine.Write{}); code(err) != engine.AccessDenied {
			t.Errorf("INSERT … %s: %v", sql, err)
		}
	}
	noSamples(t, d, "old", "old_content")
	noSamples(t, newEngine(t, engine.Options{DSN: secrets(t, "q1"), Policy: hiding}), "found_content", "phones_content", "secret_boxes_node", "terms")
}

// noSamples holds that tables are not described, or without values.
func noSamples(t *testing.T, d *Database, tables ...string) {
	t.Helper()
	for _, table := range tables {
		told, err := d.Describe(t.Context(), engine.Caller{}, engine.Name{Table: table}, 3)
		if err != nil {
			continue
		}
		for _, column := range told.Columns {
			if len(column.Samples) > 0 {
				t.Errorf("%s.%s: %q", table, column.Name, column.Samples)
			}
		}
	}
}
