package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"
	"unicode"
)

// tokenFileVariable names the file of the token, for all commands.
const tokenFileVariable = "MCP_POOL_ADMIN_TOKEN_FILE" // #nosec G101 -- a name, and no token

// maxAnswer bounds an answer of the API, in bytes: some 10,000 connections.
const maxAnswer = 16 << 20

// A hinted error is one with what to do about it.
type hinted struct {
	error
	hint string
}

func (e hinted) Unwrap() error { return e.error }

// An operator uses the API of a gateway.
type operator struct {
	base  gatewayPlace
	token string // "" for none
	http  http.Client
	wait  time.Duration // that the gateway is asked to wait when it does something
}

const (
	// answerTime is how long a gateway may take to begin its answer, besides what it
	// is asked to wait.
	answerTime = 5 * time.Second
	// verbWait is how long the gateway waits where it is not told.
	verbWait = 30 * time.Second
)

// operator adds the flags that say which gateway to operate, and returns a func
// that makes the operator.
func (f *flags) operator() func() (*operator, error) {
	at := f.gateway()
	tokenFile := f.String("token-file", os.Getenv(tokenFileVariable), "`file` with the gateway's admin token, as "+tokenFileVariable)
	return func() (*operator, error) {
		base, err := at()
		if err != nil {
			return nil, err
		}
		o := newOperator(base)
		if *tokenFile != "" {
			text, err := readToken(*tokenFile)
			if err != nil {
				return nil, err
			}
			if o.token = strings.TrimSpace(string(text)); strings.HasPrefix(o.token, "sha256:") {
				return nil, fmt.Errorf("the admin token, %s, is a hash, which lets nobody in: want a file with the token itself", *tokenFile)
			}
		}
		return o, nil
	}
}

func newOperator(base gatewayPlace) *operator {
	o := &operator{base: base, wait: verbWait, http: http.Client{Transport: base.transport()}}
	o.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return o
}

// checkName refuses what is no name of a server or a connection, and could make
// another path of it.
func checkName(what, name string) error {
	if strings.ContainsFunc(name, func(c rune) bool { return c != '.' && notInName(c) }) || strings.Trim(name, ".") == "" {
		return usagef("%q: want the name of a %s, of letters, digits, '-', '_' and '.'", name, what)
	}
	return nil
}

// An answer is what the API has answered.
type answer struct {
	body []byte
	now  time.Time // by the gateway's clock
}

// send makes a request of the API. path is below /admin/v1.
func (o *operator) send(ctx context.Context, method string, path ...string) (*http.Response, error) {
	segments := []string{"admin", "v1"}
	for _, segment := range path {
		segments = append(segments, url.PathEscape(segment))
	}
	query := ""
	if last := len(segments) - 1; strings.HasPrefix(path[len(path)-1], "?") {
		query, segments = path[len(path)-1][1:], segments[:last]
	}
	u := o.base.JoinPath(segments...) // #nosec G125 -- they are escaped above, and checkName has refused dots
	u.RawQuery = query
	request, err := http.NewRequestWithContext(ctx, method, u.String(), nil) // #nosec G704 -- whoever runs it says where
	if err != nil {
		return nil, err
	}
	request.Close = true // by the next one, if there is one, the gateway may be another
	request.Header.Set("X-Mcpool-Admin", "1")
	if o.token != "" {
		request.Header.Set("Authorization", "Bearer "+o.token)
	}
	return o.answering(method).Do(request) // #nosec G704 -- likewise
}

// answering is the client that a request is made with: one that hangs is waited for
// no longer than it may take.
func (o *operator) answering(method string) *http.Client {
	transport, own := o.http.Transport.(*http.Transport)
	if !own {
		transport = http.DefaultTransport.(*http.Transport)
	}
	transport = transport.Clone()
	transport.ResponseHeaderTimeout = answerTime
	if method == http.MethodPost {
		transport.ResponseHeaderTimeout += o.wait
	}
	client := o.http
	client.Transport = transport
	return &client
}

// ask sends a request and reads its answer.
func (o *operator) ask(ctx context.Context, method string, path ...string) (*answer, error) {
	response, err := o.send(ctx, method, path...)
	if err != nil {
		return nil, o.unreached(ctx, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, o.unreached(ctx, err)
	case len(body) > maxAnswer:
		return nil, fmt.Errorf("the answer of %s has more than %d MiB", o.base, maxAnswer>>20)
	case response.StatusCode != http.StatusOK:
		return nil, refused(response, body)
	case !json.Valid(body):
		return nil, notOurs(response.Status)
	}
	now, err := http.ParseTime(response.Header.Get("Date"))
	if err != nil {
		now = time.Now()
	}
	return &answer{body, now}, nil
}

// unreached is an error of the way to the gateway.
func (o *operator) unreached(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if failed := (*url.Error)(nil); errors.As(err, &failed) {
		err = failed.Err // the rest is the URL
	}
	err = fmt.Errorf("no answer of the gateway at %s: %w", o.base, err)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return hinted{err, notRunning()}
	}
	if invalid := (x509.CertificateInvalidError{}); errors.As(err, &invalid) && invalid.Reason == x509.Expired {
		return hinted{err, "renew the certificate that tls.cert_file of the gateway names, or correct the clock of this machine"}
	}
	if late := net.Error(nil); errors.As(err, &late) && late.Timeout() {
		return hinted{err, "it may hang, or be overloaded: its log says more"}
	}
	if doubt := (*tls.CertificateVerificationError)(nil); errors.As(err, &doubt) {
		return hinted{err, "--url wants a name that its certificate is for, and SSL_CERT_FILE names a file of authorities to trust in place of the system's"}
	}
	return hinted{err, "--url says where it is; its log tells what comes to it"}
}

// notRunning is what to do about a gateway that nobody finds.
func notRunning() string {
	return "is it running? " + self() + " serve starts it, and --url says where it is"
}

// refused is what the API says why it did not do a thing.
func refused(response *http.Response, body []byte) error {
	var said struct {
		Error struct{ Message, Hint string }
	}
	if err := json.Unmarshal(body, &said); err != nil || said.Error.Message == "" {
		return notOurs(response.Status)
	}
	return hinted{errors.New(printable(said.Error.Message)), printable(said.Error.Hint)}
}

func notOurs(status string) error {
	return hinted{fmt.Errorf("what answers there (with %s) is no gateway of this version", status), "--url wants the address of mcpool serve, such as http://" + defaultListen}
}

// printable returns text that comes from elsewhere without what would steer a
// terminal, or have it show something else than is there: controls, and what turns
// lines around, breaks or hides them.
func printable(text string) string {
	return strings.Map(func(c rune) rune {
		if unicode.IsControl(c) || unicode.In(c, unicode.Cf, unicode.Zl, unicode.Zp) && c != zeroWidthJoiner {
			return ' '
		}
		return c
	}, text)
}

const zeroWidthJoiner = '\u200d' // of emoji

// indented is JSON for people.
func indented(body []byte) string {
	var out bytes.Buffer
	_ = json.Indent(&out, bytes.TrimSpace(body), "", "  ") // it is valid
	return out.String()
}
