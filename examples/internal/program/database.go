package program

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/dbplugin"
	"github.com/mcpool-dev/mcpool/dbserver"
)

// closeTimeout is how long calls in flight have to end when the program does.
const closeTimeout = 5 * time.Second

// open returns functions over a pool of connections to the MCP database server
// at a URL, or, for an empty one, to a server in this process with the sample.
// It asks the server for its tools.
func open(ctx context.Context, url string) (functions []dbplugin.Function, closeAll func(context.Context) error, err error) {
	server := mcpool.Server{Name: "database", URL: url}
	closeServer := func() error { return nil }
	if url == "" {
		db, err := SampleServer()
		if err != nil {
			return nil, nil, err
		}
		server.Handler, closeServer = db, db.Close
	}
	config, err := mcpool.ConfigFromEnv()
	if err != nil {
		return nil, nil, errors.Join(err, closeServer())
	}
	pool, err := mcpool.New(server, &config)
	if err != nil {
		return nil, nil, errors.Join(err, closeServer())
	}
	closeAll = func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		return errors.Join(pool.Close(ctx), closeServer())
	}
	plugin, err := dbplugin.New(pool, nil)
	if err == nil {
		functions, err = plugin.Functions(ctx)
	}
	if err != nil {
		return nil, nil, errors.Join(err, closeAll(ctx))
	}
	return functions, closeAll, nil
}

// SampleServer returns an MCP database server with the sample, which the first
// call makes and opens.
func SampleServer() (*dbserver.Server, error) {
	return dbserver.New(dbserver.Options{Databases: []dbserver.Database{{Prepare: Sample}}})
}

// Sample makes the sample database, where it is not there yet, in the folder
// where mcpool has its own, and returns its path.
func Sample(ctx context.Context) (path string, err error) {
	dir, err := os.UserCacheDir()
	if err != nil { // no home: a service account, say
		dir = os.TempDir()
	}
	return dbserver.Sample(ctx, filepath.Join(dir, "mcpool"))
}
