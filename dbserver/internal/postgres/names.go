package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
)

// names are those of types and columns by the numbers that results have of
// them. Results come without names, and to ask for them on the same connection
// is to wait for it, so they are kept for a while.
type names struct {
	mu      sync.Mutex // guards what follows
	types   map[uint32]typ
	origins map[origin]column
	since   time.Time
}

// namesKept is for how long a column or type that was given another name may go
// by its old one, and mostNames how many are kept.
const (
	namesKept = time.Minute
	mostNames = 20_000
)

// A typ is a type of values.
type typ struct {
	oid  uint32
	name string // as it is called in the catalog; _ before the name of its elements for arrays
	elem uint32 // of arrays
}

// An origin is a column that a value is taken from.
type origin struct {
	table  uint32
	column uint16
}

// A column is an origin with its names.
type column struct {
	table  engine.Name
	column string
}

// builtin are the types that most columns have, as oid, name and elements.
var builtin = func() map[uint32]typ {
	m := map[uint32]typ{}
	for line := range strings.SplitSeq(`16 bool 1000,17 bytea 1001,18 char 1002,19 name 1003,20 int8 1016,21 int2 1005,23 int4 1007,
25 text 1009,26 oid 1028,114 json 199,142 xml 143,600 point 1017,650 cidr 651,700 float4 1021,701 float8 1022,
829 macaddr 1040,869 inet 1041,1042 bpchar 1014,1043 varchar 1015,1082 date 1182,1083 time 1183,1114 timestamp 1115,
1184 timestamptz 1185,1186 interval 1187,1266 timetz 1270,1560 bit 1561,1562 varbit 1563,1700 numeric 1231,
2205 regclass 2210,2206 regtype 2211,2249 record 2287,2278 void 0,2950 uuid 2951,3614 tsvector 3643,3615 tsquery 3645,
3802 jsonb 3807,3904 int4range 3905,3906 numrange 3907,3908 tsrange 3909,3910 tstzrange 3911,3912 daterange 3913,
3926 int8range 3927,705 unknown 0`, ",") {
		f := strings.Fields(line)
		oid, _ := strconv.ParseUint(f[0], 10, 32)
		array, _ := strconv.ParseUint(f[2], 10, 32)
		m[uint32(oid)] = typ{oid: uint32(oid), name: f[1]}
		if array != 0 {
			m[uint32(array)] = typ{oid: uint32(array), name: "_" + f[1], elem: uint32(oid)}
		}
	}
	return m
}()

// of returns the names for the columns of a result.
func (n *names) of(ctx context.Context, d *Database, fields []pgproto3.FieldDescription) (map[uint32]typ, map[origin]column, error) {
	types, origins := map[uint32]typ{}, map[origin]column{}
	var unknownTypes, unknownTables []string
	n.mu.Lock()
	if time.Since(n.since) > namesKept || len(n.types)+len(n.origins) > mostNames {
		n.types, n.origins, n.since = map[uint32]typ{}, map[origin]column{}, time.Now()
	}
	for _, f := range fields {
		t, ok := builtin[f.DataTypeOID]
		if !ok {
			t, ok = n.types[f.DataTypeOID]
		}
		if ok {
			types[f.DataTypeOID] = t
		} else {
			unknownTypes = append(unknownTypes, strconv.FormatUint(uint64(f.DataTypeOID), 10))
		}
		o := origin{f.TableOID, f.TableAttributeNumber}
		if o.table == 0 || o.column == 0 || o.column > 1<<15 { // made, or a column of the system's
			continue
		}
		if c, ok := n.origins[o]; ok {
			origins[o] = c
		} else if table := strconv.FormatUint(uint64(o.table), 10); len(unknownTables) == 0 || unknownTables[len(unknownTables)-1] != table {
			unknownTables = append(unknownTables, table)
		}
	}
	n.mu.Unlock()
	if len(unknownTypes)+len(unknownTables) == 0 {
		return types, origins, nil
	}
	if err := d.lookUp(ctx, unknownTypes, unknownTables, types, origins); err != nil {
		return nil, nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for oid, t := range types {
		n.types[oid] = t
	}
	for o, c := range origins {
		n.origins[o] = c
	}
	return types, origins, nil
}

// lookUp asks the catalog for names.
func (d *Database) lookUp(ctx context.Context, oids, tables []string, types map[uint32]typ, origins map[origin]column) error {
	if len(oids) > 0 {
		err := d.readCatalog(ctx, query{`SELECT oid, typname, CASE WHEN typcategory = 'A' THEN typelem ELSE 0 END
			FROM pg_catalog.pg_type WHERE oid = ANY ($1::oid[])`, [][]byte{arrayOf(oids)}}, func(v [][]byte) {
			t := typ{oid: number32(v[0]), name: string(v[1]), elem: number32(v[2])}
			types[t.oid] = t
		})
		if err != nil {
			return err
		}
	}
	if len(tables) == 0 {
		return nil
	}
	return d.readCatalog(ctx, query{`SELECT a.attrelid, a.attnum, n.nspname, c.relname, a.attname
		FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
		JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE a.attrelid = ANY ($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped`, [][]byte{arrayOf(tables)}}, func(v [][]byte) {
		o := origin{number32(v[0]), uint16(number32(v[1]))} // #nosec G115 -- a smallint above 0
		origins[o] = column{table: engine.Name{Schema: string(v[2]), Table: string(v[3])}, column: string(v[4])}
	})
}

func number32(v []byte) uint32 {
	n, _ := strconv.ParseUint(text(v), 10, 32)
	return uint32(n)
}

// mask says how values of a column are hidden.
func (d *Database) mask(c column) result.Mask {
	with := d.options.Policy.MaskOf(c.table, c.column)
	if with == "" {
		return result.Unmasked
	}
	return with.Result()
}

// with returns the name of a type with its modifier, such as varchar(20)
// (format_type, and each type's typmodout, in PostgreSQL's sources).
func (t typ) with(modifier int32) string {
	if t.elem != 0 {
		element := builtin[t.elem]
		if element.name == "" {
			element.oid, element.name = t.elem, strings.TrimPrefix(t.name, "_")
		}
		return element.with(modifier) + "[]"
	}
	if modifier < 0 {
		return t.name
	}
	switch t.name {
	case "varchar", "bpchar":
		return fmt.Sprintf("%s(%d)", t.name, modifier-4)
	case "numeric":
		scale := (modifier-4)&0x7ff ^ 1024
		return fmt.Sprintf("numeric(%d,%d)", (modifier-4)>>16&0xffff, scale-1024)
	case "bit", "varbit", "time", "timetz", "timestamp", "timestamptz":
		return fmt.Sprintf("%s(%d)", t.name, modifier)
	}
	return t.name
}

func (t typ) appender() appender {
	if t.elem != 0 {
		return appendArray(t.elem)
	}
	if a, ok := appenders[t.oid]; ok {
		return a
	}
	return appendText
}
