package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"
)

// The colours are those of the terminal, so that they fit what it has behind
// them.
var (
	styleTitle    = lipgloss.NewStyle().Bold(true)
	styleDim      = lipgloss.NewStyle().Faint(true)
	styleSelected = lipgloss.NewStyle().Bold(true).Reverse(true)
	styleGood     = lipgloss.NewStyle().Foreground(lipgloss.Green)
	styleWarn     = lipgloss.NewStyle().Foreground(lipgloss.Yellow)
	styleBad      = lipgloss.NewStyle().Foreground(lipgloss.Red).Bold(true)
	stylePlain    = lipgloss.NewStyle()
)

// A topColumn is a column of a table on the screen.
type topColumn[T any] struct {
	title string
	width int
	rank  int // those of the highest go first where there is no room; 0 stays
	left  bool
	cell  func(T) string
	style func(T) lipgloss.Style // nil for plain
}

const (
	nameMin = 11 // what a longer name has of the first column at least, before other columns go
	nameMax = 40
	// Below these heights there are no empty lines, no totals, and no head at all.
	lowHeight, lowerHeight, lowestHeight = 10, 7, 5
)

func (t *top) View() tea.View {
	var lines []string
	lines = append(lines, t.head()...)
	if t.help {
		lines = append(lines, helpLines...)
	} else {
		lines = append(lines, t.body()...)
	}
	for len(lines) < t.height-1 {
		lines = append(lines, "")
	}
	lines = append(lines[:max(0, min(len(lines), t.height-1))], t.foot())
	for i, line := range lines {
		lines[i] = lipgloss.NewStyle().MaxWidth(max(1, t.width)).Render(line)
	}
	view := tea.NewView(strings.Join(lines, "\n"))
	view.AltScreen = true
	view.WindowTitle = "mcpool top " + t.url
	return view
}

// spread puts at the left the first text that there is room for, and another at
// the right.
func (t *top) spread(right string, left ...string) string {
	for _, text := range left {
		if gap := t.width - lipgloss.Width(text) - lipgloss.Width(right); gap > 0 {
			return text + strings.Repeat(" ", gap) + right
		}
	}
	return right
}

// head says which gateway it is and how it stands, in at most three lines.
func (t *top) head() []string {
	if t.height < lowestHeight {
		return nil
	}
	stands := styleGood.Render("● live")
	switch {
	case t.away != nil:
		stands = styleBad.Render("○ away")
	case t.state == nil:
		stands = styleDim.Render("… connecting")
	}
	title := styleTitle.Render("mcpool top")
	lines := []string{t.spread(stands+"  "+t.now.Format("15:04:05"), title+"  "+printable(t.url), title)}
	switch {
	case t.height < lowerHeight:
	case t.away != nil:
		since := t.now.Sub(t.awaySince).Truncate(time.Second)
		lines = append(lines, styleBad.Render(fmt.Sprintf("away for %v, trying again: %s", since, printable(t.away.Error()))))
	case t.state == nil:
		lines = append(lines, "")
	default:
		lines = append(lines, t.totals())
	}
	return t.spaced(lines)
}

// spaced is lines with an empty one behind them, if there is room.
func (t *top) spaced(lines []string) []string {
	if t.height < lowHeight {
		return lines
	}
	return append(lines, "")
}

func (t *top) totals() string {
	var sum topPool
	var happens rate
	var oldest float64
	for _, p := range t.state.Pools {
		sum.Connections += p.Connections
		sum.CallsInFlight += p.CallsInFlight
		sum.Waiting += p.Waiting
		oldest = max(oldest, p.OldestWait)
		happens.calls += t.rates[p.Server].calls
		happens.errors += t.rates[p.Server].errors
	}
	parts := []string{
		plural(len(t.state.Pools), "pool"), plural(sum.Connections, "connection"), fmt.Sprintf("%d in flight", sum.CallsInFlight),
		fmt.Sprintf("%d waiting", sum.Waiting), perSecond(happens.calls) + " calls/s", perSecond(happens.errors) + " errors/s",
	}
	if sum.Waiting > 0 {
		parts[3] = styleWarn.Render(parts[3])
	}
	if happens.errors > 0 {
		parts[5] = styleBad.Render(parts[5])
	}
	return strings.Join(parts, styleDim.Render(" · "))
}

// perSecond is a rate in at most six characters.
func perSecond(r float64) string {
	switch {
	case r == 0:
		return "0"
	case r < 9.95:
		return fmt.Sprintf("%.1f", r)
	case r < 99_999.5:
		return fmt.Sprintf("%.0f", r)
	}
	return fmt.Sprintf("%.0fk", r/1000)
}

// short is a number in at most six characters.
func short(n uint64) string {
	switch {
	case n < 100_000:
		return fmt.Sprint(n)
	case n < 10_000_000:
		return fmt.Sprintf("%dk", n/1000)
	}
	return fmt.Sprintf("%dM", n/1_000_000)
}

// since is how many seconds have gone by since the last event, for what grows
// while nothing happens.
func (t *top) since() float64 {
	if t.away != nil {
		return 0
	}
	return max(0, t.now.Sub(t.at).Seconds())
}

func (t *top) poolColumns() []topColumn[topPool] {
	number := func(title string, width, rank int, n func(topPool) int) topColumn[topPool] {
		return topColumn[topPool]{title: title, width: width, rank: rank, cell: func(p topPool) string { return fmt.Sprint(n(p)) }}
	}
	warn := func(is func(topPool) bool, style lipgloss.Style) func(topPool) lipgloss.Style {
		return func(p topPool) lipgloss.Style {
			if is(p) {
				return style
			}
			return stylePlain
		}
	}
	waiting := number("WAITING", 7, 1, func(p topPool) int { return p.Waiting })
	waiting.style = warn(func(p topPool) bool { return p.Waiting > 0 }, styleWarn)
	return []topColumn[topPool]{
		{title: "SERVER", left: true, cell: func(p topPool) string { return printable(p.Server) }},
		{title: "STATE", width: 6, left: true, cell: topPoolState, style: func(p topPool) lipgloss.Style {
			switch topPoolState(p) {
			case "paused":
				return styleWarn
			case "away":
				return styleBad
			}
			return styleGood
		}},
		number("CONNS", 5, 6, func(p topPool) int { return p.Connections }),
		number("IN USE", 6, 8, func(p topPool) int { return p.InUse }),
		number("IDLE", 4, 9, func(p topPool) int { return p.Idle }),
		number("OPENING", 7, 10, func(p topPool) int { return p.Opening }),
		number("IN FLIGHT", 9, 2, func(p topPool) int { return p.CallsInFlight }),
		waiting,
		{title: "OLDEST", width: 6, rank: 7, cell: func(p topPool) string {
			if p.Waiting == 0 {
				return none
			}
			return brief(p.OldestWait + t.since())
		}},
		{title: "CALLS/S", width: 7, rank: 4, cell: func(p topPool) string { return perSecond(t.rates[p.Server].calls) }},
		{title: "ERR/S", width: 5, rank: 5, cell: func(p topPool) string { return perSecond(t.rates[p.Server].errors) },
			style: warn(func(p topPool) bool { return t.rates[p.Server].errors > 0 }, styleBad)},
		{title: "P99", width: 6, rank: 3, cell: func(p topPool) string { return brief(p.Call.P99) }},
		{title: "CALLS", width: 6, rank: 11, cell: func(p topPool) string { return short(p.Calls) }},
		{title: "ERRORS", width: 6, rank: 12, cell: func(p topPool) string { return short(p.Errors) }},
		{title: "REUSE", width: 6, rank: 13, cell: func(p topPool) string { return fmt.Sprintf("%.1f%%", 100*p.ReuseRatio) }},
		{title: "SAVED", width: 6, rank: 14, cell: func(p topPool) string { return brief(p.AvoidedTime) }},
		{title: "CALLS/S, LAST 40 S", width: sparks, rank: 15, left: true, cell: func(p topPool) string { return spark(t.recent[p.Server]) }},
	}
}

func topPoolState(p topPool) string {
	switch {
	case p.Paused:
		return "paused"
	case p.Breaker != "closed":
		return "away"
	case p.Health == "failing":
		return "failing"
	}
	return "ok"
}

// spark draws numbers as bars, the last at the right.
func spark(values []float64) string {
	bars := []rune(" ▁▂▃▄▅▆▇█")
	most := 0.0
	for _, v := range values {
		most = max(most, v)
	}
	drawn := []rune(strings.Repeat(" ", sparks-len(values)))
	for _, v := range values {
		height := 0
		if v > 0 {
			height = max(1, int(math.Round(v/most*float64(len(bars)-1))))
		}
		drawn = append(drawn, bars[height])
	}
	return string(drawn)
}

func (t *top) connColumns() []topColumn[topConn] {
	return []topColumn[topConn]{
		{title: "CONNECTION", left: true, cell: func(c topConn) string { return printable(c.ID) }},
		{title: "STATE", width: 8, left: true, cell: func(c topConn) string { return printable(c.State) }},
		{title: "ERA", width: 10, rank: 7, left: true, cell: func(c topConn) string { return printable(c.Era) }},
		{title: "AGE", width: 6, rank: 4, cell: func(c topConn) string { return brief(wholeSeconds(c.Age + t.since())) }},
		{title: "LAST USE", width: 8, rank: 5, cell: func(c topConn) string {
			if c.CallsInFlight > 0 {
				return "now"
			}
			return cmp.Or(strings.TrimPrefix(brief(wholeSeconds(t.now.Sub(c.LastUse).Seconds())), none), "now")
		}},
		{title: "IN FLIGHT", width: 9, rank: 1, cell: func(c topConn) string { return fmt.Sprintf("%d/%d", c.CallsInFlight, c.Slots) }},
		{title: "CALLS", width: 6, rank: 3, cell: func(c topConn) string { return short(c.Calls) }},
		{title: "ERRORS", width: 6, rank: 2, cell: func(c topConn) string { return short(c.Errors) }, style: func(c topConn) lipgloss.Style {
			if c.Errors > 0 {
				return styleBad
			}
			return stylePlain
		}},
		{title: "OPEN TOOK", width: 9, rank: 6, cell: func(c topConn) string { return brief(c.OpenTook) }},
		{title: "GROUP", width: 24, rank: 8, left: true, cell: func(c topConn) string { return printable(c.Group) }},
	}
}

func wholeSeconds(s float64) float64 { return math.Trunc(s) }

// body is the table, or why there is none.
func (t *top) body() []string {
	switch {
	case t.state == nil && t.away == nil:
		return []string{"  waiting for the gateway"}
	case t.state == nil:
		return []string{"  nothing is known yet"}
	case t.server == "":
		pools := t.pools()
		if len(pools) == 0 {
			return []string{t.nothing("pool")}
		}
		at := slices.IndexFunc(pools, func(p topPool) bool { return p.Server == t.pool().Server })
		return table(t, t.poolColumns(), pools, at)
	}
	lines := t.name()
	all := t.connections()
	if len(all) == 0 {
		return append(lines, t.nothing("connection"))
	}
	at := slices.IndexFunc(all, func(c topConn) bool { return c.ID == t.connection().ID })
	return append(lines, table(t, t.connColumns(), all, at)...)
}

// name says above connections whose they are.
func (t *top) name() []string {
	return t.spaced([]string{styleTitle.Render(printable(t.server)) + t.waits()})
}

func (t *top) nothing(what string) string {
	if t.filter != "" {
		return fmt.Sprintf("  no %s has %q in it: esc shows all", what, t.filter)
	}
	return fmt.Sprintf("  no %s is open: the first call opens one", what)
}

// waits says who waits for a connection of the pool that is shown.
func (t *top) waits() string {
	state := topPoolState(*t.pool())
	text := ""
	if state != "ok" {
		text = " " + styleWarn.Render("("+state+")")
	}
	for _, w := range t.state.Waits {
		if w.Server == t.server {
			text += styleWarn.Render(fmt.Sprintf("  %s waits: %s, the oldest %s", cmp.Or(printable(w.Principal), "anonymous"), plural(w.Waiting, "call"), brief(w.OldestWait+t.since())))
		}
	}
	return text
}

// room is how many rows of a table there is room for.
func (t *top) room() int {
	rows := t.height - len(t.head()) - 2 // the titles, the foot
	if t.server != "" {
		rows -= len(t.name())
	}
	return max(1, rows)
}

// table draws the rows that there is room for, the selected one among them.
func table[T any](t *top, columns []topColumn[T], rows []T, selected int) []string {
	columns, name := fit(t.width, columns, rows)
	columns[0].width = name
	titles := make([]string, len(columns))
	for i, c := range columns {
		titles[i] = aligned(c.title, c.width, c.left)
	}
	lines := []string{styleDim.Render("  " + strings.Join(titles, "  "))}
	first := max(0, min(selected-t.room()/2, len(rows)-t.room()))
	for i, r := range rows[first:min(len(rows), first+t.room())] {
		isSelected := first+i == selected
		cells := make([]string, len(columns))
		for j, c := range columns {
			cells[j] = aligned(c.cell(r), c.width, c.left)
			if c.style != nil && !isSelected && t.away == nil {
				cells[j] = c.style(r).Render(cells[j])
			}
		}
		line := strings.Join(cells, "  ")
		switch {
		case isSelected:
			line = styleSelected.Render(aligned("> "+line, max(t.width, lipgloss.Width(line)+2), true))
		case t.away != nil:
			line = styleDim.Render("  " + line)
		default:
			line = "  " + line
		}
		lines = append(lines, line)
	}
	return lines
}

// fit returns the columns that there is room for, and the width of the first.
func fit[T any](width int, columns []topColumn[T], rows []T) ([]topColumn[T], int) {
	longest := lipgloss.Width(columns[0].title)
	for _, r := range rows {
		longest = max(longest, lipgloss.Width(columns[0].cell(r)))
	}
	for {
		rest := width - 2
		for _, c := range columns[1:] {
			rest -= c.width + 2
		}
		least := slices.MaxFunc(columns, func(a, b topColumn[T]) int { return cmp.Compare(a.rank, b.rank) })
		if rest >= min(longest, nameMin) || least.rank == 0 {
			return columns, max(1, min(rest, longest, nameMax))
		}
		columns = slices.DeleteFunc(columns, func(c topColumn[T]) bool { return c.rank == least.rank })
	}
}

// aligned is text of just this width.
func aligned(text string, width int, left bool) string {
	if lipgloss.Width(text) > width {
		text = string([]rune(text)[:max(0, width-1)]) + "…"
	}
	space := strings.Repeat(" ", max(0, width-lipgloss.Width(text)))
	if left {
		return text + space
	}
	return space + text
}

// foot is the last line: a question, what was done, or the keys.
func (t *top) foot() string {
	style := styleDim
	if t.failed {
		style = styleBad
	}
	switch {
	case t.confirm != nil:
		return styleWarn.Render(t.confirm.question + " y/n")
	case t.typing:
		return "/" + t.filter + "█"
	case t.notice != "":
		return style.Render(printable(t.notice))
	case t.help:
		return styleDim.Render("any key goes back")
	}
	keys := "↑↓ select  enter connections  p pause  r resume  d drain  R reset  / filter  ? help  q quit"
	if t.server != "" {
		keys = "↑↓ select  esc back  x kill  p pause  r resume  d drain  R reset  / filter  ? help  q quit"
	}
	if t.width < lipgloss.Width(keys) {
		keys = strings.ReplaceAll(strings.ReplaceAll(keys, "↑↓ select  ", ""), "enter connections", "enter open")
	}
	if t.width < lipgloss.Width(keys) {
		keys = map[bool]string{true: "p pause  r resume  d drain  ? help  q quit", false: "esc back  x kill  ? help  q quit"}[t.server == ""]
	}
	if t.width < lipgloss.Width(keys) {
		keys = "? help  q quit"
	}
	if t.filter != "" {
		keys = fmt.Sprintf("filter %q  esc ends it  ? help  q quit", t.filter)
	}
	return styleDim.Render(keys)
}

var helpLines = strings.Split(`  ↑ ↓  j k      select               g G  pgup pgdn   first, last; a page
  enter  l      show a pool's connections
  esc  h        back to the pools, or end a filter
  /             filter: show names that have a text in them

  p             pause: lend no connections; callers wait, none is lost
  r             resume: lend them again
  d             drain: replace all connections, and wait for that
  R             reset: replace them as they come free
  x             kill the selected connection: its calls in flight fail

  q  ctrl+c     quit

  CONNS      connections open     IN USE     those with a call in flight
  IN FLIGHT  calls under way      WAITING    callers that wait for a slot
  OLDEST     the longest of them  P99        99 of 100 calls took at most this
  REUSE      calls that cost no connection of their own
  SAVED      the time that opening one for each call would have taken`, "\n")
