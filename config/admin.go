package config

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/mcpool-dev/mcpool"
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

// AdminSettingNames returns the names of the settings of an [Admin], as
// [GatewaySettingNames] does for a gateway.
func AdminSettingNames() []string { return prefixed(adminSettings, adminKeys) }

// Set changes the setting of a name that [AdminSettingNames] has, or says what
// its value may be.
func (a *Admin) Set(name, value string) error {
	switch strings.TrimPrefix(name, adminSettings) {
	case "token_file":
		if value == "" {
			return errors.New("want a file")
		}
		a.TokenFile = value
	default:
		return fmt.Errorf("unknown setting%s", didYouMean(name, AdminSettingNames()))
	}
	return nil
}

// admin reads who may see and steer: the file's admin (nil for none), changed by
// the environment, and that by flags.
func (r *reader) admin(n *node, flags map[string]string) Admin {
	var a Admin
	if n != nil {
		for _, child := range r.mapping(n, adminKeys) {
			before := len(r.errs)
			value := r.path(child)
			if len(r.errs) > before {
				continue
			}
			if err := a.Set(child.key, value); err != nil {
				r.refuse(child, "%w", err)
			}
			r.from("", adminSettings+child.key, r.at(child))
		}
	}
	for _, name := range AdminSettingNames() {
		variable := mcpool.EnvPrefix + strings.ToUpper(name)
		if value := os.Getenv(variable); value != "" {
			r.setAdmin(&a, name, value, variable)
		}
		if value, given := flags[name]; given {
			r.setAdmin(&a, name, value, "flag "+name)
		}
	}
	return a
}

// setAdmin changes a setting from outside of the file.
func (r *reader) setAdmin(a *Admin, name, value, source string) {
	if err := a.Set(name, value); err != nil {
		r.errs = append(r.errs, fmt.Errorf("%s is %q: %w", source, value, err))
	}
	r.from("", name, source)
}
