package config

import (
	"errors"
	"fmt"
	"strings"
)

// An Admin is who may see and steer the pools.
type Admin struct {
	// TokenFile is a file with the token that lets whoever shows it do so, see
	// admin.ParseToken; "" for none.
	TokenFile string
}

// adminSettings is what the names of an admin's settings begin with, but in the
// file's admin.
const adminSettings = "admin_"

var adminKeys = keys{
	read:    []string{"token_file"},
	ignored: []string{"_comment", "//"},
}

// Set changes the setting of a name, as that of [Gateway] does.
func (a *Admin) Set(name, value string) error {
	switch strings.TrimPrefix(name, adminSettings) {
	case "token_file":
		if value == "" {
			return errors.New("want a file")
		}
		a.TokenFile = value
	default:
		return fmt.Errorf("unknown setting%s", didYouMean(name, section{"admin", adminKeys.read}.names()))
	}
	return nil
}

// admin reads who may see and steer; n is nil where nothing says so.
func (r *reader) admin(n *node) (a Admin) {
	if n == nil {
		return a
	}
	for _, child := range r.mapping(n, adminKeys) {
		before := len(r.errs)
		value := r.path(child)
		if len(r.errs) > before {
			continue
		}
		if err := a.Set(child.key, value); err != nil {
			r.refuse(child, "%w", err)
		}
	}
	return a
}
