package gateway

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
)

// A relayed is a client that is served by a relay, and the gateways of which
// the test is each in turn.
type relayed struct {
	t      *testing.T
	in     *io.PipeWriter
	out    *bufio.Reader
	wanted chan chan *Joined // connect is called
	cancel context.CancelFunc
	served chan error

	gateway net.Conn // the test's end
	heard   *bufio.Reader
}

func newRelayed(t *testing.T, grace time.Duration) *relayed {
	fromClient, in := io.Pipe()
	out, toClient := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	r := &relayed{t: t, in: in, out: bufio.NewReader(out), wanted: make(chan chan *Joined), cancel: cancel, served: make(chan error, 1)}
	go func() {
		err := Relay(ctx, fromClient, toClient, grace, func(ctx context.Context) (*Joined, error) {
			got := make(chan *Joined)
			select {
			case r.wanted <- got:
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
			return <-got, nil
		})
		fromClient.Close()
		toClient.Close()
		r.served <- err
	}()
	return r
}

// join waits until a gateway is wanted, and is it.
func (r *relayed) join() {
	ours, its := net.Pipe()
	r.gateway, r.heard = ours, bufio.NewReader(ours)
	got := <-r.wanted
	got <- &Joined{conn: quiet{its}, in: bufio.NewReader(its)}
}

// quiet is a connection whose other end does not notice that it is closed on
// one side.
type quiet struct{ net.Conn }

func (quiet) CloseWrite() error { return nil }

func (r *relayed) client(frame string) {
	r.t.Helper()
	if _, err := io.WriteString(r.in, frame+"\n"); err != nil {
		r.t.Fatal(err)
	}
}

// hear returns what the gateway is sent.
func (r *relayed) hear() string {
	r.t.Helper()
	line, err := r.heard.ReadString('\n')
	if err != nil {
		r.t.Fatal(err)
	}
	return strings.TrimSuffix(line, "\n")
}

// heardNothing reports whether the gateway is sent nothing for now.
func (r *relayed) heardNothing() {
	r.t.Helper()
	_ = r.gateway.SetReadDeadline(time.Now().Add(time.Millisecond))
	if line, err := r.heard.ReadString('\n'); err == nil {
		r.t.Errorf("the gateway was sent %s", line)
	}
	_ = r.gateway.SetReadDeadline(time.Time{})
}

func (r *relayed) say(frame string) {
	r.t.Helper()
	if _, err := io.WriteString(r.gateway, frame+"\n"); err != nil {
		r.t.Fatal(err)
	}
}

func (r *relayed) read() string {
	r.t.Helper()
	line, err := r.out.ReadString('\n')
	if err != nil {
		r.t.Fatal(err)
	}
	return strings.TrimSuffix(line, "\n")
}

// asks has the client ask something and the gateway answer.
func (r *relayed) asks(id, method, params string) {
	r.t.Helper()
	frame := frameOf(id, method, params)
	r.client(frame)
	if got := r.hear(); got != frame {
		r.t.Errorf("the gateway was sent %s, want %s", got, frame)
	}
	answer := `{"jsonrpc":"2.0","id":` + id + `,"result":{ "of": "` + method + `"}}`
	r.say(answer)
	if got := r.read(); got != answer {
		r.t.Errorf("the client was answered with %s, want %s", got, answer)
	}
}

func frameOf(id, method, params string) string {
	return `{"jsonrpc":"2.0","id":` + id + `,"method":"` + method + `","params":` + params + `}`
}

// again takes a request that a gateway is sent on the relay's own account.
func (r *relayed) again(method, params string) (id string) {
	r.t.Helper()
	msg, err := jsonrpc.Parse([]byte(r.hear()))
	if err != nil || msg.Method != method || string(msg.Params) != params || !strings.HasPrefix(string(msg.ID), `"mcpool-`) {
		r.t.Errorf("the gateway was asked %s %s %s, %v, want %s %s", msg.ID, msg.Method, msg.Params, err, method, params)
	}
	return string(msg.ID)
}

func (r *relayed) answer(id string) {
	r.t.Helper()
	r.say(`{"jsonrpc":"2.0","id":` + id + `,"result":{}}`)
}

func (r *relayed) end() {
	r.t.Helper()
	r.in.Close()
	r.gateway.Close()
	if err := <-r.served; err != nil {
		r.t.Error(err)
	}
}

const initializedFrame = `{"jsonrpc":"2.0","method":"notifications/initialized"}`

func TestRelayTellsTheNextGatewayWhatTheClientHasSaid(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRelayed(t, 0)
		r.join()
		r.asks(`0`, "initialize", `{"protocolVersion":"2025-06-18"}`)
		r.client(initializedFrame)
		r.hear()
		r.asks(`1`, "logging/setLevel", `{"level":"error"}`)
		r.asks(`2`, "logging/setLevel", `{"level":"debug"}`)
		r.asks(`3`, "resources/subscribe", `{"uri":"a:1"}`)
		r.asks(`4`, "resources/subscribe", `{"uri":"b:1"}`)
		r.asks(`5`, "resources/unsubscribe", `{"uri":"b:1"}`)
		r.gateway.Close()
		synctest.Wait()

		// What comes meanwhile waits.
		call := frameOf(`6`, "tools/call", `{"name":"x"}`)
		r.client(call)
		synctest.Wait()
		r.join()
		initialize := r.again("initialize", `{"protocolVersion":"2025-06-18"}`)
		r.heardNothing() // before it is answered
		r.answer(initialize)
		if got := r.hear(); got != initializedFrame {
			t.Errorf("the gateway was sent %s", got)
		}
		level := r.again("logging/setLevel", `{"level":"debug"}`)
		r.heardNothing()
		r.answer(level)
		subscribe := r.again("resources/subscribe", `{"uri":"a:1"}`)
		if got := r.hear(); got != call {
			t.Errorf("the gateway was sent %s, want %s", got, call)
		}
		r.answer(subscribe)
		r.answer(`6`)
		if got := r.read(); got != `{"jsonrpc":"2.0","id":6,"result":{}}` {
			t.Errorf("the client was sent %s", got) // and none of the other answers
		}
		r.end()
	})
}

func TestWhatALostGatewayHasNotAnswered(t *testing.T) {
	t.Parallel()
	list, call := frameOf(`"l"`, "tools/list", `{}`), frameOf(`7`, "tools/call", `{"name":"x"}`)
	for name, left := range map[string]bool{"it broke off": false, "it has left": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRelayed(t, 0)
				r.join()
				for _, frame := range []string{list, call} {
					r.client(frame)
					r.hear()
				}
				again := []string{list}
				if left {
					r.say(string(leftLine[:len(leftLine)-1]))
					again = append(again, call)
				}
				r.gateway.Close()
				r.join()
				for _, want := range again {
					if got := r.hear(); got != want {
						t.Errorf("the next gateway was sent %s, want %s", got, want)
					}
				}
				if !left {
					if got := r.read(); !strings.HasPrefix(got, `{"jsonrpc":"2.0","id":7,"error":{"code":-32603,`) || !strings.Contains(got, "the call may have run") {
						t.Errorf("the client was sent %s", got)
					}
				} else {
					r.answer(`7`)
					r.read()
				}
				r.heardNothing()
				r.answer(`"l"`)
				r.read()
				r.end()
			})
		})
	}
}

func TestWhatAClientCancelsIsNotMadeAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cancel := func(id string) string {
			return `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":` + id + `}}`
		}
		r := newRelayed(t, 0)
		r.join()
		r.client(frameOf(`1`, "tools/list", `{}`))
		r.hear()
		r.client(cancel(`1`))
		if got := r.hear(); got != cancel(`1`) {
			t.Errorf("the gateway was sent %s", got)
		}
		r.gateway.Close()
		synctest.Wait()
		r.client(frameOf(`2`, "tools/list", `{}`))
		r.client(cancel(`2`))
		r.client(`{"jsonrpc":"2.0","id":"old-1","result":{}}`) // to what the gateway that is lost had asked
		synctest.Wait()
		r.join()
		r.asks(`3`, "tools/list", `{}`)
		r.heardNothing()
		r.end()
	})
}

func TestRequestsWaitForAGatewayAndNoLonger(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRelayed(t, 0)
		r.join()
		r.asks(`1`, "tools/list", `{}`)
		began := time.Now()
		r.gateway.Close()
		synctest.Wait()
		r.client(frameOf(`2`, "tools/call", `{"name":"x"}`))
		got := r.read()
		if took := time.Since(began); took != relayWait || !strings.HasPrefix(got, `{"jsonrpc":"2.0","id":2,"error":{"code":-32603,"message":"no gateway within 35s`) {
			t.Errorf("after %v: %s", took, got)
		}
		if err := <-r.served; err == nil {
			t.Error("it goes on without a gateway")
		}
	})
}

func TestARelayEndsWithItsContext(t *testing.T) {
	t.Parallel()
	for name, answered := range map[string]bool{"answered": true, "not answered in time": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRelayed(t, time.Minute)
				r.join()
				r.client(frameOf(`1`, "tools/call", `{"name":"x"}`))
				r.hear()
				began := time.Now()
				r.cancel()
				synctest.Wait()
				want := `{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"` + errAborted.Error() + `"}}`
				if answered {
					want = `{"jsonrpc":"2.0","id":1,"result":{}}`
					r.answer(`1`)
				}
				if got := r.read(); got != want {
					t.Errorf("the client was sent %s, want %s", got, want)
				}
				err := <-r.served
				r.gateway.Close()
				if took := time.Since(began); !answered && took != time.Minute || (err == nil) != answered {
					t.Errorf("after %v: %v", took, err)
				}
			})
		})
	}
}

func TestARelayFailsWithItsClient(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRelayed(t, 0)
		r.join()
		why := errors.New("unplugged")
		r.in.CloseWithError(why)
		if err := <-r.served; !errors.Is(err, why) {
			t.Errorf("got %v", err)
		}
		r.gateway.Close()
	})
}
