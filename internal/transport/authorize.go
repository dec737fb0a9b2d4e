package transport

import (
	"context"
	"net/http"
	"strings"

	"github.com/mcpool-dev/mcpool/rpc"
)

// An Authorization is what a request over HTTP carries in the header of that
// name. Its address is its identity: a source that is asked again after a
// refusal gives another one, be the value the same or not.
type Authorization struct {
	Value string // such as "Bearer ..."; it never appears in errors or logs
}

// token is the Value without its scheme; "" for nil.
func (a *Authorization) token() string {
	if a == nil {
		return ""
	}
	_, token, _ := strings.Cut(a.Value, " ")
	return token
}

// A Refusal is a request that the server has refused for what it carried.
type Refusal struct {
	Carried   *Authorization // nil for nothing
	Challenge rpc.Challenge
}

// An Authorize says what a request carries now; nil is nothing, beside what
// [HTTPOptions] has. It is asked anew for every request, so that nothing of a
// caller stays with a connection. refused is nil, or how the server has refused
// this request: if the Value is another now, the request is made once more. ctx
// ends the wait for it; then the error is the cause. It may be called from
// several goroutines at once, and a nil Authorize is nothing to carry.
type Authorize func(ctx context.Context, refused *Refusal) (*Authorization, error)

// do makes a request with the Authorization it is given, and again if the
// server refuses that and there is another: once for a refusal with 401 and
// once for one with 403, so three times at most. A request that was refused so
// has not run (RFC 9110, 15.5.2 and 15.5.4). An error of authorize is found in
// the failure.
func (e *httpEndpoint) do(ctx context.Context, method string, header http.Header, frame []byte, authorize Authorize) (*http.Response, *Failure) {
	if authorize == nil {
		return e.send(ctx, method, header, frame, nil)
	}
	carried, err := authorize(ctx, nil)
	if err != nil {
		return nil, &Failure{Fate: NotSent, Err: err}
	}
	met := 0 // the status that was met by another Authorization already
	for last := false; ; {
		response, failure := e.send(ctx, method, header, frame, carried)
		if failure != nil || last {
			return response, failure
		}
		refused := refusalOf(response, carried)
		if refused == nil || refused.Challenge.Status == met {
			return response, nil
		}
		next, err := authorize(ctx, refused)
		switch {
		case err != nil:
			release(response)
			return nil, &Failure{Fate: Refused,
				Err: e.errorf("%w, and there is no other token: %w", &StatusError{Status: response.StatusCode}, err)}
		case next == nil || carried != nil && next.Value == carried.Value:
			return response, nil
		}
		release(response)
		carried, last, met = next, met != 0, refused.Challenge.Status
	}
}

// maxChallenges bounds, in bytes, what is read of WWW-Authenticate.
const maxChallenges = 8 << 10

// refusalOf returns how a response refuses what the request carried, nil if it
// does not.
func refusalOf(response *http.Response, carried *Authorization) *Refusal {
	status := response.StatusCode
	if status != http.StatusUnauthorized && status != http.StatusForbidden {
		return nil
	}
	r := &Refusal{Carried: carried, Challenge: rpc.Challenge{Status: status, Token: carried.token()}}
	size := 0
	for _, value := range response.Header.Values("WWW-Authenticate") {
		if size += len(value); size > maxChallenges {
			break
		}
		r.Challenge.WWWAuthenticate = append(r.Challenge.WWWAuthenticate, value)
	}
	if status == http.StatusForbidden && r.Challenge.Param("error") != "insufficient_scope" {
		return nil
	}
	return r
}

// blot blots out of a text the secrets of the endpoint, and what a request
// carried as its Authorization.
func (e *httpEndpoint) blot(text, authorization string) string {
	_, token, _ := strings.Cut(authorization, " ")
	for _, secret := range [...]string{authorization, token} {
		if len(secret) >= secretLength {
			text = strings.ReplaceAll(text, secret, "***")
		}
	}
	return e.secrets.Replace(text)
}
