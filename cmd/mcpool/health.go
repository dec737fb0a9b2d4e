package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// runHealth asks a gateway whether it is there.
func runHealth(ctx context.Context, args []string, std stdio) error {
	f := newFlags(std, "health [flags]", `Ask a running gateway whether it is there: the status is 0 if it answers, else 1.
It needs no key and no token, and is what HEALTHCHECK of a container runs.`)
	at := f.gateway()
	if err := f.parse(args, 0); err != nil {
		return err
	}
	base, err := at()
	if err != nil {
		return err
	}
	o := newOperator(base)
	within, cancel := context.WithTimeoutCause(ctx, healthTimeout, hinted{
		fmt.Errorf("no answer of the gateway at %s within %v", base, healthTimeout), "it may be overloaded, or be something else: its log says more",
	})
	defer cancel()
	request, err := http.NewRequestWithContext(within, http.MethodGet, base.JoinPath("healthz").String(), nil)
	if err != nil {
		return err
	}
	request.Close = true
	response, err := o.answering(http.MethodGet).Do(request)
	if err != nil {
		return o.unreached(within, err)
	}
	defer response.Body.Close()
	said, err := io.ReadAll(io.LimitReader(response.Body, maxHealth))
	switch {
	case err != nil:
		return o.unreached(within, err)
	case string(said) == tlsWanted:
		return hinted{fmt.Errorf("the gateway at %s speaks TLS", base), "--url wants https://, and the name that its certificate is for"}
	case response.StatusCode == http.StatusForbidden:
		return hinted{fmt.Errorf("the gateway at %s does not go by that name", base), "--url wants its address, or one of its --allowed-hosts"}
	case response.StatusCode != http.StatusOK || string(said) != "ok\n":
		return notOurs(response.Status)
	}
	fmt.Fprintln(std.out, "ok")
	return nil
}

// healthTimeout is how long a gateway may take to say that it is there.
const healthTimeout = 3 * time.Second

// tlsWanted is what net/http says to a request without TLS where it serves TLS.
const tlsWanted = "Client sent an HTTP request to an HTTPS server.\n"

// maxHealth is more than a gateway says of its health, in bytes.
const maxHealth = 64
