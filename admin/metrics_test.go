package admin_test

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/admin"
)

// scrape returns the lines of /metrics that are ours, and the values by
// series.
func scrape(t *testing.T, pools ...*mcpool.Pool) (string, map[string]float64) {
	t.Helper()
	w := request(admin.New(admin.Options{Pools: func() []*mcpool.Pool { return pools }}), "GET", "/metrics")
	if w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	var ours strings.Builder
	series := make(map[string]float64)
	for line := range strings.Lines(w.Body.String()) {
		if !strings.Contains(line, "mcpool_") {
			continue
		}
		ours.WriteString(line)
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "} "); ok && line[0] != '#' {
			v, err := strconv.ParseFloat(value, 64)
			if err != nil {
				t.Fatal(err)
			}
			series[name+"}"] = v
		}
	}
	return ours.String(), series
}

func TestMetricsAreNamedAsPrometheusWants(t *testing.T) {
	text, _ := scrape(t, busyPool(t), newPool(t, "unused", make(server)))
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestMetricsHaveEveryFieldOfStats(t *testing.T) {
	p := busyPool(t)
	_, series := scrape(t, p)
	stats := reflect.ValueOf(p.Stats())
	wants := make(map[string]float64)
	want := func(value float64, name, labels string) {
		wants["mcpool_"+name+"{"+labels+"}"] = value
	}
	const server = `server="busy"`
	for i := range stats.NumField() {
		name := snake(stats.Type().Field(i).Name)
		switch v := stats.Field(i).Interface().(type) {
		case string: // the label
		case int:
			switch name {
			case "connections": // in use and idle
			case "in_use", "idle", "opening", "retired":
				want(float64(v), "connections", server+`,state="`+name+`"`)
			default:
				want(float64(v), name, server)
			}
		case float64:
			want(v, name, server)
		case uint64:
			want(float64(v), name+"_total", server)
		case time.Duration:
			if name == "wait_time" {
				want(v.Seconds(), name+"_seconds_total", server)
			} else {
				want(v.Seconds(), name+"_seconds", server)
			}
		case bool:
			want(map[bool]float64{true: 1}[v], name, server)
		case mcpool.Breaker:
			for _, state := range mcpool.Breakers() {
				want(map[bool]float64{true: 1}[v == state], "breaker_state", server+`,state="`+string(state)+`"`)
			}
		case mcpool.Latency:
			want(float64(v.Count), name+"_seconds_count", server)
			want(v.Sum.Seconds(), name+"_seconds_sum", server)
			want(float64(v.Count), name+"_seconds_bucket", server+`,le="+Inf"`)
		default:
			if stats.Field(i).Kind() == reflect.Map {
				label := "reason"
				if name == "acquires" {
					label = "result"
				}
				for reason, count := range reasons(stats.Field(i)) {
					want(count.(float64), name+"_total", label+`="`+reason+`",`+server)
				}
				break
			}
			t.Errorf("%s is a %T, which this test does not know", name, v)
		}
	}
	for name, value := range wants {
		if got, ok := series[name]; !ok || got != value {
			t.Errorf("%s is %v (there: %v), want %v", name, got, ok, value)
		}
	}
	for name := range series {
		if _, ok := wants[name]; !ok && !strings.Contains(name, "_bucket{") {
			t.Errorf("%s comes from nothing in Stats", name)
		}
	}
}

// TestTheDocsNameMetricsThatThereAre, and docs/telemetry.md all of a pool.
func TestTheDocsNameMetricsThatThereAre(t *testing.T) {
	names := func(metrics string) map[string]bool {
		all := make(map[string]bool)
		for line := range strings.Lines(metrics) {
			if rest, is := strings.CutPrefix(line, "# TYPE "); is {
				name, _, _ := strings.Cut(rest, " ")
				all[name] = true
			}
		}
		return all
	}
	h := newHouse(t)
	h.visit(0)
	there := names(h.metrics(t))
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatal(pages, err)
	}
	told := make(map[string]bool)
	for _, file := range pages {
		page, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range regexp.MustCompile("`(mcpool_[a-z_]+)[`{]").FindAllSubmatch(page, -1) {
			name := string(found[1])
			if !there[name] {
				t.Errorf("%s has %s, which there is not", file, name)
			}
			told[name] = told[name] || filepath.Base(file) == "telemetry.md"
		}
	}
	text, _ := scrape(t, busyPool(t))
	for name := range names(text) {
		if !told[name] {
			t.Errorf("docs/telemetry.md does not have %s", name)
		}
	}
}

func TestHistogramsHaveFewBucketsThatMatchStats(t *testing.T) {
	p := busyPool(t)
	_, series := scrape(t, p)
	call := p.Stats().Call
	n := 0
	for _, b := range call.Buckets {
		seconds := (b.UpTo + time.Nanosecond).Seconds()
		name := fmt.Sprintf(`mcpool_call_seconds_bucket{server="busy",le="%v"}`, seconds)
		count, ok := series[name]
		if !ok {
			continue
		}
		n++
		if count != float64(b.Count) {
			t.Errorf("%s is %v, want %d", name, count, b.Count)
		}
	}
	if total := strings.Count(fmt.Sprint(series), "mcpool_call_seconds_bucket"); n < 10 || n > 20 || total != n+1 {
		t.Errorf("%d buckets of %d match those of Stats, want all but one of 10 to 20", n, total)
	}
	if _, ok := series[`mcpool_call_seconds_bucket{server="busy",le="0.001024"}`]; !ok {
		t.Error("no bucket of a millisecond with a short name")
	}
}
