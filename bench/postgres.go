package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"github.com/jackc/pgx/v5"
)

// A postgres is a PostgreSQL of our own, on a port of loopback and in a folder
// that goes with it.
type postgres struct {
	*program
	folder  string
	port    int
	version string
}

// Its users, who need no password: the one who makes the tables, and the one
// who reads them and may do nothing else, which is who the servers are.
const (
	postgresOwner  = "postgres"
	postgresReader = "reader"
)

// url is what the servers call it by.
func (p *postgres) url() string { return p.urlOf(postgresReader) }

func (p *postgres) urlOf(user string) string {
	return fmt.Sprintf("postgres://%s@127.0.0.1:%d/postgres?sslmode=disable", user, p.port)
}

// startPostgres starts the newest PostgreSQL that is installed. It loses its
// data when it is killed, since nobody wants them afterwards, does nothing by
// itself while others are measured, and has the rows of a table in one order.
func startPostgres() (*postgres, error) {
	bin, err := postgresBin()
	if err != nil {
		return nil, err
	}
	as, err := unprivileged()
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp("", "mcpool-bench-postgres-")
	must(err)
	if as != nil {
		must(os.Chown(folder, int(as.Credential.Uid), int(as.Credential.Gid)))
	}
	data := filepath.Join(folder, "data")
	initdb := exec.Command(filepath.Join(bin, "initdb"), "--pgdata", data, "--username", postgresOwner,
		"--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync")
	initdb.Dir, initdb.SysProcAttr = folder, as
	if output, err := initdb.CombinedOutput(); err != nil {
		must(os.RemoveAll(folder))
		return nil, fmt.Errorf("initdb: %w: %s", err, output)
	}
	p := &postgres{folder: folder, port: freePort()}
	server := exec.Command(filepath.Join(bin, "postgres"), "-D", data, "-p", strconv.Itoa(p.port),
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
		"-c", "fsync=off", "-c", "autovacuum=off", "-c", "synchronize_seqscans=off")
	server.Dir = folder
	if as != nil {
		server.SysProcAttr = &syscall.SysProcAttr{Credential: as.Credential}
	}
	p.program = startProgram(server, folder, "server")
	err = p.await(func() error {
		conn, err := pgx.Connect(context.Background(), p.urlOf(postgresOwner))
		if err != nil {
			return err
		}
		p.version = conn.PgConn().ParameterStatus("server_version")
		return conn.Close(context.Background())
	})
	if err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

func (p *postgres) stop() {
	p.program.stop(syscall.SIGINT) // which waits for no client
	must(os.RemoveAll(p.folder))
}

// postgresBin is the folder of PostgreSQL's programs: where Debian has them, or
// in the path.
func postgresBin() (string, error) {
	list, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	must(err)
	version := func(path string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path)))) // other folders come first
		return n
	}
	if len(list) > 0 {
		return filepath.Dir(slices.MaxFunc(list, func(a, b string) int { return version(a) - version(b) })), nil
	}
	path, err := exec.LookPath("initdb")
	if err != nil {
		return "", errors.New("no PostgreSQL is installed")
	}
	return filepath.Dir(path), nil
}

// unprivileged is another user if we are root, as whom PostgreSQL does not run.
func unprivileged() (*syscall.SysProcAttr, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		must(err)
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		must(err)
		return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
	}
	return nil, errors.New("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")
}
