package sqlserver

import (
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf16"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

// params are what is bound to @p1, @p2 and so on.
type params []param

// A param is a value and the type that it is declared with. The driver would
// declare by the Go type, and so a decimal as a text.
type param struct {
	value  driver.Value
	sqlTyp string
}

// bind makes params of what a caller sent.
func bind(list []any) (params, error) {
	bound := make(params, len(list))
	for i, v := range list {
		switch v := v.(type) {
		case nil:
			bound[i] = param{nil, "nvarchar(4000)"}
		case bool:
			bound[i] = param{v, "bit"}
		case string:
			bound[i] = text(v)
		case json.Number:
			p, err := number(v.String())
			if err != nil {
				return nil, engine.Invalid("params/%d: %v", i, err)
			}
			bound[i] = p
		default:
			return nil, engine.Invalid("params/%d: %T cannot be bound", i, v)
		}
	}
	return bound, nil
}

func text(v string) param {
	const most = 4000 // UTF-16 units of nvarchar(n)
	units := 0
	for _, r := range v {
		units += utf16.RuneLen(r)
	}
	if units > most {
		return param{v, "nvarchar(max)"}
	}
	return param{v, "nvarchar(4000)"}
}

func integer(v int64) param { return param{v, "bigint"} }

// maxDigits is how many digits a decimal has at most
// (https://learn.microsoft.com/sql/t-sql/data-types/decimal-and-numeric-transact-sql).
const maxDigits = 38

// number keeps a number exact, or refuses one that no type holds.
func number(s string) (param, error) {
	if v, err := strconv.ParseInt(s, 10, 64); err == nil {
		return integer(v), nil
	}
	if strings.ContainsAny(s, "eE") {
		v, err := strconv.ParseFloat(s, 64)
		if err != nil || math.IsInf(v, 0) {
			return param{}, fmt.Errorf("%s does not fit a 64-bit floating-point number", s)
		}
		return param{v, "float"}, nil
	}
	whole, fraction, _ := strings.Cut(strings.TrimPrefix(s, "-"), ".")
	if digits := len(whole) + len(fraction); digits > maxDigits {
		return param{}, fmt.Errorf("%s has more than %d digits", s, maxDigits)
	}
	return param{s, fmt.Sprintf("decimal(%d,%d)", len(whole)+len(fraction), len(fraction))}, nil
}

// types is the list of declarations that sp_executesql and DECLARE want.
func (p params) types() string {
	list := make([]string, len(p))
	for i := range p {
		list[i] = "@p" + strconv.Itoa(i+1) + " " + p[i].sqlTyp
	}
	return strings.Join(list, ", ")
}

// declare is the statement that declares them without values, empty for none. A
// declaration is no step of a plan.
func (p params) declare() string {
	if len(p) == 0 {
		return ""
	}
	return "DECLARE " + p.types() + ";"
}

// call are the arguments with which sp_executesql runs a statement
// (https://learn.microsoft.com/sql/relational-databases/system-stored-procedures/sp-executesql-transact-sql).
func (p params) call(sql string) []driver.NamedValue {
	args := []driver.NamedValue{{Value: sql}}
	if len(p) > 0 {
		args = append(args, driver.NamedValue{Value: p.types()})
	}
	for i := range p {
		args = append(args, named("p"+strconv.Itoa(i+1), p[i].value))
	}
	return args
}
