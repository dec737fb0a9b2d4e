package sqlserver

import (
	"database/sql/driver"
	"math"
	"testing"
	"time"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

func TestValuesKeepWhatTheyAre(t *testing.T) {
	at := time.Date(2024, 2, 29, 13, 14, 15, 123456700, time.UTC)
	zoned := time.Date(2024, 2, 29, 13, 14, 15, 0, time.FixedZone("", 5*3600+1800))
	for _, c := range []struct {
		typ   string
		value driver.Value
		want  string
	}{
		{"INT", nil, `null`},
		{"BIGINT", int64(math.MaxInt64), `"9223372036854775807"`},
		{"TINYINT", int64(255), `255`},
		{"BIT", true, `true`},
		{"FLOAT", 0.1, `0.1`},
		{"REAL", float64(float32(0.1)), `0.1`},
		{"DECIMAL", []byte("-12345678901234567890.1200"), `"-12345678901234567890.1200"`},
		{"MONEY", []byte("1.5000"), `"1.5000"`},
		{"SMALLMONEY", []byte("-0.0001"), `"-0.0001"`},
		{"NVARCHAR", "ä\t\"", `"ä\t\""`},
		{"XML", "<a/>", `"<a/>"`},
		{"JSON", `{"a":1}`, `{"a":1}`},
		{"VARBINARY", []byte{1, 2}, `{"$bytes":2,"base64":"AQI="}`},
		{"UNIQUEIDENTIFIER", []byte{0xff, 0x19, 0x96, 0x6f, 0x86, 0x8b, 0x11, 0xd0, 0xb4, 0x2d, 0, 0xc0, 0x4f, 0xc9, 0x64, 0xff}, `"6F9619FF-8B86-D011-B42D-00C04FC964FF"`},
		{"DATE", at, `"2024-02-29"`},
		{"TIME", at, `"13:14:15.1234567"`},
		{"DATETIME", at, `"2024-02-29T13:14:15.1234567"`},
		{"SMALLDATETIME", at.Truncate(time.Minute), `"2024-02-29T13:14:00"`},
		{"DATETIME2", at, `"2024-02-29T13:14:15.1234567"`},
		{"DATETIMEOFFSET", zoned, `"2024-02-29T13:14:15+05:30"`},
		{"DATETIMEOFFSET", at, `"2024-02-29T13:14:15.1234567Z"`},
		{"SQL_VARIANT", at, `"2024-02-29T13:14:15.1234567"`},
		{"SQL_VARIANT", zoned, `"2024-02-29T13:14:15+05:30"`},
		{"SQL_VARIANT", int64(1), `1`},
	} {
		out := newWriter()
		add(out, []driver.Value{c.value}, []string{c.typ})
		if got := string(out.Page().Rows); got != "["+c.want+"]" {
			t.Errorf("%s %v: got %s, want %s", c.typ, c.value, got, c.want)
		}
	}
}

func TestColumnsHaveTheirTypes(t *testing.T) {
	f := &fake{run: func(string, []driver.NamedValue) (*rows, error) {
		return &rows{names: []string{"a", "a", "n_max", "d", "", "v"}, types: []string{"INT", "NVARCHAR", "VARCHAR", "DECIMAL", "DATETIME2", ""}}, nil
	}}
	d := f.start(t, options())
	out := newWriter()
	if err := d.Read(t.Context(), who, engine.Statement{SQL: "SELECT 1"}, out); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range out.Page().Columns {
		got = append(got, c.Name+" "+c.Type)
	}
	same(t, "columns", got, []string{"a int", "a nvarchar(20)", "n_max varchar(max)", "d decimal(10,2)", " datetime2", "v "})
}

func TestDeclared(t *testing.T) {
	for _, c := range []struct {
		name                     string
		length, precision, scale int64
		want                     string
	}{
		{"nvarchar", 40, 0, 0, "nvarchar(20)"}, {"nvarchar", -1, 0, 0, "nvarchar(max)"}, {"varchar", 20, 0, 0, "varchar(20)"},
		{"decimal", 9, 10, 2, "decimal(10,2)"}, {"datetime2", 8, 27, 7, "datetime2(7)"}, {"int", 4, 10, 0, "int"}, {"money", 8, 19, 4, "money"},
	} {
		if got := declared(c.name, c.length, c.precision, c.scale); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}
