//go:build unix

package postgres

import (
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
)

func TestValuesLoseNothing(t *testing.T) {
	p := newDatabase(t)
	p.Exec(t, p.database, `ALTER DATABASE "`+p.database+`" SET timezone = 'Asia/Kolkata'; CREATE TYPE pair AS (a int, b text)`)
	d := p.reader(t)
	for _, c := range []struct{ sql, want, typ string }{
		{"true", `true`, "bool"},
		{"9007199254740992::int8", `9007199254740992`, "int8"},
		{"9007199254740993::int8", `"9007199254740993"`, "int8"},
		{"(-9223372036854775808)::int8", `"-9223372036854775808"`, "int8"},
		{"32767::int2", `32767`, "int2"},
		{"4294967295::oid", `4294967295`, "oid"},
		{"1.50::numeric(10,2)", `"1.50"`, "numeric(10,2)"},
		{"150::numeric(3,-1)", `"150"`, "numeric(3,-1)"},
		{"'NaN'::numeric", `"NaN"`, "numeric"},
		{"1e30::numeric + 0.000000000000000000001", `"1000000000000000000000000000000.000000000000000000001"`, "numeric"},
		{"0.1::float8", `0.1`, "float8"},
		{"1::float8", `1.0`, "float8"},
		{"0.1::float4", `0.1`, "float4"},
		{"'NaN'::float8", `"NaN"`, "float8"},
		{"'-Infinity'::float4", `"-Infinity"`, "float4"},
		{"5e-324::float8", `5e-324`, "float8"},
		{"'-0'::float8", `-0.0`, "float8"},
		{"-0.25::float8", `-0.25`, "float8"},
		{"1e14::float8", `100000000000000.0`, "float8"},
		{"1e15::float8", `1000000000000000.0`, "float8"},
		{"1e21::float8", `1e+21`, "float8"},
		{"1e-6::float8", `0.000001`, "float8"},
		{"16777216::float4", `16777216.0`, "float4"},
		{"(-99999999999999)::int8", `-99999999999999`, "int8"},
		{"999999999999999::int8", `999999999999999`, "int8"},
		{"(-9007199254740992)::int8", `-9007199254740992`, "int8"},
		{"'a	b' || chr(10) || '\"'", `"a\tb\n\""`, "text"},
		{"''", `""`, "text"},
		{"'ab'::varchar(20)", `"ab"`, "varchar(20)"},
		{"'ab'::char(3)", `"ab "`, "bpchar(3)"},
		{`'\x00ff'::bytea`, `{"$bytes":2,"base64":"AP8="}`, "bytea"},
		{`''::bytea`, `{"$bytes":0,"base64":""}`, "bytea"},
		{`'{"b": 1, "a": 12345678901234567890}'::json`, `"{\"b\": 1, \"a\": 12345678901234567890}"`, "json"},
		{`'{"b": 1,  "a": null}'::json`, `{"b": 1,  "a": null}`, "json"},
		{`'{"b": 1,  "a": null}'::jsonb`, `{"a": null, "b": 1}`, "jsonb"},
		{"'2026-01-02 03:04:05.123456'::timestamp", `"2026-01-02T03:04:05.123456"`, "timestamp"},
		{"'2026-01-02 03:04:05'::timestamp(0)", `"2026-01-02T03:04:05"`, "timestamp(0)"},
		{"'2026-01-02 03:04:05.5+00'::timestamptz", `"2026-01-02T08:34:05.5+05:30"`, "timestamptz"},
		{"'infinity'::timestamptz", `"infinity"`, "timestamptz"},
		{"'0044-03-15 12:00:00 BC'::timestamp", `"0044-03-15 12:00:00 BC"`, "timestamp"},
		{"'1800-01-01 00:00:00+00'::timestamptz", `"1800-01-01 05:53:28+05:53:28"`, "timestamptz"},
		{"'2026-01-02'::date", `"2026-01-02"`, "date"},
		{"'03:04:05.5'::time", `"03:04:05.5"`, "time"},
		{"'1 year 2 mons 3 days 04:05:06.7'::interval", `"P1Y2M3DT4H5M6.7S"`, "interval"},
		{"'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid", `"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"`, "uuid"},
		{"'happy'::mood", `"happy"`, "mood"},
		{"5::positive", `5`, "int4"},
		{"'{1,NULL,3}'::int[]", `[1,null,3]`, "int4[]"},
		{"'{}'::int[]", `[]`, "int4[]"},
		{"'{{1,2},{3,4}}'::int[]", `[[1,2],[3,4]]`, "int4[]"},
		{"'[0:1]={1,2}'::int[]", `"[0:1]={1,2}"`, "int4[]"},
		{"'{9007199254740993}'::int8[]", `"[9007199254740993]"`, "int8[]"},
		{"'{1.5,NaN}'::float8[]", `[1.5,"NaN"]`, "float8[]"},
		{"'{1.10}'::numeric[]", `["1.10"]`, "numeric[]"},
		{"'{t,f}'::bool[]", `[true,false]`, "bool[]"},
		{`ARRAY['a', 'b "c" \ d', 'NULL', NULL, '', '{x}', 'ä,']`, `["a","b \"c\" \\ d","NULL",null,"","{x}","ä,"]`, "text[]"},
		{"'{2026-01-02 03:04:05+00}'::timestamptz[]", `["2026-01-02T08:34:05+05:30"]`, "timestamptz[]"},
		{"'{happy,sad}'::mood[]", `["happy","sad"]`, "mood[]"},
		{"int4range(1, 5)", `"[1,5)"`, "int4range"},
		{"ROW(1, 'a b')::pair", `"(1,\"a b\")"`, "pair"},
		{"ROW(1, NULL)", `"(1,)"`, "record"},
		{"inet '10.0.0.1/8'", `"10.0.0.1/8"`, "inet"},
		{"point(1, 2)", `"(1,2)"`, "point"},
		{"B'101'", `"101"`, "bit"},
		{"'1234.5'::money::text", `"$1,234.50"`, "text"},
		{"NULL", `null`, "text"},
		{"NULL::int", `null`, "int4"},
		{"xmlparse(content '<a/>')", `"<a/>"`, "xml"},
		{"'users'::regclass", `"users"`, "regclass"},
	} {
		page, err := tryRead(t.Context(), d, "SELECT "+c.sql)
		if err != nil {
			t.Errorf("%s: %v", c.sql, err)
			continue
		}
		if got := string(page.Rows); got != "["+c.want+"]" {
			t.Errorf("%s: got %s, want %s", c.sql, got, c.want)
		}
		if got := page.Columns[0].Type; got != c.typ {
			t.Errorf("%s: got the type %s, want %s", c.sql, got, c.typ)
		}
	}
}

func TestColumnsSayWhereTheyAreFrom(t *testing.T) {
	d := newDatabase(t).reader(t)
	page, err := tryRead(t.Context(), d, "SELECT u.id, u.email AS mail, upper(u.name), o.total, u.id AS id, c.contact FROM users u JOIN orders o ON o.user_id = u.id JOIN contacts c ON c.id = u.id LIMIT 1")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range page.Columns {
		got = append(got, c.Name+"="+c.Origin)
	}
	want := "id=public.users.id mail=public.users.email upper= total=public.orders.total id=public.users.id contact=public.contacts.contact"
	if strings.Join(got, " ") != want {
		t.Errorf("got %s\nwant %s", strings.Join(got, " "), want)
	}
}

func TestCellsAreCut(t *testing.T) {
	d := newDatabase(t).reader(t)
	page, err := tryRead(t.Context(), d, "SELECT string_agg('x', '') FROM generate_series(1, 5000)")
	if err != nil || page.Cut != 1 || page.TruncatedBy != result.ByCell || len(page.Rows) != len(`["…"]`)+4096 {
		t.Errorf("got %d bytes, %d cut by %s (%v)", len(page.Rows), page.Cut, page.TruncatedBy, err)
	}
}
