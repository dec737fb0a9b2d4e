package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/mcpool-dev/mcpool/auth"
	"github.com/mcpool-dev/mcpool/config"
	"github.com/mcpool-dev/mcpool/dbserver"
	"github.com/mcpool-dev/mcpool/gateway"
	"github.com/mcpool-dev/mcpool/internal/serving"
)

// runDB serves databases, or runs one of the commands that are about them.
func runDB(ctx context.Context, args []string, std stdio) error {
	if len(args) > 0 {
		switch args[0] {
		case "setup-sql":
			return runSetupSQL(args[1:], std)
		case "verify-audit":
			return runVerifyAudit(args[1:], std)
		}
	}
	f := newFlags(std, "db --dsn FILE|URL [flags]", `Serve databases to MCP clients: over standard input and output, or over HTTP
with --listen. They are read-only unless --mode or the file says otherwise.
--dsn sample serves the sample database.

  mcpool db setup-sql ENGINE       print the SQL of a role that can only read
  mcpool db verify-audit FILE...   check that an audit was not changed`)
	given := f.databases()
	listen := f.listen("", "`address` to listen on; over stdio if not given")
	settings := map[string]string{}
	f.log(settings)
	f.environment("db_")
	f.either = []string{"config", "dsn"}
	if err := f.parse(args, 0); err != nil {
		return err
	}
	conf, _, err := configuration("", settings)
	if err != nil {
		return err
	}
	given.access = config.Config{Auth: conf.Auth, TLS: conf.TLS}
	log := newLogger(std.err, conf.Log)
	var alone []string
	f.Visit(func(given *flag.Flag) {
		if slices.Contains(listenFlagNames, given.Name) && *listen.address == "" {
			alone = append(alone, "--"+given.Name)
		}
	})
	if len(alone) > 0 {
		return usagef("%s: there is no --listen address; without one, mcpool db speaks over standard input and output", strings.Join(alone, ", "))
	}
	name, databases, err := given.options()
	if err != nil {
		return err
	}
	db, err := newDatabases(databases, log.Logger)
	if err != nil {
		return usagef("%w", err)
	}
	options := &gateway.Options{Version: version(), AllowedOrigins: *listen.allowedOrigins, Log: log.Logger, Access: log.request}
	fronts := []gateway.Server{{Name: name, Handler: db}}
	serving.CollectLess()
	if *listen.address == "" {
		g, err := gateway.New(fronts, options)
		if err == nil {
			err = g.ServeStdio(ctx, std.in, std.out)
		}
		if errors.Is(err, context.Canceled) && ctx.Err() != nil {
			err = nil // told to stop
		}
		return errors.Join(err, db.Close())
	}
	return serveDatabases(ctx, db, fronts, options, given.access, listen, log.Logger)
}

// serveDatabases serves them over HTTP until ctx ends, to those whom access
// lets in.
func serveDatabases(ctx context.Context, db *dbserver.Server, fronts []gateway.Server, options *gateway.Options, access config.Config, listen *listenFlags, log *slog.Logger) error {
	addr, err := listen.resolve()
	if err == nil {
		err = listen.secure(addr, access.Auth, access.TLS, log)
	}
	if err != nil {
		return errors.Join(err, db.Close())
	}
	who, err := authenticator(access.Auth, log)
	if err != nil {
		return errors.Join(err, db.Close())
	}
	if who != nil {
		authenticate(options, func() *auth.Authenticator { return who })
	}
	options.AllowedHosts = *listen.allowedHosts
	g, err := gateway.New(fronts, options)
	if err != nil {
		return errors.Join(err, db.Close())
	}
	listener, err := listenOn(addr)
	if err != nil {
		return errors.Join(err, db.Close())
	}
	var handler http.Handler = g
	if who != nil {
		public := gateway.Record(gateway.Guard(http.HandlerFunc(who.Metadata), options.AllowedHosts, options.AllowedOrigins), auth.ServesMetadata, options.Access)
		handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if auth.ServesMetadata(r.URL.Path) {
				public.ServeHTTP(w, r)
			} else {
				g.ServeHTTP(w, r)
			}
		})
	}
	log.Info("serving", "mcp", listen.scheme()+"://"+listener.Addr().String()+"/mcp")
	return serveUntil(ctx, listener, handler, listen, log, func(ctx context.Context, _ *serving.Server) error { return g.Close(ctx) },
		func(context.Context) error { return db.Close() })
}

// databaseFlags are the flags that say which databases there are.
type databaseFlags struct {
	*flags
	config                    *string
	dsns                      []string
	mode, passwordFile, audit *string
	allowUnsafeRole           *bool
	access                    config.Config // auth and tls of the file or the environment
}

// entryFlagNames are those of the flags that say of databases what a file says
// of them itself.
var entryFlagNames = []string{"mode", "password-file", "audit", "allow-unsafe-role"}

func (f *flags) databases() *databaseFlags {
	d := &databaseFlags{
		flags:           f,
		config:          f.String("config", "", "`file` with a section databases, in place of --dsn"),
		mode:            f.String("mode", dbserver.ReadOnly, dbserver.ReadOnly+" or "+dbserver.Write),
		passwordFile:    f.String("password-file", "", "`file` with the password of the DSN"),
		audit:           f.String("audit", "", "`file` to write each call down in"),
		allowUnsafeRole: f.Bool("allow-unsafe-role", false, "serve a database although its role may do more than read"),
	}
	f.Func("dsn", "the `database`: a SQLite file, or a URL that begins with postgres://, mysql://, mariadb:// or sqlserver://; given several times as NAME=DSN for several", func(s string) error {
		d.dsns = append(d.dsns, s)
		return nil
	})
	return d
}

// options returns the name of the server and its databases.
func (d *databaseFlags) options() (string, dbserver.Options, error) {
	var options dbserver.Options
	switch {
	case *d.config != "" && len(d.dsns) > 0:
		return "", options, usagef("--config and --dsn: want one of them")
	case *d.config != "":
		var alone []string
		given := d.given()
		for _, name := range entryFlagNames {
			if given[name] || d.outside[name] {
				alone = append(alone, d.called(name))
			}
		}
		if len(alone) > 0 {
			return "", options, usagef("%s: with %s the file says so", strings.Join(alone, ", "), d.called("config"))
		}
		c, _, err := configuration(*d.config, nil)
		if err != nil {
			return "", options, err
		}
		d.access = config.Config{Auth: c.Auth, TLS: c.TLS}
		for _, s := range c.Servers {
			if s.Databases != nil {
				return s.Name, *s.Databases, nil
			}
		}
		return "", options, usagef("%s %s: there are no databases in it", d.called("config"), *d.config)
	case len(d.dsns) == 0 || d.dsns[0] == "":
		return "", options, usagef("--dsn is missing: name a SQLite file, the URL of a database, or sample")
	}
	if *d.mode != dbserver.ReadOnly && *d.mode != dbserver.Write {
		return "", options, usagef("%s %q: want %s or %s", d.called("mode"), *d.mode, dbserver.ReadOnly, dbserver.Write)
	}
	password, err := d.password()
	if err != nil {
		return "", options, err
	}
	for _, dsn := range d.dsns {
		one := dbserver.Database{Name: dbserver.DefaultName, DSN: dsn, Mode: *d.mode, AllowUnsafeRole: *d.allowUnsafeRole, Password: password}
		if len(d.dsns) > 1 {
			var ok bool
			if one.Name, one.DSN, ok = strings.Cut(dsn, "="); !ok {
				return "", options, usagef("%s: with several databases each is written NAME=DSN", d.called("dsn"))
			}
		}
		options.Databases = append(options.Databases, one)
	}
	if *d.audit != "" {
		options.Audit = &dbserver.Audit{File: *d.audit}
	}
	return dbserver.DefaultName, options, nil
}

// password returns what reads the password, nil for none. A file that is not
// there is told at once, and not by the first call.
func (d *databaseFlags) password() (func() (string, error), error) {
	if *d.passwordFile == "" {
		return nil, nil
	}
	f, err := os.Open(*d.passwordFile)
	if err != nil {
		return nil, err
	}
	return config.PasswordFile(*d.passwordFile), f.Close()
}

// runVerifyAudit checks the chain of an audit.
func runVerifyAudit(args []string, std stdio) error {
	f := newFlags(std, "db verify-audit FILE...", `Check that no line of an audit was changed, taken out or put in. Name the
rotated files first, the oldest before all: audit.2 audit.1 audit.`)
	if err := f.parse(args, 1000); err != nil {
		return err
	}
	if len(f.arguments) == 0 {
		return usagef("name the files of the audit, the oldest first")
	}
	lines, last, err := dbserver.VerifyAudit(f.arguments...)
	if err != nil {
		return fmt.Errorf("%w; %d lines before it hold", err, lines)
	}
	fmt.Fprintf(std.out, "%d lines hold; the last hash is %s\n", lines, last)
	return nil
}

// runSetupSQL prints the SQL of a role that can only read.
func runSetupSQL(args []string, std stdio) error {
	f := newFlags(std, "db setup-sql ENGINE --database NAME [flags]", `Print the SQL of a role that can read a database and nothing else, for its
operator to run. ENGINE is postgres, mysql (also MariaDB) or sqlserver.`)
	var s dbserver.Setup
	f.StringVar(&s.Role, "role", dbserver.DefaultRole, "`name` of the role")
	f.StringVar(&s.Database, "database", "", "`name` of the database")
	f.IntVar(&s.MaxConnections, "max-connections", dbserver.DefaultMaxConnections, "most connections of the role")
	schemas := f.list("schemas", "schemas of PostgreSQL to read, public if not given")
	if err := f.parse(args, 1); err != nil {
		return err
	}
	if len(f.arguments) == 0 {
		return usagef("which engine? postgres, mysql or sqlserver")
	}
	s.Engine, s.Schemas = f.arguments[0], *schemas
	sql, err := dbserver.SetupSQL(s)
	if err != nil {
		return usagef("%w", err)
	}
	fmt.Fprint(std.out, sql)
	return nil
}
