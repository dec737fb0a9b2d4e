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

// assembly is what one configuration is made into. It is never changed, but
// replaced as a whole.
type assembly struct {
	units     []*unit
	telemetry *telemetry.Telemetry // of the pools; nil for none
	paused    []string             // the names of servers that begin paused
}

// A unit is what a server is made into: its pool, and the database server behind
// that of the databases.
type unit struct {
	conf  config.Server
	pool  *mcpool.Pool
	db    *dbserver.Server // nil for none
	hooks mcpool.Hooks
}

// assemble makes the pools; those of the servers that paused names are paused. The
// key is that which clients' sessions are sealed with; it seals what they hold of
// databases, too. It does no I/O, so nothing has to be undone but what an error
// leaves half made.
func assemble(servers []config.Server, paused []string, key []byte, record *telemetry.Telemetry, log *slog.Logger) (*assembly, error) {
	next, err := (&assembly{telemetry: record, paused: paused}).become(servers, key, log)
	if err != nil {
		return nil, err
	}
	return next.assembly, nil
}

// A step is the way from one assembly to the next.
type step struct {
	*assembly
	made    []*unit // that were not there before, or in another way
	settled []*unit // whose pools have other settings, which settle gives them
	gone    []*unit // of the one before, that are not in the next
}

// become makes what is needed for other servers, and keeps what is as it was. No
// unit that there is is touched yet.
func (a *assembly) become(servers []config.Server, key []byte, log *slog.Logger) (*step, error) {
	s := &step{assembly: &assembly{telemetry: a.telemetry}}
	kept := make(map[*unit]bool)
	for _, conf := range servers {
		old := a.named(conf.Name)
		change := config.Replaced
		if old != nil {
			change = conf.ChangedFrom(&old.conf)
		}
		var next *unit
		switch change {
		case config.Unchanged:
			next = old
		case config.Settled:
			next = &unit{conf, old.pool, old.db, old.hooks}
			s.settled = append(s.settled, next)
		default:
			var err error
			if next, err = newUnit(conf, old, slices.Contains(a.paused, conf.Name), key, a.telemetry, log); err != nil {
				return nil, errors.Join(err, closeUnits(context.Background(), s.made))
			}
			s.made = append(s.made, next)
		}
		if change != config.Replaced {
			kept[old] = true
		}
		s.units = append(s.units, next)
	}
	for _, u := range a.units {
		if !kept[u] {
			s.gone = append(s.gone, u)
		}
	}
	return s, nil
}

// settle gives pools their new settings.
func (s *step) settle(log *slog.Logger) error {
	var errs []error
	for _, u := range s.settled {
		errs = append(errs, u.pool.Reload(u.terms(log)))
	}
	return errors.Join(errs...)
}

func (a *assembly) named(name string) *unit {
	for _, u := range a.units {
		if u.conf.Name == name {
			return u
		}
	}
	return nil
}

// newUnit makes a unit, paused or not. Of the one that it replaces, nil for none, it
// keeps the databases that are as they were, and that it is paused.
func newUnit(conf config.Server, old *unit, paused bool, key []byte, record *telemetry.Telemetry, log *slog.Logger) (*unit, error) {
	u := &unit{conf: conf, hooks: conf.Pool.Hooks}
	if record != nil {
		u.hooks = record.Pool(conf.Server)
	}
	var err error
	if conf.Databases != nil {
		options := *conf.Databases
		options.Key = key
		options = ready(options, log.With("server", conf.Name))
		if old != nil && old.db != nil {
			u.db, err = old.db.Next(options, conf.SameDatabases(&old.conf))
		} else {
			u.db, err = dbserver.New(options)
		}
		if err != nil {
			return nil, err
		}
	}
	paused = paused || old != nil && old.paused()
	server, settings := u.terms(log)
	settings.LazyInitialization = settings.LazyInitialization || paused // the server may be away for that time
	if u.pool, err = mcpool.New(server, settings); err != nil {
		if u.db != nil {
			err = errors.Join(err, u.db.Close())
		}
		return nil, err
	}
	if paused {
		_ = u.pool.Pause(context.Background()) // there is no call to wait for
	}
	return u, nil
}

func (u *unit) paused() bool { return u.pool.Stats().Paused }

// terms are what the pool is made with.
func (u *unit) terms(log *slog.Logger) (mcpool.Server, *mcpool.Config) {
	server, settings := u.conf.Server, u.conf.Pool
	settings.Logger, settings.Hooks = log, u.hooks
	if u.db != nil {
		server.Handler = u.db
		if settings.CallsPerConnection == 0 {
			// The server has calls take turns itself, for each database, and
			// tells how one is that is busy.
			settings.CallsPerConnection = gateway.DefaultMaxCalls
		}
	}
	return server, &settings
}

// pools are those there are.
func (a *assembly) pools() []*mcpool.Pool {
	var pools []*mcpool.Pool
	for _, u := range a.units {
		pools = append(pools, u.pool)
	}
	return pools
}

// databases are the servers of databases there are.
func (a *assembly) databases() []*dbserver.Server {
	var databases []*dbserver.Server
	for _, u := range a.units {
		if u.db != nil {
			databases = append(databases, u.db)
		}
	}
	return databases
}

// fronts are what a gateway serves.
func (a *assembly) fronts() []gateway.Server {
	var fronts []gateway.Server
	for _, u := range a.units {
		fronts = append(fronts, gateway.Server{
			Name:        u.conf.Name,
			Handler:     u.pool,
			CallTimeout: u.conf.CallTimeout,
			MaxCalls:    u.conf.MaxCalls,
			Allow:       u.conf.Allow,
			Deny:        u.conf.Deny,
			EndSession:  u.pool.EndSession,
		})
	}
	return fronts
}

// closeUnits ends pools, all at once, and then the databases behind them.
func closeUnits(ctx context.Context, units []*unit) error {
	errs := make([]error, len(units))
	var all sync.WaitGroup
	for i, u := range units {
		all.Go(func() {
			errs[i] = u.pool.Close(ctx)
			if u.db != nil {
				errs[i] = errors.Join(errs[i], u.db.Close())
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// newDatabases makes a database server. A database itself is opened, and the
// sample made, by the first call.
func newDatabases(options dbserver.Options, log *slog.Logger) (*dbserver.Server, error) {
	return dbserver.New(ready(options, log))
}

// ready returns the options of a database server with its log, and with what
// makes the sample.
func ready(options dbserver.Options, log *slog.Logger) dbserver.Options {
	options.Log = log
	options.Databases = slices.Clone(options.Databases)
	for i := range options.Databases {
		if d := &options.Databases[i]; d.DSN == config.Sample {
			d.DSN = ""
			d.Prepare = func(ctx context.Context) (string, error) { return dbserver.Sample(ctx, cacheFolder()) }
		}
	}
	return options
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
