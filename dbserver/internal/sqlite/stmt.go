package sqlite

import (
	"context"
	"fmt"
	"strconv"
	"unsafe"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
)

// A stmt is a compiled statement (https://www.sqlite.org/c3ref/stmt.html). It
// is compiled once, tells its columns, and is then stepped, and values go from
// SQLite's memory to where they are wanted without a copy in between.
type stmt struct {
	*conn
	handle uintptr   // the sqlite3_stmt*, 0 for a text without a statement
	bound  []uintptr // texts
}

// prepare compiles the first statement of a text and returns where it ends.
func (c *conn) prepare(ctx context.Context, sql string) (s *stmt, tail int, err error) {
	text, err := libc.CString(sql)
	if err != nil {
		return nil, 0, err
	}
	defer libc.Xfree(c.tls, text)
	s = &stmt{conn: c}
	for s.handle == 0 && tail < len(sql) { // of an empty statement there is no handle
		rc := c.patiently(ctx, func() int32 {
			return lib.Xsqlite3_prepare_v3(c.tls, c.db, text+uintptr(tail), int32(len(sql)-tail+1), 0, c.scratch, c.scratch+8)
		})
		if rc != lib.SQLITE_OK {
			return nil, 0, c.failure(rc)
		}
		s.handle = *(*uintptr)(pointer(c.scratch))
		tail = int(*(*uintptr)(pointer(c.scratch + 8)) - text)
	}
	return s, tail, nil
}

// pointer is memory of SQLite's, which Go does not move and does not free.
func pointer(p uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&p)) }

// close ends the statement. It reports again what the last step did.
func (s *stmt) close() {
	lib.Xsqlite3_finalize(s.tls, s.handle)
	for _, p := range s.bound {
		libc.Xfree(s.tls, p)
	}
	s.handle, s.bound = 0, nil
}

// bind binds params to the placeholders, which are ?, ?1 or $1: nil, int64,
// float64 or string.
func (s *stmt) bind(params []any) error {
	wanted := int(lib.Xsqlite3_bind_parameter_count(s.tls, s.handle))
	if len(params) != wanted {
		return engine.Invalid("the statement has %d placeholders, and params has %d values; placeholders are ? or ?1, ?2, and so on", wanted, len(params))
	}
	for i := range wanted {
		if p := lib.Xsqlite3_bind_parameter_name(s.tls, s.handle, int32(i+1)); p != 0 {
			name := libc.GoString(p)
			if name[0] != '?' && name != "$"+strconv.Itoa(i+1) {
				return engine.Invalid("params: missing named argument %q; placeholders are ? or ?1, ?2, and so on", name[1:])
			}
		}
		if rc := s.bindValue(int32(i+1), params[i]); rc != lib.SQLITE_OK {
			return s.failure(rc)
		}
	}
	return nil
}

func (s *stmt) bindValue(i int32, value any) int32 {
	switch v := value.(type) {
	case nil:
		return lib.Xsqlite3_bind_null(s.tls, s.handle, i)
	case int64:
		return lib.Xsqlite3_bind_int64(s.tls, s.handle, i, v)
	case float64:
		return lib.Xsqlite3_bind_double(s.tls, s.handle, i, v)
	case string:
		if len(v) > maxValueBytes {
			return lib.SQLITE_TOOBIG
		}
		p, err := libc.CString(v)
		if err != nil {
			return lib.SQLITE_NOMEM
		}
		s.bound = append(s.bound, p)
		return lib.Xsqlite3_bind_text(s.tls, s.handle, i, p, int32(len(v)), 0)
	}
	panic(fmt.Sprintf("BUG: a param is a %T", value))
}

// step runs the statement up to its next row; ok is false at the end and with
// an error.
func (s *stmt) step(ctx context.Context) (ok bool, err error) {
	rc := lib.Xsqlite3_step(s.tls, s.handle)
	if rc&0xff == lib.SQLITE_BUSY {
		rc = s.patiently(ctx, func() int32 { return lib.Xsqlite3_step(s.tls, s.handle) })
	}
	switch rc {
	case lib.SQLITE_ROW:
		return true, nil
	case lib.SQLITE_DONE:
		return false, nil
	}
	return false, s.failure(rc)
}

// width is how many columns the statement has.
func (s *stmt) width() int { return int(lib.Xsqlite3_column_count(s.tls, s.handle)) }

// columns are the columns of the result.
func (s *stmt) columns() []result.Column {
	list := make([]result.Column, s.width())
	for i := range list {
		n := int32(i)
		list[i] = result.Column{Name: libc.GoString(lib.Xsqlite3_column_name(s.tls, s.handle, n)),
			Type: libc.GoString(lib.Xsqlite3_column_decltype(s.tls, s.handle, n))}
		if p := lib.Xsqlite3_column_origin_name(s.tls, s.handle, n); p != 0 {
			list[i].Origin = libc.GoString(lib.Xsqlite3_column_table_name(s.tls, s.handle, n)) + "." + libc.GoString(p)
		}
	}
	return list
}

// add adds the row to out and reports whether another is wanted. Each value is
// taken out of the statement once, which locks the connection's mutex, and then
// looked at without: nobody else uses the connection meanwhile.
func (s *stmt) add(out *result.Writer, width int) bool {
	for i := range int32(width) {
		v := lib.Xsqlite3_column_value(s.tls, s.handle, i)
		switch lib.Xsqlite3_value_type(s.tls, v) {
		case lib.SQLITE_INTEGER:
			out.Int(lib.Xsqlite3_value_int64(s.tls, v))
		case lib.SQLITE_FLOAT:
			out.Real(lib.Xsqlite3_value_double(s.tls, v))
		case lib.SQLITE_TEXT:
			p := lib.Xsqlite3_value_text(s.tls, v) // before its bytes, which are those of this form
			out.Text(unsafe.String((*byte)(pointer(p)), lib.Xsqlite3_value_bytes(s.tls, v)))
		case lib.SQLITE_BLOB:
			p := lib.Xsqlite3_value_blob(s.tls, v)
			out.Bytes(unsafe.Slice((*byte)(pointer(p)), lib.Xsqlite3_value_bytes(s.tls, v)))
		default:
			out.Null()
		}
	}
	return out.EndRow()
}

// view is a text of the row, which goes away with the next step.
func (s *stmt) view(i int) string {
	p := lib.Xsqlite3_column_text(s.tls, s.handle, int32(i))
	return unsafe.String((*byte)(pointer(p)), lib.Xsqlite3_column_bytes(s.tls, s.handle, int32(i)))
}

// text, integer and null read a column of the row whose type is known.
func (s *stmt) text(i int) string { return string([]byte(s.view(i))) }

func (s *stmt) integer(i int) int64 { return lib.Xsqlite3_column_int64(s.tls, s.handle, int32(i)) }

func (s *stmt) null(i int) bool {
	return lib.Xsqlite3_column_type(s.tls, s.handle, int32(i)) == lib.SQLITE_NULL
}
