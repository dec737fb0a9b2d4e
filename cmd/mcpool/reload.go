package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/config"
	"github.com/mcpool-dev/mcpool/gateway"
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

	reloading sync.Mutex // held by take
	conf      *config.Config

	leaving sync.WaitGroup // units that were replaced, and what waits for their end
	life    context.Context
	end     context.CancelCauseFunc // of life
}

// pools are those there are now.
func (o *opened) pools() []*mcpool.Pool { return o.now.Load().pools() }

// close ends all pools. Those that were replaced, and whose calls still run, have
// no more time than the others.
func (o *opened) close(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { o.end(context.Cause(ctx)) })
	defer stop()
	err := closeUnits(ctx, o.now.Load().units)
	o.leaving.Wait()
	o.end(nil)
	return err
}

// reload has the configuration read again. An error says why it was not taken;
// then nothing has changed.
func (o *opened) reload(context.Context) error {
	return o.change(func() ([]byte, error) { return readConfiguration(o.service.file) })
}

// change takes the configuration that is read, tells systemd meanwhile, and logs
// why it was not taken.
func (o *opened) change(read func() ([]byte, error)) error {
	log := o.service.log.Logger
	tellSystemd(log, reloading()...)
	defer tellSystemd(log, "READY=1")
	text, err := read()
	if err == nil {
		err = o.take(text)
	}
	if err != nil {
		log.Error("the configuration was not reloaded, and nothing has changed", "error", err)
	}
	return err
}

// take makes a configuration that of the service. Only what differs cycles, and
// no call is disturbed.
func (o *opened) take(text []byte) error {
	o.reloading.Lock()
	defer o.reloading.Unlock()
	s := o.service
	conf, err := config.Parse(text, s.file, s.settings)
	if err != nil {
		return err
	}
	conf.KeepLimits(o.conf)
	before := o.now.Load()
	next, err := before.become(conf.Servers, s.key, s.log.Logger)
	if err != nil {
		return err
	}
	left, err := o.gateway.Change(next.fronts())
	if err != nil {
		return errors.Join(err, closeUnits(context.Background(), next.made))
	}
	o.now.Store(next.assembly)
	err = next.settle(s.log.Logger)
	if len(next.gone) > 0 {
		o.leaving.Go(func() {
			select {
			case <-left:
			case <-o.life.Done():
			}
			if err := closeUnits(o.life, next.gone); err != nil {
				s.log.Warn("a server that was replaced did not end in time", "error", err)
			}
		})
	}
	if !reflect.DeepEqual(conf.Gateway, o.conf.Gateway) {
		s.log.Warn("the configuration's gateway has changed: that takes a restart")
	}
	if conf.Log.Format != o.conf.Log.Format {
		s.log.Warn("the configuration's log.format has changed: that takes a restart")
	}
	s.log.set(conf.Log)
	o.conf = conf
	o.gateway.SetJoinHeader(s.joined(text))
	added, removed, changed := next.differences(before)
	s.log.Info("configuration reloaded", "added", added, "removed", removed, "changed", changed)
	return err
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
// cannot be read, has no content: who replaces it may delete it first.
func watch(ctx context.Context, read func() ([]byte, error), taken []byte, take func([]byte)) {
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
		} else if now != last && time.Since(since) >= settleTime {
			last = now
			take(text)
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
