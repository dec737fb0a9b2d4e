package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/config"
	"github.com/mcpool-dev/mcpool/dbserver"
	"github.com/mcpool-dev/mcpool/gateway"
	"github.com/mcpool-dev/mcpool/telemetry"
)

// assembly is what one configuration is made into: a pool for each server,
// and the database server behind that of the databases.
type assembly struct {
	pools     []*mcpool.Pool
	databases []*dbserver.Server
	fronts    []gateway.Server
	telemetry *telemetry.Telemetry // of the pools; nil for none
}

// assemble makes the pools. The key is that which clients' sessions are sealed
// with; it seals what they hold of databases, too. It does no I/O, so nothing
// has to be undone but what an error leaves half made.
func assemble(servers []config.Server, key []byte, record *telemetry.Telemetry, log *slog.Logger) (*assembly, error) {
	a := &assembly{telemetry: record}
	for _, s := range servers {
		if err := a.add(s, key, log); err != nil {
			return nil, errors.Join(err, a.close(context.Background()))
		}
	}
	return a, nil
}

func (a *assembly) add(s config.Server, key []byte, log *slog.Logger) error {
	s.Pool.Logger = log
	if a.telemetry != nil {
		s.Pool.Hooks = a.telemetry.Pool(s.Server)
	}
	if s.Databases != nil {
		options := *s.Databases
		options.Key = key
		db, err := newDatabases(options, log.With("server", s.Name))
		if err != nil {
			return err
		}
		a.databases = append(a.databases, db)
		s.Server.Handler = db
		if s.Pool.CallsPerConnection == 0 {
			// The server has calls take turns itself, for each database, and
			// tells how one is that is busy.
			s.Pool.CallsPerConnection = gateway.DefaultMaxCalls
		}
	}
	pool, err := mcpool.New(s.Server, &s.Pool)
	if err != nil {
		return err
	}
	a.pools = append(a.pools, pool)
	a.fronts = append(a.fronts, gateway.Server{
		Name:        s.Name,
		Handler:     pool,
		CallTimeout: s.CallTimeout,
		MaxCalls:    s.MaxCalls,
		Allow:       s.Allow,
		Deny:        s.Deny,
		EndSession:  pool.EndSession,
	})
	return nil
}

// close ends the pools, all at once, then the databases behind them, and what is
// told of them.
func (a *assembly) close(ctx context.Context) error {
	errs := make([]error, len(a.pools))
	var all sync.WaitGroup
	for i, pool := range a.pools {
		all.Go(func() { errs[i] = pool.Close(ctx) })
	}
	all.Wait()
	for _, db := range a.databases {
		errs = append(errs, db.Close())
	}
	closeTelemetry(ctx, a.telemetry)
	return errors.Join(errs...)
}

// newDatabases makes a database server. A database itself is opened, and the
// sample made, by the first call.
func newDatabases(options dbserver.Options, log *slog.Logger) (*dbserver.Server, error) {
	options.Log = log
	options.Databases = slices.Clone(options.Databases)
	for i := range options.Databases {
		if d := &options.Databases[i]; d.DSN == config.Sample {
			d.DSN = ""
			d.Prepare = func(ctx context.Context) (string, error) { return dbserver.Sample(ctx, cacheFolder()) }
		}
	}
	return dbserver.New(options)
}

// sample is the sample database alone.
func sample(name string) dbserver.Options {
	return dbserver.Options{Databases: []dbserver.Database{{Name: name, DSN: config.Sample}}}
}

// cacheFolder is where things are kept that can be made again.
func cacheFolder() string {
	dir, err := os.UserCacheDir()
	if err != nil { // no home: a service account, say
		dir = os.TempDir()
	}
	return filepath.Join(dir, "mcpool")
}
