package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	// feedSilence is how long a stream of events may be silent: the gateway says
	// something every 5 s.
	feedSilence = 12 * time.Second
	// feedPause is what lies between two attempts to reach a gateway.
	feedPause = time.Second
)

// A topState is one event of the gateway: how it all stands.
type topState struct {
	Pools       []topPool
	Connections []topConn
	Waits       []topWait
}

type topPool struct {
	Server        string
	Paused        bool
	Breaker       string
	Health        string
	Connections   int
	InUse         int `json:"in_use"`
	Idle, Opening int
	CallsInFlight int `json:"calls_in_flight"`
	Waiting       int
	OldestWait    float64 `json:"oldest_wait_seconds"`
	Calls, Errors uint64
	ReuseRatio    float64 `json:"reuse_ratio"`
	Avoided       uint64  `json:"handshakes_avoided"`
	AvoidedTime   float64 `json:"handshake_seconds_avoided"`
	Call          struct {
		P99 float64 `json:"p99_seconds"`
	}
}

type topConn struct {
	Server, ID, State, Group, Era string
	Age                           float64   `json:"age_seconds"`
	LastUse                       time.Time `json:"last_use"`
	OpenTook                      float64   `json:"open_took_seconds"`
	Slots                         int
	CallsInFlight                 int `json:"calls_in_flight"`
	Calls, Errors                 uint64
}

type topWait struct {
	Server, Principal string
	Waiting           int
	OldestWait        float64 `json:"oldest_wait_seconds"`
}

// What the feed tells.
type (
	stateMsg struct {
		state topState
		at    time.Time // when it came
	}
	awayMsg struct{ err error }
)

// feed tells how the gateway stands until ctx ends, and when it is away. One
// that is away is tried again and again.
func (o *operator) feed(ctx context.Context, tell func(any)) {
	for {
		err := o.events(ctx, func(state topState) { tell(stateMsg{state, time.Now()}) })
		if ctx.Err() != nil {
			return
		}
		tell(awayMsg{err})
		select {
		case <-time.After(feedPause):
		case <-ctx.Done():
			return
		}
	}
}

// events reads one stream of events. It returns why it has ended.
func (o *operator) events(ctx context.Context, tell func(topState)) error {
	alive, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(feedSilence, func() { cancel(fmt.Errorf("nothing comes from the gateway at %s", o.base)) })
	defer silence.Stop()
	response, err := o.send(alive, "GET", "events")
	if err != nil {
		return o.unreached(alive, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
		if err != nil {
			return o.unreached(alive, err)
		}
		return refused(response, body)
	}
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, maxAnswer)
	for lines.Scan() {
		data, is := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
		if !is {
			continue
		}
		silence.Reset(feedSilence)
		var state topState
		if err := json.Unmarshal(data, &state); err != nil {
			return notOurs(response.Status)
		}
		tell(state)
	}
	err = lines.Err()
	if err == nil {
		err = errors.New("the gateway has ended")
	}
	return o.unreached(alive, err)
}
