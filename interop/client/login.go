package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
	"golang.org/x/oauth2"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/rpc"
)

// callback is where the suite's authorization servers send the user back to,
// and metadata the document that some of them know the client by. Nobody
// listens at either.
const (
	callback = "http://localhost:3000/callback"
	metadata = "https://conformance-test.local/client-metadata.json"
)

// logIn gives the server the tokens that a scenario is about: by client
// credentials where it names those, which the pool can do alone, otherwise by
// authorization code, for which the Go SDK has a handler.
func logIn(to *mcpool.Server, scenario string) error {
	var told struct {
		ID     string `json:"client_id"`
		Secret string `json:"client_secret"`
	}
	if given := os.Getenv("MCP_CONFORMANCE_CONTEXT"); given != "" {
		if err := json.Unmarshal([]byte(given), &told); err != nil {
			return fmt.Errorf("the context of the scenario: %w", err)
		}
	}
	if strings.HasPrefix(scenario, "auth/client-credentials-") {
		to.Auth = mcpool.OAuth{ClientID: told.ID, ClientSecret: told.Secret}
		return nil
	}
	config := &auth.AuthorizationCodeHandlerConfig{
		RedirectURL:                    callback,
		AuthorizationCodeFetcher:       authorize,
		ClientIDMetadataDocumentConfig: &auth.ClientIDMetadataDocumentConfig{URL: metadata},
		DynamicClientRegistrationConfig: &auth.DynamicClientRegistrationConfig{
			Metadata: &oauthex.ClientRegistrationMetadata{RedirectURIs: []string{callback}},
		},
	}
	if told.ID != "" && told.Secret != "" {
		config.PreregisteredClient = &oauthex.ClientCredentials{
			ClientID: told.ID, ClientSecretAuth: &oauthex.ClientSecretAuth{ClientSecret: told.Secret},
		}
	}
	handler, err := auth.NewAuthorizationCodeHandler(config)
	if err != nil {
		return err
	}
	source := &handlerSource{handler, to.URL}
	to.Tokens = func(string) rpc.TokenSource { return source }
	return nil
}

// authorize is the user, who agrees at once: the authorization server answers
// with the redirect that a browser would follow.
func authorize(ctx context.Context, args *auth.AuthorizationArgs) (*auth.AuthorizationResult, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, args.URL, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	back, err := url.Parse(response.Header.Get("Location"))
	if err != nil {
		return nil, err
	}
	said := back.Query()
	return &auth.AuthorizationResult{Code: said.Get("code"), State: said.Get("state"), Iss: said.Get("iss")}, nil
}

// A handlerSource makes a token source of an OAuthHandler of the Go SDK, for
// the server at a URL.
type handlerSource struct {
	handler auth.OAuthHandler
	url     string
}

// Token implements [rpc.TokenSource].
func (s *handlerSource) Token() (*oauth2.Token, error) {
	source, err := s.handler.TokenSource(context.Background())
	if source == nil || err != nil {
		return nil, err
	}
	return source.Token()
}

// TokenFor implements [rpc.ChallengeSource].
func (s *handlerSource) TokenFor(c rpc.Challenge) (*oauth2.Token, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, nil)
	if err != nil {
		return nil, err
	}
	err = s.handler.Authorize(ctx, request, &http.Response{
		StatusCode: c.Status,
		Header:     http.Header{http.CanonicalHeaderKey("WWW-Authenticate"): c.WWWAuthenticate},
		Body:       http.NoBody,
		Request:    request,
	})
	if err != nil {
		return nil, err
	}
	return s.Token()
}
