package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A benchReport is what was measured, as --json prints it.
type benchReport struct {
	OpenDelay  seconds    `json:"open_delay_seconds"`
	CallDelay  seconds    `json:"call_delay_seconds"`
	Late       seconds    `json:"longest_delay_overrun_seconds"` // see benchBusy
	Source     *figures   `json:"source_system"`                 // what is known of it
	Contenders []*figures `json:"contenders"`
	Narrow     *figures   `json:"one_call_per_connection"` // mcpool with that setting
}

// benchBusy is how late the server's delays may be. On a quiet machine it was
// 30 ms at most; beyond this, what was measured is the machine's other work.
const benchBusy = seconds(50 * time.Millisecond)

// figures are those of one contender. What was not measured is left out.
type figures struct {
	Name         string  `json:"name"`
	StartUp      seconds `json:"start_up_seconds"`
	FirstCall    seconds `json:"first_call_seconds,omitzero"`
	Reused       seconds `json:"reused_call_seconds,omitzero"`           // median
	InServer     seconds `json:"reused_call_in_server_seconds,omitzero"` // median
	Overhead     seconds `json:"reused_call_overhead_seconds,omitzero"`
	AtOnce       []burst `json:"at_once,omitempty"`
	Opened       int64   `json:"connections_opened,omitzero"` // as the server counts
	Calls        int64   `json:"calls_served,omitzero"`       // with the right answer
	CallsPerConn float64 `json:"calls_per_connection,omitzero"`
	Failed       int64   `json:"calls_failed,omitzero"`
	FirstFailure string  `json:"first_failure,omitzero"`
	Shutdown     seconds `json:"shutdown_seconds,omitzero"`
}

// A burst is several calls at once.
type burst struct {
	Calls     int     `json:"calls"`
	Succeeded int     `json:"succeeded"`
	Took      seconds `json:"took_seconds"` // until the last answer
	Opened    int64   `json:"connections_opened"`
}

// sourceFigures are those that are known of the system this project is built
// from.
func sourceFigures() *figures {
	return &figures{
		Name:      "source system",
		StartUp:   seconds(time.Millisecond),
		FirstCall: seconds(2168 * time.Millisecond),
		Reused:    seconds(318 * time.Millisecond),
	}
}

// count takes in what came of a call, and reports whether it was what was
// asked for.
func (f *figures) count(result any, err error) bool {
	if err == nil {
		err = checkCount(result)
	}
	if err == nil {
		f.Calls++
		return true
	}
	if f.Failed++; f.Failed == 1 {
		f.FirstFailure = err.Error()
	}
	return false
}

// failures is nil if no call failed.
func (r *benchReport) failures() error {
	var errs []error
	for _, f := range slices.Concat(r.Contenders, []*figures{r.Narrow}) {
		if f.Failed > 0 {
			errs = append(errs, fmt.Errorf("bench: %s: %d of %d calls failed, the first: %s",
				f.Name, f.Failed, f.Failed+f.Calls, f.FirstFailure))
		}
	}
	return errors.Join(errs...)
}

func (r *benchReport) writeJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// writeTable writes the report for people, no line longer than 100.
func (r *benchReport) writeTable(w io.Writer) error {
	t := benchTable{columns: append([]*figures{r.Source}, r.Contenders...)}
	fmt.Fprintf(&t, "A database server that takes %v to open a connection and %v to answer a call,\n"+
		"called in three ways, beside what was measured of the source system.\n\n", r.OpenDelay, r.CallDelay)
	t.row("", func(f *figures) string { return f.Name })
	t.row("start-up", func(f *figures) string { return f.StartUp.cell() })
	t.row("first call", func(f *figures) string { return f.FirstCall.cell() })
	t.row(fmt.Sprintf("reused call, median of %d", benchReused), func(f *figures) string { return f.Reused.cell() })
	t.row("  inside the server", func(f *figures) string { return f.InServer.cell() })
	t.row("  overhead", func(f *figures) string { return f.Overhead.cell() })
	t.burst(benchFew, "calls at once")
	t.burst(benchMany, "calls at once")
	none := &figures{}
	narrow := benchTable{columns: []*figures{none, none, none, r.Narrow}}
	narrow.burst(benchMany, "at once, one call per connection")
	t.WriteString(narrow.String())
	t.row("connections opened in all", func(f *figures) string { return whole(f.Opened) })
	t.row("calls served in all", func(f *figures) string { return whole(f.Calls) })
	t.row("calls per connection", func(f *figures) string {
		if f.CallsPerConn == 0 {
			return unknown
		}
		return strconv.FormatFloat(f.CallsPerConn, 'f', 1, 64)
	})
	t.row("shutdown", func(f *figures) string { return f.Shutdown.cell() })
	t.WriteString(`
no pool: a session of the official Go SDK for each call. one session: one for all, from start-up.
mcpool: its defaults, up to 6 connections of 8 calls, opened by the calls that need them.
overhead: the call less the server's own time; without a pool, mostly opening the connection.
`)
	if r.Late > benchBusy {
		fmt.Fprintf(&t, "\nThis machine was busy: the server's delays were up to %s too long. Better run it again.\n", r.Late.cell())
	}
	_, err := io.WriteString(w, t.String())
	return err
}

// A benchTable has a row for each figure and a column for each contender.
type benchTable struct {
	strings.Builder
	columns []*figures
}

const unknown = "–"

func (t *benchTable) row(label string, cell func(*figures) string) {
	fmt.Fprintf(t, "%-38s", label)
	for _, f := range t.columns {
		fmt.Fprintf(t, "%15s", cell(f))
	}
	t.WriteByte('\n')
}

func (t *benchTable) burst(calls int, label string) {
	row := func(label string, cell func(burst) string) {
		t.row(label, func(f *figures) string {
			for _, b := range f.AtOnce {
				if b.Calls == calls {
					return cell(b)
				}
			}
			return unknown
		})
	}
	row(fmt.Sprintf("%d %s", calls, label), func(b burst) string { return b.Took.cell() })
	row("  succeeded", func(b burst) string { return fmt.Sprintf("%d of %d", b.Succeeded, b.Calls) })
	row("  connections opened for them", func(b burst) string { return strconv.FormatInt(b.Opened, 10) })
}

func whole(n int64) string {
	if n == 0 {
		return unknown
	}
	return strconv.FormatInt(n, 10)
}

// seconds is a time that is a number of seconds in JSON.
type seconds time.Duration

func (s seconds) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, time.Duration(s).Seconds(), 'f', -1, 64), nil
}

func (s seconds) String() string { return time.Duration(s).String() }

// cell shows s in milliseconds, small ones to a hundredth.
func (s seconds) cell() string {
	ms := float64(s) / 1e6
	switch {
	case s == 0:
		return unknown
	case ms < 0.01:
		return "<0.01 ms"
	case ms < 10:
		return strconv.FormatFloat(math.Round(ms*100)/100, 'f', -1, 64) + " ms"
	case ms < 999.5:
		return strconv.FormatFloat(ms, 'f', 0, 64) + " ms"
	}
	n := time.Duration(s).Round(time.Millisecond).Milliseconds()
	return fmt.Sprintf("%d,%03d ms", n/1000, n%1000)
}
