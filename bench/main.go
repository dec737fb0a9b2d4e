// Command bench measures the pool beside other pools, in turns, and says which
// targets are met. README.md has the method and the last figures.
package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"runtime"
	"strings"
	"time"
)

func main() {
	rounds := flag.Int("rounds", 15, "rounds of each case")
	round := flag.Duration("round", 20*time.Millisecond, "how long a subject runs in a round, at least")
	write := flag.Bool("write", false, "write the table into README.md in this folder")
	flag.Parse()
	if flag.NArg() > 0 || *rounds < 1 {
		flag.Usage()
		os.Exit(2)
	}
	about := machine()
	text := about + "\n\n" + measureAll(*rounds, *round).table()
	fmt.Print(text)
	if *write {
		if err := writeTable("README.md", text); err != nil {
			fmt.Fprintf(os.Stderr, "bench: error: %v\n", err)
			os.Exit(1)
		}
	}
}

func measureAll(rounds int, round time.Duration) *results {
	r := &results{cases: map[string]map[string]series{}}
	// First, while nothing has grown yet.
	r.bare, r.pooled, r.engine = idleConnection()
	for _, together := range cases() {
		maps.Copy(r.cases, measure(together, rounds, round))
	}
	return r
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

const begin, end = "<!-- figures: written by go run . -write -->\n", "<!-- end of figures -->\n"

// writeTable puts text between the marks in a file.
func writeTable(file, text string) error {
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(old), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return errors.New(file + " lacks the marks between which the figures go")
	}
	return os.WriteFile(file, []byte(before+begin+text+end+after), 0o644)
}
