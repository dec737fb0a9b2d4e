package mysql

import (
	"strconv"
	"strings"
)

// A server is what answers on a connection.
type server struct {
	maria   bool
	version string
	numbers [3]int // of the version
}

// parseServer reads VERSION(). MariaDB says its name there, in some places
// behind the version of MySQL that it once pretended to be.
func parseServer(version string) server {
	s := server{version: version, maria: strings.Contains(version, "MariaDB")}
	numbers := version
	if s.maria {
		numbers = strings.TrimPrefix(numbers, "5.5.5-")
	}
	for i, part := range strings.SplitN(numbers, ".", 3) {
		digits := strings.IndexFunc(part, func(r rune) bool { return r < '0' || r > '9' })
		if digits < 0 {
			digits = len(part)
		}
		s.numbers[i], _ = strconv.Atoi(part[:digits])
	}
	return s
}

func (s server) atLeast(major, minor, patch int) bool {
	for i, n := range [...]int{major, minor, patch} {
		if s.numbers[i] != n {
			return s.numbers[i] > n
		}
	}
	return true
}

func (s server) engine() string {
	if s.maria {
		return "mariadb"
	}
	return "mysql"
}

// readOnly is the session variable that makes it read-only.
func (s server) readOnly() string {
	if s.maria || !s.atLeast(5, 7, 20) {
		return "tx_read_only"
	}
	return "transaction_read_only"
}
