//go:build unix

package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
)

// A dbPage is what a tool of a database answers with.
type dbPage struct {
	Rows   [][]int
	Handle string
	Error  struct{ Code, Message string }
}

// page calls a tool of a database.
func (c *client) page(ctx context.Context, tool string, arguments object) (p dbPage, err error) {
	raw, err := c.request(ctx, "tools/call", object{"name": tool, "arguments": arguments})
	if err != nil {
		return p, err
	}
	var result struct{ StructuredContent json.RawMessage }
	if err := json.Unmarshal(raw, &result); err != nil {
		return p, err
	}
	return p, json.Unmarshal(result.StructuredContent, &p)
}

// firstPage reads the first numbers of a database.
func (c *client) firstPage(ctx context.Context, database string) (dbPage, error) {
	return c.page(ctx, "read_data", object{"database": database, "query": "SELECT n FROM numbers ORDER BY n LIMIT 30", "limit": 10})
}

// changed is what a handle of a database that was taken out, or replaced, is
// answered with.
func changed(database string) string {
	return "the database " + database + " is not served any more, or in another way, and its rows are not kept"
}

// notThere is what a call of the database gone is answered with when it is.
const notThere = "gone does not equal any of: [stays swapped"

// pages reads the numbers of a database from 1 to 30, in pages. Its handles may
// expire where there are too many, and where the database may change.
func (c *client) pages(ctx context.Context, database string, changes bool) error {
	p, err := c.firstPage(ctx, database)
	for first := 1; err == nil; first += 10 {
		if strings.Contains(p.Error.Message, "has made room for newer ones") || changes && p.Error.Message == changed(database) {
			return nil
		}
		if len(p.Rows) != 10 || p.Rows[0][0] != first || (p.Handle == "") != (first == 21) {
			return fmt.Errorf("%s, from %d on: %+v", database, first, p)
		}
		if p.Handle == "" {
			return nil
		}
		p, err = c.page(ctx, "fetch_rows", object{"handle": p.Handle, "limit": 10})
	}
	return err
}

// TestReloadOfDatabasesUnderLoad has databases added, replaced and taken out while
// clients read: those of one that stays notice nothing, the rows of a page that
// they have begun with included, and calls in flight end well.
func TestReloadOfDatabasesUnderLoad(t *testing.T) {
	one, other, locked := newSQLite(t), newSQLite(t), newSQLite(t)
	config := func(databases string) string {
		return `{"databases": {` + strings.NewReplacer("ONE", one.dsn, "OTHER", other.dsn, "LOCKED", locked.dsn).Replace(databases) + `}}`
	}
	const stays = `"stays": {"dsn": "ONE", "max_connections": 4}, `
	file := configure(t, "mcp.json", "%s", config(stays+`"swapped": {"dsn": "ONE"}, "gone": {"dsn": "OTHER"}, "slow": {"dsn": "LOCKED", "lock_timeout": 30}`))
	p := serveChild(t, "--config", file)

	var taken atomic.Bool // the database gone may be
	var callers []caller
	for i := range steered {
		c := connect(t, web(t), p.url+"/mcp")
		callers = append(callers, func(ctx context.Context, _, _ string) (string, error) {
			switch i % 4 {
			case 0:
				return "", c.pages(ctx, "swapped", true)
			case 1:
				err := c.pages(ctx, "gone", true)
				if err != nil && taken.Load() && strings.Contains(err.Error(), notThere) {
					err = nil
				}
				return "", err
			default:
				return "", c.pages(ctx, "stays", false)
			}
		})
	}
	l := newLoad(t, callers)
	l.goOn()
	c := connect(t, web(t), p.url+"/mcp")
	if _, err := c.firstPage(t.Context(), "slow"); err != nil {
		t.Fatal(err)
	}
	locking, err := sql.Open("sqlite", "file:"+locked.dsn+"?_txlock=exclusive")
	if err != nil {
		t.Fatal(err)
	}
	defer locking.Close()
	lock, err := locking.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Rollback()
	slow := make(chan error, 1)
	inFlight := connect(t, web(t), p.url+"/mcp")
	go func() {
		first, err := inFlight.firstPage(t.Context(), "slow")
		if err == nil && len(first.Rows) != 10 {
			err = fmt.Errorf("got %+v", first)
		}
		slow <- err
	}()
	awaitTrue(t, "the slow statement does not run", func() bool {
		_, metrics := get(t, p.url+"/metrics")
		return strings.Contains(metrics, `mcpool_database_in_use{database="slow"} 1`)
	})

	taken.Store(true)
	for round, next := range []string{
		stays + `"swapped": {"dsn": "OTHER"}, "fresh": {"dsn": "ONE"}`,                            // one is another, two are gone, one is new
		stays + `"swapped": {"dsn": "OTHER", "max_rows": 500}, "gone": {"dsn": "OTHER"}`,          // another bound, and one is back
		`"swapped": {"dsn": "ONE"}, "gone": {"dsn": "OTHER"}, ` + strings.TrimSuffix(stays, ", "), // in another order
	} {
		p.reconfigure(t, file, config(next))
		l.goOn()
		if round == 0 {
			if err := c.pages(t.Context(), "fresh", false); err != nil {
				t.Error(err)
			}
		}
	}
	if len(slow) > 0 {
		t.Error("the call in flight did not last")
	}
	if err := lock.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := <-slow; err != nil {
		t.Errorf("the call in flight: %v", err)
	}
	l.end()
	t.Logf("%d times all pages in 3 reloads", l.calls.Load())

	// With nobody else, whose results would take the place of these.
	handles := make(map[string]string)
	for _, database := range []string{"stays", "swapped", "gone"} {
		first, err := c.firstPage(t.Context(), database)
		if err != nil || first.Handle == "" {
			t.Fatalf("%s: %+v, %v", database, first, err)
		}
		handles[database] = first.Handle
	}
	p.reconfigure(t, file, config(stays+`"swapped": {"dsn": "OTHER"}`))
	for database, handle := range handles {
		rest, err := c.page(t.Context(), "fetch_rows", object{"handle": handle, "limit": 10})
		if database == "stays" {
			if err != nil || len(rest.Rows) != 10 || rest.Rows[0][0] != 11 {
				t.Errorf("%s: %+v, %v", database, rest, err)
			}
		} else if err != nil || rest.Error.Code != "HANDLE_EXPIRED" || rest.Error.Message != changed(database) {
			t.Errorf("%s: %+v, %v", database, rest, err)
		}
	}
	if gone, err := c.firstPage(t.Context(), "gone"); err != nil || !strings.Contains(gone.Error.Message, notThere) {
		t.Errorf("the database that is gone: %+v, %v", gone, err)
	}
}
