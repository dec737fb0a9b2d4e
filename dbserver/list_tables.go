package dbserver

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
)

// A tableList is what list_tables tells.
type tableList struct {
	Database   string         `json:"database"`
	Tables     []engine.Table `json:"tables"`
	Count      int            `json:"table_count"` // in this answer
	Truncated  bool           `json:"truncated"`
	NextCursor string         `json:"next_cursor,omitempty"`

	names bool // and types are all that is told
}

var details = map[string]engine.Detail{"names": engine.Names, "": engine.Summary, "summary": engine.Summary, "full": engine.Full}

// listTables serves list_tables. Of more tables than an answer may have rows or
// bytes the first are told, and how to go on.
func (r *request) listTables(ctx context.Context) ([]byte, error) {
	limit, _ := r.rowLimit()
	f := engine.Filter{Pattern: r.args.Pattern, Schema: r.args.Schema, Kinds: r.args.Kinds, Detail: details[r.args.Detail], Limit: limit}
	if r.args.Cursor != "" {
		after, err := readCursor(r.args.Cursor)
		if err != nil {
			return nil, err
		}
		f.After = after
	}
	found, err := r.engine.Tables(ctx, r.who, f)
	if err != nil {
		return nil, err
	}
	list := tableList{Database: r.Name, Tables: found.Tables, Truncated: found.More}
	list.names = f.Detail == engine.Names
	list.cap(r.MaxBytes)
	if list.Count = len(list.Tables); list.Truncated && list.Count > 0 {
		last := list.Tables[list.Count-1]
		list.NextCursor = cursorOf(engine.Name{Schema: last.Schema, Table: last.Name})
	}
	if list.Tables == nil {
		list.Tables = []engine.Table{} // none are [], not null
	}
	return marshalResult(list.text(), list)
}

// cap leaves out the tables for which there is no room, but never the first.
func (l *tableList) cap(most int) {
	size := 0
	for i := range l.Tables {
		size += len(mustMarshal(l.Tables[i])) + 1
		if size > most && i > 0 {
			l.Tables, l.Truncated = l.Tables[:i], true
			return
		}
	}
}

// A cursor is the name behind which a list goes on, so it holds on any server
// and whatever has been added meanwhile.
func cursorOf(n engine.Name) string {
	return base64.RawURLEncoding.EncodeToString(mustMarshal([2]string{n.Schema, n.Table}))
}

func readCursor(cursor string) (engine.Name, error) {
	var n [2]string
	raw, err := base64.RawURLEncoding.DecodeString(cursor)
	if err == nil {
		err = json.Unmarshal(raw, &n)
	}
	if err != nil {
		return engine.Name{}, engine.Invalid("cursor is none that list_tables gave")
	}
	return engine.Name{Schema: n[0], Table: n[1]}, nil
}

func (l *tableList) text() string {
	var b strings.Builder
	b.WriteString(untrusted + "name\ttype")
	if !l.names {
		b.WriteString("\tcolumns\trows_estimate\tcomment")
	}
	b.WriteByte('\n')
	for _, t := range l.Tables {
		fmt.Fprintf(&b, "%s\t%s", result.TSV(nameText(engine.Name{Schema: t.Schema, Table: t.Name})), t.Type)
		if !l.names {
			fmt.Fprintf(&b, "\t%s\t%s\t%s", numberText(t.ColumnCount), numberText(t.Estimate), result.TSV(t.Comment))
		}
		if len(t.Columns) > 0 {
			b.WriteString("\t" + listText(t.Columns))
		}
		b.WriteByte('\n')
	}
	if l.Truncated {
		fmt.Fprintf(&b, "Only the first %d tables; for more call list_tables with cursor %s\n", l.Count, l.NextCursor)
	}
	return b.String()
}

func numberText(n *int64) string {
	if n == nil {
		return `\N`
	}
	return strconv.FormatInt(*n, 10)
}

func listText(names []string) string { return result.TSV(strings.Join(names, ", ")) }
