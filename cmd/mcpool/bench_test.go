package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/mcpool-dev/mcpool/internal/mcptest"
)

// benchQuickly runs the command against a server that is hardly slow.
func benchQuickly(ctx context.Context, stderr io.Writer, args ...string) (stdout string, err error) {
	var out bytes.Buffer
	err = runBench(ctx, append([]string{"--open-delay", "20ms", "--call-delay", "0.005"}, args...), &out, stderr)
	return out.String(), err
}

func TestBench(t *testing.T) {
	t.Run("counts what each contender costs", testBenchCounts)
	t.Run("prints a table", testBenchTable)
	t.Run("stops when it is interrupted", testBenchStops)
}

func testBenchCounts(t *testing.T) {
	defer mcptest.VerifyNone(t)
	var progress bytes.Buffer
	stdout, err := benchQuickly(t.Context(), &progress, "--json")
	if err != nil || progress.Len() > 0 {
		t.Fatalf("runBench: %v, stderr %q", err, &progress)
	}
	type figures struct {
		Name       string
		StartUp    float64 `json:"start_up_seconds"`
		FirstCall  float64 `json:"first_call_seconds"`
		ReusedCall float64 `json:"reused_call_seconds"`
		InServer   float64 `json:"reused_call_in_server_seconds"`
		Overhead   float64 `json:"reused_call_overhead_seconds"`
		AtOnce     []struct {
			Calls, Succeeded int
			Took             float64 `json:"took_seconds"`
			Opened           int     `json:"connections_opened"`
		} `json:"at_once"`
		Opened   int     `json:"connections_opened"`
		Calls    int     `json:"calls_served"`
		Failed   int     `json:"calls_failed"`
		Shutdown float64 `json:"shutdown_seconds"`
	}
	var report struct {
		OpenDelay  float64   `json:"open_delay_seconds"`
		CallDelay  float64   `json:"call_delay_seconds"`
		Source     figures   `json:"source_system"`
		Contenders []figures `json:"contenders"`
		Narrow     figures   `json:"one_call_per_connection"`
	}
	if err := json.Unmarshal([]byte(stdout), &report); err != nil {
		t.Fatal(err)
	}
	if report.OpenDelay != .02 || report.CallDelay != .005 {
		t.Errorf("delays are %v and %v", report.OpenDelay, report.CallDelay)
	}
	if s := report.Source; s.StartUp != .001 || s.FirstCall != 2.168 || s.ReusedCall != .318 || s.AtOnce != nil {
		t.Errorf("source system: %+v", s)
	}

	const calls = 1 + benchReused + benchFew + benchMany
	opened := map[string]func(all, few, many int) bool{
		"no pool":     func(all, few, many int) bool { return all == calls && few == benchFew && many == benchMany },
		"one session": func(all, few, many int) bool { return all == 1 && few == 0 && many == 0 },
		"mcpool":      func(all, few, many int) bool { return all <= 6 && few == 0 && many <= 5 },
	}
	for _, f := range report.Contenders {
		if f.Calls != calls || f.Failed != 0 || len(f.AtOnce) != 2 ||
			f.AtOnce[0].Succeeded != benchFew || f.AtOnce[1].Succeeded != benchMany {
			t.Fatalf("not all calls succeeded: %+v", f)
		}
		if ok := opened[f.Name]; ok == nil || !ok(f.Opened, f.AtOnce[0].Opened, f.AtOnce[1].Opened) {
			t.Errorf("connections opened: %+v", f)
		}
		if f.StartUp <= 0 || f.FirstCall < .005 || f.ReusedCall < f.InServer || f.InServer < .005 || f.Overhead <= 0 || f.Shutdown <= 0 {
			t.Errorf("times: %+v", f)
		}
	}
	if len(report.Contenders) != len(opened) {
		t.Errorf("%d contenders", len(report.Contenders))
	}
	if f := report.Narrow; f.Opened != 6 || f.Calls != benchMany || f.Failed != 0 || len(f.AtOnce) != 1 || f.AtOnce[0].Opened != 6 {
		t.Errorf("one call per connection: %+v", f)
	}
}

func testBenchTable(t *testing.T) {
	defer mcptest.VerifyNone(t)
	var progress bytes.Buffer
	stdout, err := benchQuickly(t.Context(), &progress)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(progress.String(), "mcpool: first call\n") || strings.Contains(progress.String(), "\r") {
		t.Errorf("progress is %q", &progress)
	}
	text := strings.SplitN(stdout, "\n\n", 3)
	if len(text) != 3 {
		t.Fatalf("want text, table and text, got\n%s", stdout)
	}
	rows := strings.Split(text[1], "\n")
	for _, row := range rows {
		if utf8.RuneCountInString(row) != utf8.RuneCountInString(rows[0]) {
			t.Errorf("not aligned: %q", row)
		}
	}
	for line := range strings.Lines(stdout) {
		if utf8.RuneCountInString(line) > 101 {
			t.Errorf("wider than 100: %q", line)
		}
	}
	for label, cells := range map[string][]string{
		"reused call, median of 5  ": {"318 ms"},
		"64 calls at once  ":         {"–"},
		"  succeeded  ":              {"–", "3 of 3", "3 of 3", "3 of 3"},
		"connections opened in all ": {"–", "73", "1"},
		"calls per connection ":      {"–", "1.0", "73.0"},
	} {
		i := slices.IndexFunc(rows, func(row string) bool { return strings.HasPrefix(row, label) })
		if i < 0 {
			t.Errorf("no row %q", label)
		} else if got := strings.Join(strings.Fields(rows[i][len(label):]), " "); !strings.HasPrefix(got, strings.Join(cells, " ")) {
			t.Errorf("row %q is %q, want %q", label, got, cells)
		}
	}
}

// stopAt calls stop when it is told of a step of that name.
type stopAt struct {
	step string
	stop context.CancelCauseFunc
}

func (s stopAt) Write(line []byte) (int, error) {
	if strings.Contains(string(line), s.step) {
		s.stop(errors.New("enough"))
	}
	return len(line), nil
}

func testBenchStops(t *testing.T) {
	for _, step := range []string{"opening the sample", "one session: start-up", "no pool: first call",
		"no pool: 64", "mcpool: 64", "mcpool: shutdown"} {
		t.Run(step, func(t *testing.T) {
			defer mcptest.VerifyNone(t)
			ctx, stop := context.WithCancelCause(t.Context())
			defer stop(nil)
			stdout, err := benchQuickly(ctx, stopAt{step, stop})
			if err == nil || err.Error() != "bench stopped: enough" || stdout != "" {
				t.Errorf("got %v, %q", err, stdout)
			}
		})
	}
}

func TestBenchRefusesFlagsThatMakeNoSense(t *testing.T) {
	for _, test := range []struct {
		args []string
		want []string
	}{
		{[]string{"--open-delay", "soon"}, []string{"open-delay", `"soon"`, "seconds"}},
		{[]string{"--call-delay", "-1s"}, []string{"call-delay", `"-1s"`, "not negative"}},
		{[]string{"--open-delay", "11s"}, []string{"open-delay", "11s", "0s to 10s"}},
		{[]string{"--call-delay", "2.5"}, []string{"call-delay", "2.5s", "0s to 2s"}},
		{[]string{"--json=perhaps"}, []string{"json", `"perhaps"`}},
		{[]string{"--fast"}, []string{"fast"}},
		{[]string{"--json", "64"}, []string{`"64"`}},
	} {
		err := runBench(t.Context(), test.args, io.Discard, io.Discard)
		var mistake usageError
		if !errors.As(err, &mistake) {
			t.Errorf("%q: got %v", test.args, err)
			continue
		}
		for _, want := range test.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %q does not tell %s", test.args, err, want)
			}
		}
	}
}

func TestBenchCountsOnlyRightAnswersAsServed(t *testing.T) {
	f := &figures{Name: "mcpool"}
	for _, wrong := range []string{`null`, `{"rows":[]}`, `{"rows":[[49999]]}`, `{"rows":[[50000],[50000]]}`,
		`{"rows":[["50000"]]}`, `{"error":{"code":"STATEMENT_TIMEOUT"}}`} {
		if f.count(json.RawMessage(wrong), nil) {
			t.Errorf("%s was counted as right", wrong)
		}
	}
	right := json.RawMessage(`{"rows":[[50000]],"truncated":false}`)
	if f.count(right, errors.New("lost")) || !f.count(right, nil) {
		t.Error("an error was counted as right, or the right answer was not")
	}
	report := &benchReport{Contenders: []*figures{f}, Narrow: &figures{}}
	err := report.failures()
	if err == nil || !strings.Contains(err.Error(), "mcpool: 7 of 8 calls failed, the first: wrong answer: want one row with 50000") {
		t.Errorf("failures() = %v", err)
	}
}

func TestBenchShowsTimesInMilliseconds(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                         "–",
		3 * time.Microsecond:      "<0.01 ms",
		523 * time.Microsecond:    "0.52 ms",
		time.Millisecond:          "1 ms",
		318 * time.Millisecond:    "318 ms",
		999600 * time.Microsecond: "1,000 ms",
		2168 * time.Millisecond:   "2,168 ms",
		62003 * time.Millisecond:  "62,003 ms",
	} {
		if got := seconds(d).cell(); got != want {
			t.Errorf("%v is shown as %q, want %q", d, got, want)
		}
	}
}
