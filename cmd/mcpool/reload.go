package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/admin"
	"github.com/mcpool-dev/mcpool/auth"
	"github.com/mcpool-dev/mcpool/config"
	"github.com/mcpool-dev/mcpool/dbserver"
	"github.com/mcpool-dev/mcpool/gateway"
	"github.com/mcpool-dev/mcpool/internal/serving"
)

const (
	// lookTime is how often the file of the configuration is looked at.
	lookTime = 250 * time.Millisecond
	// settleTime is how long it has to be as it is to be taken: who writes it in
	// two parts is not to have the first alone taken.
	settleTime = 500 * time.Millisecond
)

// opened is a service with its pools, which clients can be served by.
type opened struct {
	service *service
	gateway *gateway.Gateway
	now     atomic.Pointer[assembly]
	conf    atomic.Pointer[config.Config]      // that was taken last
	who     atomic.Pointer[auth.Authenticator] // nil: anybody may call, always
	token   atomic.Pointer[admin.Token]        // nil for none
	shown   atomic.Pointer[[]config.Setting]   // those in force

	reloading sync.Mutex    // held while the configuration is read and taken; guards what follows
	asked     *auth.Options // what who was made of
	tried     []byte        // what the file had that was taken, or refused, last
	closed    bool          // nothing is taken any more

	leaving sync.WaitGroup // units that were replaced, and what waits for their end
	life    context.Context
	end     context.CancelCauseFunc // of life
}

// pools are those there are now.
func (o *opened) pools() []*mcpool.Pool { return o.now.Load().pools() }

// databases are the servers of databases there are now.
func (o *opened) databases() []*dbserver.Server { return o.now.Load().databases() }

// paused are the names of the servers that are paused now.
func (o *opened) paused() []string {
	var names []string
	for _, p := range o.pools() {
		if p.Stats().Paused {
			names = append(names, p.Name())
		}
	}
	return names
}

// close ends all pools, and what is told of them. Those that were replaced, and whose calls still run, have
// no more time than the others.
func (o *opened) close(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { o.end(context.Cause(ctx)) })
	defer stop()
	o.reloading.Lock()
	o.closed = true
	o.reloading.Unlock()
	err := closeUnits(ctx, o.now.Load().units)
	o.leaving.Wait()
	closeTelemetry(ctx, o.now.Load().telemetry)
	o.end(nil)
	return err
}

// reload has the configuration read again. An error says why it was not taken;
// then nothing has changed.
func (o *opened) reload(context.Context) error {
	o.reloading.Lock()
	defer o.reloading.Unlock()
	return o.changeLocked()
}

// settled has the configuration read again that the file has had for a while,
// unless that was tried already. It reports false if the file has it no more.
func (o *opened) settled(text []byte) bool {
	o.reloading.Lock()
	defer o.reloading.Unlock()
	if bytes.Equal(text, o.tried) {
		return true
	}
	now, err := readConfiguration(o.service.file)
	if err != nil || !bytes.Equal(now, text) {
		return false
	}
	_ = o.changeLocked() // it is logged
	return true
}

// changeLocked reads the configuration and takes it, tells systemd meanwhile, and
// logs why it was not taken.
func (o *opened) changeLocked() error {
	log := o.service.log.Logger
	tellSystemd(log, reloading()...)
	defer tellSystemd(log, "READY=1")
	text, err := readConfiguration(o.service.file)
	if err == nil {
		o.tried = text
		err = o.takeLocked(text)
	}
	if err != nil {
		log.Error("the configuration was not reloaded, and nothing has changed", "error", err)
	}
	return err
}

// takeLocked makes a configuration that of the service. Only what differs cycles,
// and no call is disturbed.
func (o *opened) takeLocked(text []byte) error {
	if o.closed {
		return errors.New("the gateway is shutting down")
	}
	s := o.service
	conf, err := config.Parse(text, s.file, s.settings)
	if err != nil {
		return err
	}
	taken := o.conf.Load()
	conf.KeepLimits(taken)
	entry, err := o.entry(conf, taken)
	if err != nil {
		return err
	}
	before := o.now.Load()
	next, err := before.become(conf.Servers, s.key, s.log.Logger)
	if err != nil {
		return err
	}
	left, err := o.gateway.Change(next.fronts(), entry.rights)
	if err != nil {
		return errors.Join(err, closeUnits(context.Background(), next.made))
	}
	o.now.Store(next.assembly)
	o.admit(entry)
	err = next.settle(s.log.Logger)
	for _, u := range next.gone {
		if u.paused() { // nothing ends that: who waits in it has to go on to the next
			o.retire(u, nil)
		} else {
			o.retire(u, left)
		}
	}
	waits := append(entry.restart, s.restart(conf)...)
	for _, what := range waits {
		s.log.Warn("a change of the configuration needs a restart, and is not in force", "what", what)
	}
	s.log.set(conf.Log)
	o.shows(conf.Settings(), waits)
	o.conf.Store(conf)
	o.gateway.SetJoinHeader(s.joined(text))
	added, removed, changed := next.differences(before)
	s.log.Info("configuration reloaded", "added", added, "removed", removed, "changed", changed)
	return err
}

// turnAway refuses the calls that wait for servers that are paused, and those that
// come: nobody can resume those any more. None of them was made.
func (o *opened) turnAway() {
	for _, u := range o.now.Load().units {
		if u.paused() {
			o.retire(u, nil)
		}
	}
}

// retire closes a unit that is served no more: after left, nil for at once. A call
// that waits in it then is not made.
func (o *opened) retire(u *unit, left <-chan struct{}) {
	o.leaving.Go(func() {
		if left != nil {
			select {
			case <-left:
			case <-o.life.Done():
			}
		}
		if err := closeUnits(o.life, []*unit{u}); err != nil {
			o.service.log.Warn("a server that was replaced did not end in time", "error", err)
		}
	})
}

// An entry is who may come in, and how, by one configuration.
type entry struct {
	who     *auth.Authenticator
	asked   *auth.Options                         // what it was made of
	rights  func(principal string) gateway.Rights // nil for those of before
	token   *admin.Token
	files   *tls.Config // what TLS is spoken with; nil for those of before
	restart []string    // what is not taken before the next start
}

// entry makes that of conf, which comes after taken. Nothing has changed yet.
// Whether anybody may call, and whether TLS is spoken, stay as they are: clients
// would have to begin anew.
func (o *opened) entry(conf, taken *config.Config) (e entry, err error) {
	s := o.service
	e.who, e.asked = o.who.Load(), o.asked
	if e.token, err = adminToken(conf.Admin); err != nil {
		return e, err
	}
	switch {
	case (conf.Auth == nil) != (o.asked == nil):
		e.restart = append(e.restart, "auth")
	case conf.Auth != nil:
		asked := *conf.Auth
		if asked.URL != o.asked.URL { // it is one of the hosts that requests may name
			e.restart = append(e.restart, "auth.url")
			asked.URL = o.asked.URL
		}
		if reflect.DeepEqual(&asked, o.asked) {
			break
		}
		if e.who, err = authenticator(&asked, s.log.Logger); err != nil {
			return e, err
		}
		e.asked, e.rights = &asked, rightsOf(e.who)
	}
	switch {
	case (conf.TLS.CertFile == "") != (s.listen.tls == nil):
		e.restart = append(e.restart, "tls")
	case conf.TLS != taken.TLS:
		e.files, err = serving.TLS(conf.TLS.CertFile, conf.TLS.KeyFile, conf.TLS.ClientCAFile, s.log.Logger)
	}
	return e, err
}

// admit has an entry be that of the service.
func (o *opened) admit(e entry) {
	o.who.Store(e.who)
	o.asked = e.asked
	o.token.Store(e.token)
	if e.files != nil {
		o.service.listen.files.Store(e.files)
	}
}

// restart returns what else of conf is not taken before the next start.
func (s *service) restart(conf *config.Config) []string {
	var what []string
	if !reflect.DeepEqual(conf.Gateway, s.conf.Gateway) {
		what = append(what, "gateway")
	}
	if conf.Telemetry != s.conf.Telemetry {
		what = append(what, "telemetry")
	}
	if conf.Log.Format != s.conf.Log.Format {
		what = append(what, "log.format")
	}
	return what
}

// differences are the names of the servers that are new, gone and other.
func (s *step) differences(before *assembly) (added, removed, changed string) {
	var lists [3][]string
	for _, u := range s.units {
		switch old := before.named(u.conf.Name); {
		case old == nil:
			lists[0] = append(lists[0], u.conf.Name)
		case old != u:
			lists[2] = append(lists[2], u.conf.Name)
		}
	}
	for _, u := range before.units {
		if s.named(u.conf.Name) == nil {
			lists[1] = append(lists[1], u.conf.Name)
		}
	}
	return strings.Join(lists[0], ","), strings.Join(lists[1], ","), strings.Join(lists[2], ",")
}

// readConfiguration reads the file of the configuration.
func readConfiguration(file string) ([]byte, error) {
	if file == "" {
		return nil, errors.New("there is no configuration to read again: serve was started without --config")
	}
	return config.Read(file)
}

// watch has each other content of the file taken that has lasted for settleTime,
// until ctx ends. taken is what it had before. A file that is not there, or
// cannot be read, has no content: who replaces it may delete it first. take
// reports whether it has seen to the content; else it is taken if it lasts.
func watch(ctx context.Context, read func() ([]byte, error), taken []byte, take func([]byte) bool) {
	tick := time.NewTicker(lookTime)
	defer tick.Stop()
	seen, since := sha256.Sum256(taken), time.Now()
	last := seen
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		text, err := read()
		if err != nil {
			seen = [sha256.Size]byte{}
			continue
		}
		if now := sha256.Sum256(text); now != seen {
			seen, since = now, time.Now()
		} else if now != last && time.Since(since) >= settleTime && take(text) {
			last = now
		}
	}
}

// joined is what programs that join the gateway are told.
func (s *service) joined(text []byte) http.Header {
	header := http.Header{headerVersion: {version()}, headerConfiguration: {s.fingerprint(text)}}
	if s.returns {
		header[headerReturns] = []string{"true"}
	}
	return header
}
