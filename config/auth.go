package config

import (
	"os"

	"github.com/mcpool-dev/mcpool"
)

// authKeys are those of a server's auth.
var authKeys = keys{
	read: []string{
		"bearer_env", "bearer_file",
		"client_id", "client_secret", "client_secret_file", "refresh_token_file", "scopes", "issuer",
	},
	ignored: []string{"_comment", "//"},
	refused: map[string]string{
		"refresh_token": "it is replaced by another now and then: write it to a file and give that as refresh_token_file",
	},
}

// auth returns how requests to a server are authorized, nil if it is wrong. A
// login trusts whom the server's entry trusts.
func (r *reader) auth(n *node, s *Server) mcpool.Auth {
	before := len(r.errs)
	var ways []mcpool.Auth
	login := mcpool.OAuth{CAFile: s.CAFile}
	oauth := false
	for _, child := range r.mapping(n, authKeys) {
		switch child.key {
		case "bearer_env":
			ways = append(ways, mcpool.BearerEnv(r.variable(child)))
			continue
		case "bearer_file":
			ways = append(ways, mcpool.BearerFile(r.path(child)))
			continue
		case "client_id":
			login.ClientID = r.text(child)
		case "client_secret":
			login.ClientSecret = r.text(child)
		case "client_secret_file":
			login.ClientSecretFile = r.path(child)
		case "refresh_token_file":
			login.RefreshTokenFile = r.path(child)
		case "scopes":
			login.Scopes = r.texts(child)
		case "issuer":
			login.Issuer = r.text(child)
		}
		oauth = true
	}
	if oauth {
		ways = append(ways, login)
	}
	if len(r.errs) > before {
		return nil
	}
	switch {
	case len(ways) != 1:
		r.refuse(n, "want one of bearer_env, bearer_file and client_id")
	case ways[0] == mcpool.Auth(mcpool.BearerFile("")):
		r.refuse(n, "want a file as bearer_file")
	case oauth && login.ClientID == "":
		r.refuse(n, "want a client_id")
	case oauth && login.ClientSecret != "" && login.ClientSecretFile != "":
		r.refuse(n, "has a client_secret and a client_secret_file: want one of them")
	case oauth && login.ClientSecret == "" && login.ClientSecretFile == "" && login.RefreshTokenFile == "":
		r.refuse(n, "want a client_secret, a client_secret_file or a refresh_token_file: nobody can be asked to log in")
	case s.URL == "":
		r.refuse(n, "goes with a url, not with a command")
	default:
		if _, err := ways[0].TokenSource(s.URL); err != nil {
			r.refuse(n, "%w", err)
		}
		return ways[0]
	}
	return nil
}

// variable returns the name of an environment variable that is set.
func (r *reader) variable(n *node) string {
	name := r.text(n)
	if os.Getenv(name) == "" {
		r.refuse(n, "environment variable %s is not set", name)
	}
	return name
}
