package mcpool

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/mcpool-dev/mcpool/rpc"
)

// BearerEnv is a token in the environment variable of that name. It is read
// whenever the token is asked for: at first, and after a refusal with 401.
type BearerEnv string

// TokenSource implements [Auth].
func (name BearerEnv) TokenSource(string) (rpc.TokenSource, error) { return name, nil }

// Token implements [rpc.TokenSource].
func (name BearerEnv) Token() (*oauth2.Token, error) {
	token := strings.TrimSpace(os.Getenv(string(name)))
	if token == "" {
		return nil, fmt.Errorf("environment variable %s has no token", string(name))
	}
	return &oauth2.Token{AccessToken: token}, nil
}

// BearerFile is a token in the file at that path, with space around it or not,
// 64 KiB at most. The file is read again when the token is used and was read
// more than 1 s ago, and after a refusal with 401; so it may be replaced at any
// time, also by turning a symbolic link elsewhere. Write a new token to another
// file first and rename that: half a token is not told from a whole one.
type BearerFile string

// fileFresh is how long what was read of a file is used. To open and read it
// takes some 30 µs, too much for each request.
const fileFresh = time.Second

// expiryDelta is how long before its end a token is renewed, as package oauth2
// has it.
const expiryDelta = 10 * time.Second

// TokenSource implements [Auth].
func (path BearerFile) TokenSource(string) (rpc.TokenSource, error) { return path, nil }

// Token implements [rpc.TokenSource]. The token has an end for the pool to ask
// again after 1 s.
func (path BearerFile) Token() (*oauth2.Token, error) {
	token, err := readSecret(string(path))
	if err != nil {
		return nil, err
	}
	return &oauth2.Token{AccessToken: token, Expiry: time.Now().Add(fileFresh + expiryDelta)}, nil
}
