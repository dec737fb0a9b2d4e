package main

import (
	"context"
	"errors"
	"flag"
	"slices"
	"strings"

	"github.com/mcpool-dev/mcpool/gateway"
)

func runDB(ctx context.Context, args []string, std stdio) error {
	f := newFlags(std, "db --dsn FILE|URL [flags]", `Serve one database, read-only, to MCP clients: over standard input and output,
or over HTTP with --listen. --dsn sample serves the sample database.`)
	dsn := f.String("dsn", "", "the `database`: a SQLite file, or a sqlite:// or file: URL")
	listen := f.listen("", "`address` to listen on; over stdio if not given")
	log := f.logger(std)
	if err := f.parse(args, 0); err != nil {
		return err
	}
	var alone []string
	f.Visit(func(given *flag.Flag) {
		if slices.Contains(listenFlagNames, given.Name) && *listen.address == "" {
			alone = append(alone, "--"+given.Name)
		}
	})
	if len(alone) > 0 {
		return usagef("%s: there is no --listen address; without one, mcpool db speaks over standard input and output", strings.Join(alone, ", "))
	}
	if *dsn == "" {
		return usagef("--dsn is missing: name a SQLite file, or sample")
	}
	db, err := openDatabase("main", *dsn, log)
	if err != nil {
		return usagef("--dsn: %w", err)
	}
	options := &gateway.Options{Version: version(), AllowedOrigins: *listen.allowedOrigins, Log: log}
	fronts := []gateway.Server{{Name: "main", Handler: db}}
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
	addr, err := listen.resolve()
	if err != nil {
		db.Close()
		return err
	}
	options.AllowedHosts = *listen.allowedHosts
	g, err := gateway.New(fronts, options)
	if err != nil {
		db.Close()
		return err
	}
	listener, err := listenOn(addr)
	if err != nil {
		db.Close()
		return err
	}
	log.Info("serving", "mcp", "http://"+listener.Addr().String()+"/mcp")
	return serveUntil(ctx, listener, g, listen, log, g.Close,
		func(context.Context) error { return db.Close() })
}
