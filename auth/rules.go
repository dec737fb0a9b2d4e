package auth

import (
	"errors"
	"fmt"
	"math"
	"path"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// A Rule is what some principals may do. In its patterns * stands for any
// text, as in [path.Match], but for "/" also.
type Rule struct {
	// Principals is the pattern of their names.
	Principals string
	// Allow and Deny are patterns of the names of servers. What Deny matches
	// is not there for them, and where Allow has any, only what one of them
	// matches is.
	Allow, Deny []string
	// AllowTools and DenyTools are those of SERVER__TOOL: of tools, with the
	// name of their server whether clients see it or not.
	AllowTools, DenyTools []string
	// Rate is how many requests each of them may make in a second, in the long
	// run; 0 for any number. Burst is how many at once; 0 for those of one
	// second, and one at least.
	Rate  float64
	Burst int
	// MaxCalls bounds the calls of each under way; 0 for the gateway's own bound.
	MaxCalls int
}

func (r *Rule) check() error {
	switch {
	case r.Principals == "":
		return errors.New("the name of a principal is empty")
	case r.Rate < 0 || math.IsNaN(r.Rate) || math.IsInf(r.Rate, 0):
		return errors.New("rate: want requests per second, or 0 for any number")
	case r.Burst < 0, r.Burst > 0 && r.Rate == 0:
		return errors.New("burst: want a positive number, with a rate")
	case r.MaxCalls < 0:
		return errors.New("max_calls: want a positive number, or 0 for the gateway's")
	}
	tools := [][]string{r.AllowTools, r.DenyTools}
	for _, patterns := range append(tools, []string{r.Principals}, r.Allow, r.Deny) {
		for _, pattern := range patterns {
			if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
				return fmt.Errorf("the pattern %q: want a name, in which * stands for any text", pattern)
			}
		}
	}
	for _, patterns := range tools {
		for _, pattern := range patterns {
			if !strings.Contains(pattern, separator) && !strings.Contains(pattern, "*") {
				return fmt.Errorf("the pattern %q of tools matches none: want SERVER%sTOOL, such as *%s%s", pattern, separator, separator, pattern)
			}
		}
	}
	return nil
}

// separator is what package gateway has between the names of a server and a
// tool, and a name of neither can be mistaken there.
const separator = "__"

// Rights are what one principal may do.
type Rights struct {
	rule    *Rule
	limiter *rate.Limiter // nil for none
}

// Serves reports whether a server is there for the principal.
func (r *Rights) Serves(server string) bool {
	return passes(r.rule.Allow, r.rule.Deny, server)
}

// Offers reports whether a tool of a server is.
func (r *Rights) Offers(server, tool string) bool {
	return r.Serves(server) && passes(r.rule.AllowTools, r.rule.DenyTools, server+separator+tool)
}

// MaxCalls is that of its [Rule].
func (r *Rights) MaxCalls() int { return r.rule.MaxCalls }

// Wait counts a request of the principal and returns 0; or, if it has made too
// many, does not count it and returns when one may be made.
func (r *Rights) Wait() time.Duration {
	if r.limiter == nil {
		return 0
	}
	turn := r.limiter.Reserve()
	wait := turn.Delay()
	if wait > 0 {
		turn.Cancel()
	}
	return wait
}

func passes(allow, deny []string, name string) bool {
	return !matches(deny, name) && (len(allow) == 0 || matches(allow, name))
}

func matches(patterns []string, name string) bool {
	for _, pattern := range patterns {
		if match(pattern, name) {
			return true
		}
	}
	return false
}

// noSlash takes the meaning from "/", which path.Match has no * match: an
// issuer's URL has some, and so may the name of a tool.
var noSlash = strings.NewReplacer("/", "\x00")

func match(pattern, name string) bool {
	ok, _ := path.Match(noSlash.Replace(pattern), noSlash.Replace(name)) // the patterns were checked
	return ok
}

// sweepFrom is how many accounts there are before those that are as new are
// forgotten.
const sweepFrom = 4096

// accounts are the rights of principals that have called, as far as there is
// something to remember of them.
type accounts struct {
	rules []Rule

	mu    sync.Mutex // guards what follows
	of    map[string]*Rights
	sweep int // how many there may be before the next look for such to forget
}

func newAccounts(rules []Rule) (*accounts, error) {
	for i := range rules {
		if err := rules[i].check(); err != nil {
			return nil, fmt.Errorf("the rule for %s: %w", rules[i].Principals, err)
		}
	}
	return &accounts{rules: rules, of: map[string]*Rights{}, sweep: sweepFrom}, nil
}

// Rights returns what a principal may do, nil for everything.
func (a *Authenticator) Rights(principal string) *Rights {
	if len(a.accounts.rules) == 0 {
		return nil
	}
	return a.accounts.get(principal)
}

func (s *accounts) get(principal string) *Rights {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, known := s.of[principal]; known {
		return r
	}
	if len(s.of) >= s.sweep {
		s.forgetLocked()
	}
	r := rightsOf(principal, s.rules)
	s.of[principal] = r
	return r
}

// forgetLocked drops those that would be the same if they came for the first
// time. Each principal that is here has shown credentials that are good.
func (s *accounts) forgetLocked() {
	for name, r := range s.of {
		if r == nil || r.limiter == nil || r.limiter.Tokens() >= float64(r.limiter.Burst()) {
			delete(s.of, name)
		}
	}
	s.sweep = max(sweepFrom, 2*len(s.of))
}

func rightsOf(principal string, rules []Rule) *Rights {
	for i := range rules {
		rule := &rules[i]
		if !match(rule.Principals, principal) {
			continue
		}
		r := &Rights{rule: rule}
		if rule.Rate > 0 {
			burst := rule.Burst
			if burst == 0 {
				burst = int(max(1, math.Ceil(min(rule.Rate, math.MaxInt32))))
			}
			r.limiter = rate.NewLimiter(rate.Limit(rule.Rate), burst)
		}
		return r
	}
	return nil
}
