package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
)

// The engines whose databases are served.
const (
	sqliteEngine   = "SQLite"
	postgresEngine = "PostgreSQL"
)

// A database is what a server serves: the file of SQLite, or a PostgreSQL.
type database struct {
	file     string
	postgres *postgres
}

func (d database) engine() string {
	if d.postgres != nil {
		return postgresEngine
	}
	return sqliteEngine
}

// A dbProgram is an MCP server for databases that can be installed.
type dbProgram struct {
	name string
	// command serves a database over HTTP at a port of loopback, at /mcp. The
	// folder is one for files of its own.
	command func(d database, port int, folder string) *exec.Cmd
	// reads and lists are its tools that the others have, too: for statements,
	// and for what there is.
	reads, lists string
	// arguments are those of reads for a query.
	arguments func(q dbQuery) any
	// rows finds the rows in a result: the bytes that have them, which are the
	// same in each answer, and what they say.
	rows func(result json.RawMessage) (raw json.RawMessage, rows [][]any, err error)
}

const (
	dbName      = "`mcpool db`"
	toolboxName = "MCP Toolbox"
	dbhubName   = "DBHub"
	cappedName  = "DBHub, `max_rows` of 100"
	driverName  = "driver alone"
	cursorName  = "cursor of pgx alone"
)

// rivalNames are the servers that ours is compared with.
var rivalNames = []string{toolboxName, dbhubName}

// ourProgram is `mcpool db`, built where it is given.
func ourProgram(binary string) dbProgram {
	return dbProgram{
		name: dbName,
		command: func(d database, port int, _ string) *exec.Cmd {
			dsn := d.file
			if d.postgres != nil {
				dsn = d.postgres.url()
			}
			return exec.Command(binary, "db", "--dsn", dsn, "--listen", "127.0.0.1:"+strconv.Itoa(port))
		},
		reads: "read_data", lists: "list_tables",
		arguments: func(q dbQuery) any { return map[string]any{"query": q.text, "limit": q.rows} },
		rows: func(result json.RawMessage) (json.RawMessage, [][]any, error) {
			raw, _ := jsonrpc.Get(result, "structuredContent", "rows")
			var rows [][]any
			err := json.Unmarshal(raw, &rows)
			return raw, rows, err
		},
	}
}

// toolbox is MCP Toolbox with the tools that it has ready for an engine. It
// logs each call unless told not to.
var toolbox = dbProgram{
	name: toolboxName,
	command: func(d database, port int, _ string) *exec.Cmd {
		list, _ := filepath.Glob(rival("@toolbox-sdk", "server-*", "bin", "toolbox")) // of this machine's kind alone
		if list == nil {
			return nil
		}
		cmd := exec.Command(list[0], "--prebuilt", strings.ToLower(d.engine()), "--port", strconv.Itoa(port),
			"--log-level", "WARN", "--disable-version-check")
		if d.postgres == nil {
			cmd.Env = append(os.Environ(), "SQLITE_DATABASE="+d.file)
		} else {
			cmd.Args[2] = "postgres"
			cmd.Env = append(os.Environ(), "POSTGRES_HOST=127.0.0.1", "POSTGRES_PORT="+strconv.Itoa(d.postgres.port),
				"POSTGRES_DATABASE=postgres", "POSTGRES_USER="+postgresReader, "POSTGRES_PASSWORD=none")
		}
		return cmd
	},
	reads: "execute_sql", lists: "list_tables",
	arguments: sqlArgument,
	rows: func(result json.RawMessage) (json.RawMessage, [][]any, error) {
		raw, _ := jsonrpc.Get(result, "content")
		list, err := jsonrpc.Elements(raw)
		if err != nil {
			return nil, nil, err
		}
		rows := make([][]any, len(list))
		for i, content := range list {
			if rows[i], err = values([]byte(jsonrpc.GetString(content, "text"))); err != nil {
				return nil, nil, err
			}
		}
		return raw, rows, nil
	},
}

// dbhub is DBHub as it is unless told otherwise: it reads all rows.
var dbhub = dbProgram{
	name: dbhubName,
	command: func(d database, port int, folder string) *exec.Cmd {
		return dbhubCommand(port, folder, "--dsn", dbhubDSN(d))
	},
	reads: "execute_sql", lists: "search_objects",
	arguments: sqlArgument,
	rows: func(result json.RawMessage) (json.RawMessage, [][]any, error) {
		raw, _ := jsonrpc.Get(result, "content")
		list, err := jsonrpc.Elements(raw)
		if err != nil || len(list) != 1 {
			return nil, nil, errors.Join(err, errors.New("not one text"))
		}
		var text struct {
			Data struct {
				Statements []struct{ Rows []json.RawMessage }
			}
		}
		if err := json.Unmarshal([]byte(jsonrpc.GetString(list[0], "text")), &text); err != nil {
			return nil, nil, err
		}
		var rows [][]any
		for _, statement := range text.Data.Statements {
			for _, object := range statement.Rows {
				row, err := values(object)
				if err != nil {
					return nil, nil, err
				}
				rows = append(rows, row)
			}
		}
		return raw, rows, nil
	},
}

// dbhubCapped is DBHub with a limit of the rows of an answer.
var dbhubCapped = func() dbProgram {
	p := dbhub
	p.name = cappedName
	p.command = func(d database, port int, folder string) *exec.Cmd {
		file := filepath.Join(folder, "dbhub.toml")
		must(os.WriteFile(file, fmt.Appendf(nil, "[[sources]]\nid = \"default\"\ndsn = %q\n"+
			"[[tools]]\nname = \"execute_sql\"\nsource = \"default\"\nmax_rows = 100\n", dbhubDSN(d)), 0o600))
		return dbhubCommand(port, folder, "--config", file)
	}
	return p
}()

func dbhubDSN(d database) string {
	if d.postgres != nil {
		return d.postgres.url()
	}
	return "sqlite://" + d.file
}

// dbhubCommand has DBHub run on the Node that is installed beside it: older ones
// have no SQLite.
func dbhubCommand(port int, folder string, args ...string) *exec.Cmd {
	node, script := rival("node", "bin", "node"), rival("@bytebase", "dbhub", "dist", "index.js")
	for _, file := range []string{node, script} {
		if _, err := os.Stat(file); err != nil {
			return nil
		}
	}
	cmd := exec.Command(node, append([]string{script,
		"--transport", "http", "--host", "127.0.0.1", "--port", strconv.Itoa(port)}, args...)...)
	cmd.Dir = folder // it looks for files where it is started
	return cmd
}

// rival is a path in what npm has installed.
func rival(path ...string) string {
	full, err := filepath.Abs(filepath.Join(append([]string{"testdata", "rivals", "node_modules"}, path...)...))
	must(err)
	return full
}

func sqlArgument(q dbQuery) any { return map[string]any{"sql": q.text} }

// values are those of the members of an object, in order.
func values(object []byte) ([]any, error) {
	in := json.NewDecoder(bytes.NewReader(object))
	if begin, err := in.Token(); err != nil || begin != json.Delim('{') {
		return nil, fmt.Errorf("%.100q is no object", object)
	}
	var list []any
	for in.More() {
		if _, err := in.Token(); err != nil { // the name
			return nil, err
		}
		var value any
		if err := in.Decode(&value); err != nil {
			return nil, err
		}
		list = append(list, value)
	}
	return list, nil
}

// A dbServer is such a program as it runs on one database.
type dbServer struct {
	dbProgram
	*program
	engine string
	port   int
	header http.Header     // of its one session
	tools  json.RawMessage // the result of tools/list
}

// serve starts a program on a database, opens a session and makes a first call.
// The error says why it is not there.
func serve(p dbProgram, d database, folder string) (*dbServer, error) {
	s := &dbServer{dbProgram: p, engine: d.engine(), port: freePort(), header: jsonHeader()}
	own, err := os.MkdirTemp(folder, "")
	must(err)
	cmd := p.command(d, s.port, own)
	if cmd == nil {
		return nil, errors.New("it is not installed")
	}
	s.program = startProgram(cmd, own, "server")
	err = s.await(func() error {
		conn, err := net.Dial("tcp", s.host())
		if err == nil {
			err = conn.Close()
		}
		return err
	})
	if err == nil {
		s.open()
		err = s.answers(selectOne())
	}
	if err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

// open opens a session and asks for the tools.
func (s *dbServer) open() {
	l := &load{tripper: new(http.Transport)}
	defer l.tripper.CloseIdleConnections()
	c := &caller{url: "http://" + s.host() + "/mcp", header: s.header}
	l.openSession(c)
	c.body = []byte(`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}`)
	body, _ := l.exchange(c)
	m, err := parseAnswer(body)
	must(err)
	s.tools, _ = jsonrpc.Get(m.Result, "tools")
}

// answers reports whether a query is answered with its rows.
func (s *dbServer) answers(q dbQuery) error {
	c, err := newRawCaller(s, q, 1)
	if err == nil {
		err = c.conn.Close()
	}
	return err
}

func (s *dbServer) host() string { return "127.0.0.1:" + strconv.Itoa(s.port) }
func (s *dbServer) stop()        { s.program.stop(syscall.SIGTERM) }

// definitions are the bytes that a model is told of tools: name, description
// and input schema, of reads and lists, and of all.
func (s *dbServer) definitions() (both, all, count int) {
	list, err := jsonrpc.Elements(s.tools)
	must(err)
	for _, definition := range list {
		var t struct {
			Name, Description string
			InputSchema       json.RawMessage
		}
		must(json.Unmarshal(definition, &t))
		var schema bytes.Buffer
		must(json.Compact(&schema, t.InputSchema))
		size := len(t.Name) + len(t.Description) + schema.Len()
		if t.Name == s.reads || t.Name == s.lists {
			both += size
		}
		all += size
	}
	return both, all, len(list)
}

// freePort is a port of loopback that nobody has.
func freePort() int {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}
