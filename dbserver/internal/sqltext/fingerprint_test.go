package sqltext

import "testing"

func TestFingerprint(t *testing.T) {
	for sql, want := range map[string]string{
		"SELECT  1": "SELECT ?",
		"select * from users where ssn='078-05-1120' -- Ada\n and id IN (1, 2,3)": "select * from users where ssn = ? and id IN ( ? )",
		"INSERT INTO t VALUES ('a', 1), ('b', 2) /* x */;":                        "INSERT INTO t VALUES ( ? ) , ( ? ) ;",
		`SELECT "a b", $1, $q$secret$q$`:                                          `SELECT "a b" , ?`,
		"SELECT E'it\\'s secret', x'00'":                                          "SELECT ?",
		"SELECT a<>b, a::int, f(-1), 2 <= 3":                                      "SELECT a <> b , a :: int , f ( - ? ) , ? <= ?",
		"":                                                                        "",
	} {
		if got := Postgres.Fingerprint(sql); got != want {
			t.Errorf("%q: got %q, want %q", sql, got, want)
		}
	}
	if got, want := MySQL.Fingerprint("SELECT \"secret\", `name` # secret"), "SELECT ? , `name`"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
