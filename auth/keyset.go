package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	// setFresh is how old a set of keys may be before it is asked for again, and
	// setLife how old if it cannot be had: keys that were withdrawn are good for
	// that long at most.
	setFresh = time.Hour
	setLife  = 24 * time.Hour
	// setPause is the least time between two looks for a key that is not in the
	// set, so that tokens with made-up ids do not make an issuer busy;
	// setRetry that behind a failure.
	setPause = 30 * time.Second
	setRetry = 5 * time.Second
	// setWait bounds a look, discovery included.
	setWait = 10 * time.Second
	// maxDocument bounds what an issuer says, in bytes, and maxSetKeys its keys.
	maxDocument = 512 << 10
	maxSetKeys  = 100
)

// A keySet is the keys of an issuer, as it last told them.
type keySet struct {
	issuer, url string // url is "" where the issuer's metadata says it
	client      *http.Client
	log         *slog.Logger
	now         func() time.Time // time.Now, but in tests: sockets do not go with virtual time

	mu     sync.Mutex // guards what follows
	keys   []jose.JSONWebKey
	read   time.Time     // when keys were
	next   time.Time     // when the issuer may be asked again
	err    error         // of the last look; nil for none
	asking chan struct{} // closed when the look that is under way is over; nil for none
}

func newKeySet(issuer, url string, log *slog.Logger) *keySet {
	return &keySet{issuer: issuer, url: url, log: log, now: time.Now, client: &http.Client{
		// What an issuer's metadata names is its own; where a redirection leads is
		// up to whoever answers.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// get returns the keys that have an id, none if there is none; of a token
// without an id the one key there is. It asks the issuer where that may help,
// once for all who want it. It fails where no key of the issuer is known, and
// with the cause of ctx.
func (s *keySet) get(ctx context.Context, id string) ([]jose.JSONWebKey, error) {
	for asked := false; ; {
		s.mu.Lock()
		now := s.now()
		found, age := s.findLocked(id), now.Sub(s.read)
		usable := s.keys != nil && age < setLife
		asking, may := s.asking, !asked && now.After(s.next)
		switch {
		case usable && len(found) > 0 && (age < setFresh || asking != nil || !may),
			usable && len(found) == 0 && asking == nil && !may:
			s.mu.Unlock()
			return found, nil
		case asking != nil:
			s.mu.Unlock()
			select {
			case <-asking:
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		case !may:
			err := s.err
			s.mu.Unlock()
			return nil, err
		default:
			s.asking = make(chan struct{})
			s.mu.Unlock()
			s.ask(ctx)
			asked = true
		}
	}
}

func (s *keySet) findLocked(id string) []jose.JSONWebKey {
	if id == "" {
		if len(s.keys) == 1 {
			return s.keys
		}
		return nil
	}
	var found []jose.JSONWebKey
	for _, key := range s.keys {
		if key.KeyID == id {
			found = append(found, key)
		}
	}
	return found
}

// ask asks the issuer. It goes on when its caller does not: others wait for it.
func (s *keySet) ask(ctx context.Context) {
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), setWait, fmt.Errorf("no answer within %v", setWait))
	defer cancel()
	keys, err := s.fetch(ctx)
	if err != nil {
		err = fmt.Errorf("the keys of issuer %s: %w", s.issuer, err)
		s.log.Error("the keys of the issuer of tokens cannot be had", "error", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if s.err, s.next = err, now.Add(setRetry); err == nil {
		s.keys, s.read, s.next = keys, now, now.Add(setPause)
	}
	close(s.asking)
	s.asking = nil
}

func (s *keySet) fetch(ctx context.Context) ([]jose.JSONWebKey, error) {
	where := s.url
	if where == "" {
		var err error
		if where, err = s.discover(ctx); err != nil {
			return nil, err
		}
	}
	document, err := s.document(ctx, where)
	if err != nil {
		return nil, err
	}
	keys, err := readKeys(document)
	if err != nil {
		return nil, fmt.Errorf("%.200s: %w", where, err)
	}
	return keys, nil
}

// discover returns where the issuer says that its keys are. The places are
// those that MCP has clients look at (2025-11-25, authorization "Authorization
// Server Metadata Discovery").
func (s *keySet) discover(ctx context.Context) (string, error) {
	issuer, err := secureURL(s.issuer)
	if err != nil {
		return "", err
	}
	path := strings.TrimSuffix(issuer.Path, "/")
	origin := issuer.Scheme + "://" + issuer.Host
	places := []string{origin + "/.well-known/oauth-authorization-server" + path, origin + "/.well-known/openid-configuration" + path}
	if path != "" {
		places = append(places, origin+path+"/.well-known/openid-configuration")
	}
	var errs []error
	for _, place := range places {
		document, err := s.document(ctx, place)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		var says struct {
			Issuer  string `json:"issuer"`
			JWKSURI string `json:"jwks_uri"`
		}
		switch err := json.Unmarshal(document, &says); {
		case err != nil:
			return "", fmt.Errorf("%s: it is no metadata of an issuer", place)
		case says.Issuer != s.issuer: // RFC 8414, 3.3
			return "", fmt.Errorf("%s: it is that of issuer %.200q", place, says.Issuer)
		}
		if _, err := secureURL(says.JWKSURI); err != nil {
			return "", fmt.Errorf("%s: jwks_uri: %w", place, err)
		}
		return says.JWKSURI, nil
	}
	return "", errors.Join(errs...)
}

func (s *keySet) document(ctx context.Context, where string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, where, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json")
	response, err := s.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%.200s: HTTP %d", where, response.StatusCode)
	}
	document, err := io.ReadAll(io.LimitReader(response.Body, maxDocument+1))
	if err == nil && len(document) > maxDocument {
		err = fmt.Errorf("%.200s: more than %d KiB", where, maxDocument>>10)
	}
	return document, err
}

var errInsecure = errors.New("want an https URL, or http on this machine, without a user or a fragment")

// secureURL parses a URL that decides whom we trust (RFC 8414, 6.1).
func secureURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" {
		return nil, errInsecure
	}
	ip, err := netip.ParseAddr(u.Hostname())
	onThisMachine := u.Hostname() == "localhost" || err == nil && ip.IsLoopback()
	if u.Scheme != "https" && !(u.Scheme == "http" && onThisMachine) {
		return nil, errInsecure
	}
	return u, nil
}
