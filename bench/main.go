// Command bench measures the pool beside other pools, its connections beside
// other clients and its servers beside other servers, in turns, and says which
// targets are met. README.md has the
// method and the last figures.
package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// A part is measured and written by itself.
type part struct {
	name    string
	measure func(rounds int, round time.Duration) (text string)
}

func parts() []part {
	return []part{
		{"pools", measurePools},
		{"transports", measureTransports},
		{"roundtrips", measureRoundTrips},
		{"gateway", measureGateway},
		{"database", measureDatabase},
	}
}

func main() {
	if servePeer() {
		return
	}
	rounds := flag.Int("rounds", 15, "rounds of each case")
	round := flag.Duration("round", 20*time.Millisecond, "how long a subject runs in a round, at least")
	write := flag.Bool("write", false, "write the tables into README.md in this folder")
	only := flag.String("only", "", "measure only this part: pools, transports, roundtrips, gateway or database")
	flag.StringVar(&onlyCalls, "calls", "", "of the gateway, measure only calls with this in their names: for profiles")
	flag.IntVar(&tableMiB, "table", 1024, "of database, MiB of the PostgreSQL table whose first rows are read")
	flag.Parse()
	chosen := parts()
	if *only != "" {
		chosen = slices.DeleteFunc(chosen, func(p part) bool { return p.name != *only })
	}
	if flag.NArg() > 0 || *rounds < 1 || len(chosen) == 0 {
		flag.Usage()
		os.Exit(2)
	}
	for _, p := range chosen {
		about := machine()
		text := about + "\n\n" + p.measure(*rounds, *round)
		fmt.Print(text, "\n")
		if !*write {
			continue
		}
		if err := writePart("README.md", p.name, text); err != nil {
			fmt.Fprintf(os.Stderr, "bench: error: %v\n", err)
			os.Exit(1)
		}
	}
}

func measurePools(rounds int, round time.Duration) string {
	r := &results{cases: map[string]map[string]series{}}
	// First, while nothing has grown yet.
	r.bare, r.pooled, r.engine = idleConnection()
	for _, together := range cases() {
		maps.Copy(r.cases, measure(together, rounds, round))
	}
	return r.table()
}

// machine says when and on what this runs.
func machine() string {
	load, _ := os.ReadFile("/proc/loadavg")
	fields := strings.Fields(string(load))
	return fmt.Sprintf("%s, %s, %s, %d processors, load average %s.",
		time.Now().Format(time.DateOnly), runtime.Version(), processor(), runtime.NumCPU(),
		cmp.Or(strings.Join(fields[:min(3, len(fields))], " "), "unknown"))
}

// processor is the name of the first one, where the system says it.
func processor() string {
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// marks are the lines in README.md between which a part goes.
func marks(part string) (begin, end string) {
	return "<!-- " + part + ": written by go run . -write -->\n", "<!-- end of " + part + " -->\n"
}

// writePart puts the text of a part between its marks in a file.
func writePart(file, part, text string) error {
	begin, end := marks(part)
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(old), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return errors.New(file + " lacks the marks between which the figures of " + part + " go")
	}
	return os.WriteFile(file, []byte(before+begin+text+end+after), 0o644)
}
