package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// watchStep is how often --watch looks.
const watchStep = time.Second

// A row is an object of the API's JSON.
type row map[string]any

// A column is what a table shows of each row.
type column struct {
	title string
	cell  func(r row, now time.Time) string
}

// tables are what there is to show.
var tables = map[string][]column{
	"pools": {
		text("SERVER", "server"), {"STATE", poolState}, text("CONNS", "connections"), text("IN USE", "in_use"), text("IDLE", "idle"),
		text("OPENING", "opening"), text("IN FLIGHT", "calls_in_flight"), text("WAITING", "waiting"), period("OLDEST WAIT", "oldest_wait_seconds"),
		text("CALLS", "calls"), text("ERRORS", "errors"), {"REUSE", reuse}, text("HANDSHAKES AVOIDED", "handshakes_avoided"),
		period("TIME SAVED", "handshake_seconds_avoided"), {"CALL P99", callP99},
	},
	"connections": {
		text("ID", "id"), text("STATE", "state"), text("ERA", "era"), text("PROTOCOL", "protocol_version"), period("AGE", "age_seconds"),
		ago("LAST USE", "last_use"), text("IN FLIGHT", "calls_in_flight"), text("SLOTS", "slots"), text("CALLS", "calls"),
		text("ERRORS", "errors"), period("OPEN TOOK", "open_took_seconds"), text("GROUP", "group"),
	},
	"clients": {
		text("ID", "id"), text("PRINCIPAL", "principal"), text("NAME", "name"), text("VERSION", "version"), text("ERA", "era"),
		text("TRANSPORT", "transport"), text("SERVER", "server"), period("SESSION AGE", "session_age_seconds"), text("IN FLIGHT", "calls_in_flight"),
	},
	"servers": {
		text("SERVER", "server"), text("HEALTH", "health"), text("TRANSPORT", "transport"), text("TARGET", "target"), text("ERA", "era"),
		text("PROTOCOL", "protocol_version"), text("SHARING", "sharing"), {"LAST ERROR", lastError},
	},
	"config": {text("SERVER", "server"), text("NAME", "name"), text("VALUE", "value"), text("SOURCE", "source")},
	"waits":  {text("SERVER", "server"), text("PRINCIPAL", "principal"), text("WAITING", "waiting"), period("OLDEST WAIT", "oldest_wait_seconds")},
	"stats":  nil, // a row for each number, and a column for each server
}

// shown are the names of the tables.
func shown() []string { return slices.Sorted(maps.Keys(tables)) }

func runShow(ctx context.Context, args []string, std stdio) error {
	f := newFlags(std, "show "+strings.Join(shown(), "|")+" [flags]", `Show what a running gateway does:
  pools        how each pool stands
  connections  the connections that are open
  clients      who calls the gateway
  servers      what is known of each server
  stats        all counters of each pool
  config       the settings in force, and where each comes from
  waits        who waits for a slot`)
	open := f.operator()
	asJSON := f.Bool("json", false, "print what the gateway says, as JSON")
	watch := f.Bool("watch", false, "show it again each second, until interrupted")
	if err := f.parse(args, 1); err != nil {
		return err
	}
	if len(f.arguments) == 0 {
		return usagef("show what? There are %s", strings.Join(shown(), ", "))
	}
	what := f.arguments[0]
	columns, known := tables[what]
	if !known {
		return usagef("show %q: there are %s", what, strings.Join(shown(), ", "))
	}
	gateway, err := open()
	if err != nil {
		return err
	}
	print := func(said *answer) error {
		switch {
		case *asJSON && *watch:
			_, err := fmt.Fprintf(std.out, "%s\n", bytes.TrimSpace(said.body))
			return err
		case *asJSON:
			_, err := fmt.Fprintln(std.out, indented(said.body))
			return err
		}
		var answer map[string][]row
		if err := json.Unmarshal(said.body, &answer); err != nil {
			return fmt.Errorf("the gateway's answer: %w", err)
		}
		if what == "stats" {
			return printStats(std.out, answer[what])
		}
		rows := answer[cmp.Or(map[string]string{"config": "settings"}[what], what)]
		return printTable(std.out, columns, rows, said.now)
	}
	tick := time.NewTicker(watchStep)
	defer tick.Stop()
	for first := true; ; first = false {
		said, err := show(ctx, gateway, what, std)
		switch {
		case *watch && ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		if *watch && !*asJSON {
			if isTerminal(std.out) {
				fmt.Fprint(std.out, clearScreen)
			} else if !first {
				fmt.Fprintln(std.out)
			}
		}
		if err := print(said); err != nil || !*watch {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

const clearScreen = "\x1b[H\x1b[2J"

func show(ctx context.Context, gateway *operator, what string, std stdio) (*answer, error) {
	var said *answer
	err := patiently(ctx, std, func() string { return "waiting for the gateway" }, func(ctx context.Context) (err error) {
		said, err = gateway.ask(ctx, "GET", what)
		return err
	})
	return said, err
}

// printTable prints rows in aligned columns.
func printTable(w io.Writer, columns []column, rows []row, now time.Time) error {
	var titles []string
	for _, c := range columns {
		titles = append(titles, c.title)
	}
	lines := [][]string{titles}
	for _, r := range rows {
		var cells []string
		for _, c := range columns {
			cells = append(cells, c.cell(r, now))
		}
		lines = append(lines, cells)
	}
	return printLines(w, lines)
}

// printStats prints the numbers of each server, side by side.
func printStats(w io.Writer, servers []row) error {
	names := []string{}
	lines := [][]string{{"NAME"}}
	flat := make([]map[string]string, len(servers))
	for i, s := range servers {
		lines[0] = append(lines[0], cellOf(s["server"]))
		flat[i] = map[string]string{}
		flatten(flat[i], "", s)
		for name := range flat[i] {
			if name != "server" && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	for _, name := range names {
		line := []string{name}
		for i := range flat {
			line = append(line, cmp.Or(flat[i][name], none))
		}
		lines = append(lines, line)
	}
	return printLines(w, lines)
}

// flatten puts the members of an object into one, under their paths.
func flatten(into map[string]string, path string, object map[string]any) {
	for name, value := range object {
		if inner, is := value.(map[string]any); is {
			flatten(into, path+name+".", inner)
			continue
		}
		into[path+name] = cellOf(value)
	}
}

func printLines(w io.Writer, lines [][]string) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, line := range lines {
		last := len(line) - 1
		for i, cell := range line {
			end := "\t"
			if i == last {
				end = "\n"
			}
			fmt.Fprint(table, cell, end)
		}
	}
	return table.Flush()
}

// none stands for what is not there: an empty cell is hard to see.
const none = "-"

// maxCell bounds a cell, in characters.
const maxCell = 80

// cellOf is a value of JSON as a cell.
func cellOf(value any) string {
	switch v := value.(type) {
	case nil:
		return none
	case float64:
		return strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.6f", v), "0"), ".")
	case bool:
		return fmt.Sprint(v)
	default:
		text := []rune(printable(fmt.Sprint(v)))
		if len(text) > maxCell {
			text = append(text[:maxCell-1], '…')
		}
		return cmp.Or(string(text), none)
	}
}

func text(title, member string) column {
	return column{title, func(r row, _ time.Time) string { return cellOf(r[member]) }}
}

// period shows seconds as a duration that is short enough to be read.
func period(title, member string) column {
	return column{title, func(r row, _ time.Time) string { return brief(r[member]) }}
}

// brief is seconds with two digits that matter: 1.2s, 340ms, 3h12m.
func brief(value any) string {
	seconds, is := value.(float64)
	if !is || seconds == 0 {
		return none
	}
	d := time.Duration(seconds * float64(time.Second))
	unit := time.Microsecond
	switch {
	case d >= time.Hour:
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	case d >= 10*time.Second:
		unit = time.Second
	case d >= time.Second:
		unit = 100 * time.Millisecond
	case d >= 10*time.Millisecond:
		unit = time.Millisecond
	case d >= time.Millisecond:
		unit = 100 * time.Microsecond
	}
	return d.Round(unit).String()
}

// ago shows how long ago a moment was, by the gateway's clock.
func ago(title, member string) column {
	return column{title, func(r row, now time.Time) string {
		at, err := time.Parse(time.RFC3339, cellOf(r[member]))
		if err != nil {
			return none
		}
		if since := now.Sub(at); since >= time.Second {
			return brief(since.Truncate(time.Second).Seconds()) + " ago"
		}
		return "now"
	}}
}

func poolState(r row, _ time.Time) string {
	switch breaker := cellOf(r["breaker"]); {
	case r["paused"] == true:
		return "paused"
	case breaker != "closed":
		return "away"
	case r["health"] == "failing":
		return "failing"
	}
	return "ok"
}

func reuse(r row, _ time.Time) string {
	ratio, _ := r["reuse_ratio"].(float64)
	return fmt.Sprintf("%.2f%%", 100*ratio)
}

func callP99(r row, _ time.Time) string {
	call, _ := r["call"].(map[string]any)
	return brief(call["p99_seconds"])
}

func lastError(r row, now time.Time) string {
	last, is := r["last_error"].(map[string]any)
	if !is {
		return none
	}
	return ago("", "at").cell(last, now) + ": " + cellOf(last["error"])
}
