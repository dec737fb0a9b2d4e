package transport

import (
	"context"
	"net/http"
	"strings"
)

// An Authorization is what a request over HTTP carries in the header of that
// name. Its address is its identity: a source that is asked again gives
// another one, be the value the same or not.
type Authorization struct {
	Value string // such as "Bearer ..."; it never appears in errors or logs
}

// An Authorize says what a request carries now; nil is nothing, beside what
// [HTTPOptions] has. It is asked anew for every request, so that nothing of a
// caller stays with a connection. refused is nil, or what it gave for this
// request before and the server has refused with 401: if its Value is another
// now, the request is made once more. ctx ends the wait for it; then the error
// is the cause. It may be called from several goroutines at once, and a nil
// Authorize is nothing to carry.
type Authorize func(ctx context.Context, refused *Authorization) (*Authorization, error)

// do makes a request with the Authorization it is given, and once more if the
// server refuses that with 401 and there is another: a request that was
// refused so has not run (RFC 9110, 15.5.2). An error of authorize is found in
// the failure.
func (e *httpEndpoint) do(ctx context.Context, method string, header http.Header, frame []byte, authorize Authorize) (*http.Response, *Failure) {
	if authorize == nil {
		return e.send(ctx, method, header, frame, nil)
	}
	first, err := authorize(ctx, nil)
	if err != nil {
		return nil, &Failure{Fate: NotSent, Err: err}
	}
	response, failure := e.send(ctx, method, header, frame, first)
	if failure != nil || response.StatusCode != http.StatusUnauthorized || first == nil {
		return response, failure
	}
	second, err := authorize(ctx, first)
	switch {
	case err != nil:
		release(response)
		return nil, &Failure{Fate: Refused,
			Err: e.errorf("%w, and there is no other token: %w", &StatusError{Status: http.StatusUnauthorized}, err)}
	case second == nil || second.Value == first.Value:
		return response, nil
	}
	release(response)
	return e.send(ctx, method, header, frame, second)
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
