package main

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Results of the servers for the first two rows of manyRows, as they were.
var twoRows = map[string]string{
	dbName: `{"content":[{"type":"text","text":"id\tname\tprice\n"}],"structuredContent":{"columns":[],` +
		`"rows":[[1,"item 0001",0.25],[2,"item 0002",0.5]],"row_count":2}}`,
	toolboxName: `{"content":[{"type":"text","text":"{\"id\":1,\"name\":\"item 0001\",\"price\":0.25}"},` +
		`{"type":"text","text":"{\"id\":2,\"name\":\"item 0002\",\"price\":0.5}"}]}`,
	dbhubName: `{"content":[{"type":"text","text":"{\n \"data\": {\"statements\": [{\"rows\": [` +
		`{\"id\": 1, \"name\": \"item 0001\", \"price\": 0.25}, {\"id\": 2, \"name\": \"item 0002\", \"price\": 0.5}]}]}}"}]}`,
}

func TestRowsAreFoundInResults(t *testing.T) {
	q := manyRows()
	q.rows = 2
	for _, p := range []dbProgram{ourProgram(""), toolbox, dbhub} {
		result := twoRows[p.name]
		raw, rows, err := p.rows(json.RawMessage(result))
		if err != nil || !strings.Contains(result, string(raw)) || !strings.Contains(string(raw), "item 0002") {
			t.Errorf("%s: %q, %v", p.name, raw, err)
		}
		if err := q.check(rows); err != nil {
			t.Errorf("%s: %v", p.name, err)
		}
		for _, wrong := range []string{
			strings.Replace(result, "0.25", "0.75", 1),
			strings.Replace(result, "item 0002", "item 0003", 1),
			`{"content":[{"type":"text","text":"no such table"}],"isError":true}`,
			`{"content":[]}`,
		} {
			if _, rows, err := p.rows(json.RawMessage(wrong)); err == nil && q.check(rows) == nil {
				t.Errorf("%s: these are taken for the rows: %s", p.name, wrong)
			}
		}
	}
}

// fakeServer is a server as a rawCaller sees it, whose answers are those of
// handle.
func fakeServer(t *testing.T, handle http.HandlerFunc) *dbServer {
	server := httptest.NewServer(handle)
	t.Cleanup(server.Close)
	return &dbServer{dbProgram: ourProgram(""), engine: sqliteEngine,
		port: server.Listener.Addr().(*net.TCPAddr).Port, header: jsonHeader()}
}

func TestRawCallerReadsLengthsChunksAndEvents(t *testing.T) {
	q := manyRows()
	q.rows = 2
	answer := `{"jsonrpc":"2.0","id":1,"result":` + twoRows[dbName] + `}`
	for name, handle := range map[string]http.HandlerFunc{
		"length": func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, answer) },
		"chunks": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, answer[:10])
			w.(http.Flusher).Flush()
			_, _ = io.WriteString(w, answer[10:])
		},
		"events": func(w http.ResponseWriter, r *http.Request) { writeEvent(w, "message", []byte(answer)) },
	} {
		t.Run(name, func(t *testing.T) {
			var calls atomic.Int32
			s := fakeServer(t, func(w http.ResponseWriter, r *http.Request) {
				calls.Add(1)
				handle(w, r)
			})
			trial := rawTrial(s, q, 1)
			trial.run(2)
			trial.stop()
			if n := calls.Load(); n != 3 || len(*trial.took) != 2 {
				t.Errorf("%d calls, %d of them timed", n, len(*trial.took))
			}
		})
	}
}

func TestRawCallerRefusesOtherAnswers(t *testing.T) {
	q := manyRows()
	q.rows = 2
	answer := `{"jsonrpc":"2.0","id":1,"result":` + twoRows[dbName] + `}`
	for name, later := range map[string]http.HandlerFunc{
		"other rows": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, strings.Replace(answer, `item 0002",0.5`, `item 0002",0.6`, 1))
		},
		"an error": func(w http.ResponseWriter, r *http.Request) { http.Error(w, answer, http.StatusServiceUnavailable) },
	} {
		t.Run(name, func(t *testing.T) {
			var calls atomic.Int32
			s := fakeServer(t, func(w http.ResponseWriter, r *http.Request) {
				if calls.Add(1) == 1 {
					_, _ = io.WriteString(w, answer)
				} else {
					later(w, r)
				}
			})
			c, err := newRawCaller(s, q, 1)
			if err != nil {
				t.Fatal(err)
			}
			defer c.conn.Close()
			defer func() {
				if recover() == nil {
					t.Error("it was taken for the answer")
				}
			}()
			c.call()
		})
	}
}

func TestRawCallerConnectsAnewAfterARest(t *testing.T) {
	q := manyRows()
	q.rows = 2
	conns := make(chan string, 4)
	s := fakeServer(t, func(w http.ResponseWriter, r *http.Request) {
		conns <- r.RemoteAddr
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":`+twoRows[dbName]+`}`)
	})
	c, err := newRawCaller(s, q, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.conn.Close() }()
	c.last = time.Now()
	c.call()
	if first, second := <-conns, <-conns; first != second {
		t.Errorf("a call soon after came from %s, not %s", second, first)
	}
	_ = c.conn.Close() // as the server does with its end
	c.conn, err = net.Dial("tcp", c.host)
	if err != nil {
		t.Fatal(err)
	}
	c.last = time.Now().Add(-2 * keptOpen)
	c.call() // c.in still is of the old connection, so nothing but a new one can answer
}

// TestProgramsAreMeasured holds that processor time and memory are those of the
// program: of one that is busy, and of one that waits.
func TestProgramsAreMeasured(t *testing.T) {
	busy := startProgram(exec.Command("sh", "-c", "while :; do :; done"), t.TempDir(), "busy")
	idle := startProgram(exec.Command("cat"), t.TempDir(), "idle")
	defer idle.stop(syscall.SIGTERM)
	for deadline := time.Now().Add(30 * time.Second); busy.usage().Processor < 5*tick; {
		if time.Now().After(deadline) {
			t.Fatal("a program that is busy uses no processor")
		}
	}
	start, used := time.Now(), busy.usage().Processor
	busy.stop(syscall.SIGTERM)
	total, since := busy.cmd.ProcessState.UserTime()+busy.cmd.ProcessState.SystemTime(), time.Since(start)
	if used > total+tick || used < total-since-2*tick {
		t.Errorf("a program that was busy for %v is said to have been for %v", total, used)
	}
	if used := idle.usage().Processor; used > 2*tick {
		t.Errorf("a program that waits has used %v", used)
	}
	if size := idle.resident(); size < 100e3 || size > 100e6 {
		t.Errorf("cat has %.0f bytes", size)
	}
}

func TestProgramThatHasEndedIsNotThere(t *testing.T) {
	p := startProgram(exec.Command("sh", "-c", "echo first; echo last >&2; exit 3"), t.TempDir(), "ended")
	defer p.stop(syscall.SIGTERM)
	err := p.await(func() error {
		_, err := net.Dial("tcp", "127.0.0.1:0")
		return err
	})
	if err == nil || !strings.HasSuffix(err.Error(), ": last") {
		t.Errorf("%v", err)
	}
}

func TestServedTargetIsMissedBeyondItsBound(t *testing.T) {
	c := dbCase{database{file: "x"}, manyRows(), 8}
	s := func(ns float64) series { return series{{wall: ns, cpu: ns}} }
	for _, of := range []struct {
		ours, toolbox, dbhub, driver float64
		met                          bool
	}{
		{100, 600, 700, 40, true}, {100, 599, 700, 40, false},
		{100, 700, 599, 40, false}, {100, 600, 700, 39, false},
	} {
		r := &results{cases: map[string]map[string]series{c.title(): {
			dbName: s(of.ours), toolboxName: s(of.toolbox), dbhubName: s(of.dbhub), driverName: s(of.driver),
		}}}
		if v := r.servedCalls(c, r.of(c.title(), dbName)); v.met != of.met || v.untold != "" {
			t.Errorf("%+v: %+v", of, v)
		}
		delete(r.cases[c.title()], dbhubName)
		if v := r.servedCalls(c, r.of(c.title(), dbName)); v.untold == "" {
			t.Errorf("without one of the others: %+v", v)
		}
	}
}
