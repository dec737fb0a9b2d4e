package sqlserver

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	mssql "github.com/microsoft/go-mssqldb"
	"github.com/microsoft/go-mssqldb/msdsn"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

const (
	// confirmation is how long the server may take to confirm that a statement
	// was ended, before its connection is cut.
	confirmation = time.Second
	// firstPause and longestPause bound the time between attempts to open a
	// connection while none succeeds.
	firstPause   = time.Second
	longestPause = 30 * time.Second
)

// Keys of log attributes.
const (
	keyDatabase = "database"
	keyError    = "error"
	keyElapsed  = "elapsed"
	keyCheck    = "check"
)

// errConnectTimeout is the cause with which an opening's time ends.
var errConnectTimeout = errors.New("no connection was made in time")

// A connectError is a failure to open a connection.
type connectError struct {
	err   error
	after time.Duration // when it is tried again
}

func (e *connectError) Error() string { return e.err.Error() }
func (e *connectError) Unwrap() error { return e.err }

// An opener returns what opens connections as the settings say, over wires.
type opener func(config msdsn.Config, below *wires) driver.Connector

func openDriver(config msdsn.Config, below *wires) driver.Connector {
	c := mssql.NewConnectorConfig(config)
	c.Dialer = below
	return c
}

// A connector opens connections, for database/sql.
type connector struct {
	options  engine.Options
	open     opener
	dsn      string
	resolve  func(ctx context.Context) (string, error)
	writes   bool         // the role may do what it may
	admitted func(*facts) // told of each new connection

	mu     sync.Mutex    // guards what follows; nothing waits under it
	failed *connectError // the last failure, nil after a success
	pause  time.Duration // after it
	again  time.Time     // when it is tried again
	trying chan struct{} // closed when the one attempt after a failure has ended; nil for none
}

func (c *connector) Driver() driver.Driver { return &mssql.Driver{} }

// Connect opens a connection. After a failure one caller tries at a time and
// the others wait for what comes of it, with pauses in which all are told of
// the failure at once.
func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	alone, err := c.enter(ctx)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	conn, err := c.connect(ctx)
	if err == nil {
		c.learn(alone, nil)
		c.leave(alone)
		c.options.Log.Info("connection opened", slog.String(keyDatabase, c.options.Name), slog.Duration(keyElapsed, time.Since(start)))
		return conn, nil
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, engine.ErrExhausted) {
		c.leave(alone) // nothing was learned: the caller went away
		return nil, cause
	}
	failed := &connectError{err: err}
	c.learn(alone, failed)
	c.leave(alone)
	c.options.Log.Warn("connection not opened", slog.String(keyDatabase, c.options.Name), slog.String(keyError, c.scrub(err.Error())))
	return nil, failed
}

// enter waits until an attempt may be made, and reports whether it is the only
// one.
func (c *connector) enter(ctx context.Context) (alone bool, err error) {
	for {
		c.mu.Lock()
		trying, failed, wait := c.trying, c.failed, time.Until(c.again)
		switch {
		case failed == nil:
			c.mu.Unlock()
			return false, nil
		case trying == nil && wait <= 0:
			c.trying = make(chan struct{})
			c.mu.Unlock()
			return true, nil
		}
		c.mu.Unlock()
		if trying == nil {
			return false, &connectError{err: failed.err, after: wait}
		}
		select {
		case <-trying:
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
}

// learn keeps what came of an attempt, nil for a connection. Of several that
// fail at once the first sets the pause.
func (c *connector) learn(alone bool, failed *connectError) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case failed == nil:
		c.failed, c.pause = nil, 0
	case alone || c.failed == nil:
		c.failed = failed
		c.pause = min(max(2*c.pause, firstPause), longestPause)
		c.again = time.Now().Add(c.pause)
		failed.after = c.pause
	}
}

// leave ends an attempt.
func (c *connector) leave(alone bool) {
	if !alone {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.trying)
	c.trying = nil
}

// connect makes one attempt.
func (c *connector) connect(ctx context.Context) (_ driver.Conn, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.options.Pool.ConnectTimeout, errConnectTimeout)
	defer cancel()
	config, err := c.config(ctx)
	if err != nil {
		return nil, err
	}
	below := new(wires)
	stop := context.AfterFunc(ctx, below.cut) // the driver's login waits for the server alone
	defer stop()
	opened, err := c.open(config, below).Connect(ctx)
	if err != nil {
		below.cut()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	conn := &connection{Conn: opened, wires: below}
	if life := c.options.Pool.MaxLifetime; life > 0 {
		conn.expires = time.Now().Add(life - rand.N(life/10+1)) // #nosec G404 -- to spread what would come together
	}
	if err := c.admit(ctx, conn); err != nil {
		_ = conn.Close() // it has done nothing
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	return conn, nil
}

// config returns the settings for one connection.
func (c *connector) config(ctx context.Context) (msdsn.Config, error) {
	dsn := c.dsn
	if c.resolve != nil {
		var err error
		if dsn, err = c.resolve(ctx); err != nil {
			return msdsn.Config{}, fmt.Errorf("prepare the database: %w", err)
		}
	}
	config, err := configure(dsn, c.options.TLS)
	if err != nil {
		return msdsn.Config{}, err
	}
	if c.options.Password != nil {
		if config.Password, err = c.options.Password(); err != nil {
			return msdsn.Config{}, fmt.Errorf("read the password: %w", err)
		}
	}
	// The driver refuses the intent where no database is named.
	config.ReadOnlyIntent = !c.writes && config.Database != ""
	return config, nil
}

// admit looks at the role of a new connection.
func (c *connector) admit(ctx context.Context, conn *connection) error {
	s := &session{connection: conn, options: &c.options}
	found, err := s.ask(ctx)
	if err != nil {
		return err
	}
	if bad := found.unsafe(); len(bad) > 0 && !c.writes {
		if !c.options.AllowUnsafeRole {
			return unsafeRole(bad)
		}
		for _, check := range bad {
			c.options.Log.Warn("the role of the connection may do more than read, and was let in",
				slog.String(keyDatabase, c.options.Name), slog.String(keyCheck, check.Name), slog.String("detail", check.Detail))
		}
	}
	conn.facts = found
	c.admitted(found)
	return nil
}

// A connection is a connection: one of the driver's, and the wires below it.
type connection struct {
	driver.Conn
	wires   *wires
	facts   *facts
	expires time.Time
}

// ResetSession marks the session for reset, before it is lent again.
func (c *connection) ResetSession(ctx context.Context) error {
	if !c.expires.IsZero() && time.Now().After(c.expires) {
		return driver.ErrBadConn
	}
	if r, ok := c.Conn.(driver.SessionResetter); ok {
		return r.ResetSession(ctx)
	}
	return driver.ErrBadConn // what cannot be reset is not lent twice
}

// IsValid reports whether the connection may be lent again.
func (c *connection) IsValid() bool {
	v, ok := c.Conn.(driver.Validator)
	return ok && v.IsValid()
}

// Close closes the connection.
func (c *connection) Close() error {
	err := c.Conn.Close()
	c.wires.cut()
	return err
}

// cutAfter cuts the connection if what runs on it has not come to an end some
// time after ctx. stop ends the watch.
func (c *connection) cutAfter(ctx context.Context) (stop func()) {
	stopped := make(chan struct{})
	var work sync.WaitGroup
	work.Go(func() {
		select {
		case <-ctx.Done():
		case <-stopped:
			return
		}
		timer := time.NewTimer(confirmation)
		defer timer.Stop()
		select {
		case <-timer.C:
			c.wires.cut()
		case <-stopped:
		}
	})
	return func() {
		close(stopped)
		work.Wait()
	}
}

// wires are the network connections below one of the driver's, so that they
// can be cut: the driver itself waits for the server where it reads. They are
// its dialer, and resolve names, which the driver does without regard to ctx.
type wires struct {
	mu    sync.Mutex
	conns []net.Conn
	gone  bool
}

// HostName makes the driver leave names to the dialer.
func (l *wires) HostName() string { return "" }

// DialContext opens a connection.
func (l *wires) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{KeepAlive: 30 * time.Second}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone {
		_ = conn.Close() // nothing was sent
		return nil, net.ErrClosed
	}
	l.conns = append(l.conns, conn)
	return conn, nil
}

func (l *wires) cut() {
	l.mu.Lock()
	conns := l.conns
	l.conns, l.gone = nil, true
	l.mu.Unlock()
	for _, conn := range conns {
		_ = conn.Close() // it may be closed already
	}
}
