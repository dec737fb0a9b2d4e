package mysql

import (
	"database/sql/driver"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

// A roleError says what an account may do that it should not.
type roleError struct{ account, why string }

func (e *roleError) Error() string { return fmt.Sprintf("the account %s %s", e.account, e.why) }

// reads are the privileges that change nothing; those with false show or run
// more than tables, and are warned of. All others, also those that are not known
// here, are more than reading.
var reads = map[string]bool{
	"USAGE": true, "SELECT": true, "SHOW VIEW": true, "SHOW DATABASES": true, "REFERENCES": true, "SHOW_ROUTINE": true,
	"SHOW CREATE ROUTINE": true,
	"EXECUTE":             false, "PROCESS": false, "LOCK TABLES": false, "CREATE TEMPORARY TABLES": false,
	"REPLICATION CLIENT": false, "BINLOG MONITOR": false, "SLAVE MONITOR": false, "REPLICA MONITOR": false,
}

var (
	grantOn   = regexp.MustCompile(`^GRANT (.+?) ON (.+?) TO (.+)$`)
	grantRole = regexp.MustCompile("^GRANT ((?:[`'\"][^ ]+(?:, ?)?)+) TO ")
	columns   = regexp.MustCompile(`\([^)]*\)`)
)

// checkRole reads what the account may do, with all roles that it may take.
func (c *conn) checkRole(allowUnsafe bool) error {
	var dangers, warnings, roles []string
	look := func(statement string) error {
		return c.query(statement, nil, func(row []driver.Value) error {
			grant := text(row[0])
			if m := grantRole.FindStringSubmatch(grant); m != nil {
				for role := range strings.SplitSeq(m[1], ",") {
					roles = append(roles, strings.TrimSpace(role))
				}
				return nil
			}
			danger, warning := judge(grant)
			dangers, warnings = append(dangers, danger...), append(warnings, warning...)
			return nil
		})
	}
	err := look("SHOW GRANTS")
	// Roles that roles have are shown with them.
	for _, role := range slices.Compact(slices.Sorted(slices.Values(roles))) {
		if err != nil {
			break
		}
		if !c.server.maria {
			err = look("SHOW GRANTS FOR CURRENT_USER() USING " + role)
		} else if err = c.exec("SET ROLE " + role); err == nil { // of others an account is not told
			err = look("SHOW GRANTS FOR CURRENT_ROLE")
		}
	}
	if err == nil && len(roles) > 0 {
		err = c.exec(c.setRole)
	}
	if err != nil {
		return fmt.Errorf("what the account may do cannot be found out: %w", err)
	}
	safe := engine.Check{Name: "the account may only read", OK: len(dangers) == 0}
	if !safe.OK {
		safe.Detail = "it has " + list(dangers)
	}
	c.checks = []engine.Check{safe}
	if len(warnings) > 0 {
		c.checks = append(c.checks, engine.Check{Name: "the account shows and runs nothing besides tables", Detail: "it has " + list(warnings)})
	}
	if !safe.OK && !allowUnsafe {
		return &roleError{c.account, "may do more than read: " + safe.Detail}
	}
	return nil
}

// judge says what of a grant is more than reading, and what is to be warned of.
func judge(grant string) (dangers, warnings []string) {
	m := grantOn.FindStringSubmatch(grant)
	if m == nil {
		if strings.HasPrefix(grant, "SET DEFAULT ROLE ") {
			return nil, nil
		}
		return []string{"a grant that is not understood"}, nil
	}
	for privilege := range strings.SplitSeq(columns.ReplaceAllString(m[1], ""), ",") {
		privilege = strings.TrimSpace(privilege)
		harmless, known := reads[privilege]
		switch {
		case !known:
			dangers = append(dangers, privilege+" on "+m[2])
		case !harmless:
			warnings = append(warnings, privilege+" on "+m[2])
		}
	}
	if strings.Contains(m[3], " GRANT OPTION") {
		dangers = append(dangers, "GRANT OPTION on "+m[2])
	}
	return dangers, warnings
}

func list(of []string) string {
	const most = 8
	if len(of) > most {
		return strings.Join(of[:most], ", ") + fmt.Sprintf(" and %d more", len(of)-most)
	}
	return strings.Join(of, ", ")
}

// SetupSQL returns the statements that make the account for reading one
// database, for an operator to run; its password is to be put in.
func SetupSQL(account, database string, connections int) string {
	name := "'" + strings.NewReplacer("'", "''", `\`, `\\`).Replace(account) + "'@'%'"
	// In the place of a database name _ and % are wildcards
	// (https://dev.mysql.com/doc/refman/8.4/en/grant.html, "Database Privileges").
	schema := quoteName(strings.NewReplacer("_", `\_`, "%", `\%`).Replace(database))
	return fmt.Sprintf(`-- An account that may read %[1]s and nothing else.
CREATE USER %[2]s IDENTIFIED BY 'change this password' WITH MAX_USER_CONNECTIONS %[3]d;
GRANT SELECT, SHOW VIEW ON %[1]s.* TO %[2]s;
`, schema, name, connections+2) // and two that end statements
}
