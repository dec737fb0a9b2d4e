package engine

import (
	"fmt"
	"slices"
	"testing"
)

func TestPolicyReadable(t *testing.T) {
	for _, c := range []struct {
		policy Policy
		name   Name
		want   bool
	}{
		{Policy{}, Name{"dbo", "users"}, true},
		{Policy{Schemas: []string{"sales", "web*"}}, Name{"Sales", "users"}, true},
		{Policy{Schemas: []string{"sales", "web*"}}, Name{"web_2", "users"}, true},
		{Policy{Schemas: []string{"sales"}}, Name{"dbo", "users"}, false},
		{Policy{Schemas: []string{"sales"}}, Name{"", "users"}, false},
		{Policy{DenyTables: []string{"users"}}, Name{"dbo", "Users"}, false},
		{Policy{DenyTables: []string{"users"}}, Name{"", "users"}, false},
		{Policy{DenyTables: []string{"dbo.users"}}, Name{"dbo", "users"}, false},
		{Policy{DenyTables: []string{"dbo.users"}}, Name{"sales", "users"}, true},
		{Policy{DenyTables: []string{"*.users"}}, Name{"sales", "users"}, false},
		{Policy{DenyTables: []string{"secret_*"}}, Name{"dbo", "secret_x"}, false},
		{Policy{DenyTables: []string{"use?s"}}, Name{"dbo", "users"}, false},
		{Policy{DenyTables: []string{"dbo*"}}, Name{"dbo", "users"}, true}, // * stands for no dot
		{Policy{DenyTables: []string{"a/b"}}, Name{"dbo", "a/b"}, false},
		{Policy{DenyTables: []string{"a*b"}}, Name{"dbo", "a/b"}, false}, // a slash is a character like others
	} {
		if got := c.policy.Readable(c.name); got != c.want {
			t.Errorf("%+v of %s: got %t", c.policy, c.name, got)
		}
	}
}

func TestPolicyMaskOf(t *testing.T) {
	p := Policy{Masks: []Mask{
		{Columns: []string{"ssn", "users.email"}, With: WithNull},
		{Columns: []string{"dbo.*.e*"}, With: WithPartial},
		{Columns: []string{"*.*.token"}, With: WithRefuse},
	}}
	for _, c := range []struct {
		name   Name
		column string
		want   With
	}{
		{Name{"dbo", "users"}, "SSN", WithNull}, {Name{"", "any"}, "ssn", WithNull},
		{Name{"sales", "Users"}, "Email", WithNull}, {Name{"sales", "orders"}, "email", ""},
		{Name{"dbo", "orders"}, "email", WithPartial}, {Name{"dbo", "users"}, "email", WithNull}, // the first counts
		{Name{"dbo", "users"}, "my.ssn", ""}, {Name{"dbo", "x"}, "token", WithRefuse}, {Name{"", "x"}, "token", WithRefuse},
		{Name{"dbo", "users"}, "name", ""},
	} {
		if got := p.MaskOf(c.name, c.column); got != c.want {
			t.Errorf("%s.%s: got %q, want %q", c.name, c.column, got, c.want)
		}
	}
	if !p.Masking() || !p.Restricts() || (&Policy{}).Restricts() || (&Policy{Functions: []string{"f"}}).Restricts() {
		t.Error("what restricts is not told")
	}
}

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"", "users", true}, {"SER", "users", true}, {"use*", "Users", true}, {"use", "orders", false}, {"*er", "users", false}, {"u?ers", "users", true},
	} {
		if got := Matches(c.pattern, c.name); got != c.want {
			t.Errorf("%s of %s: got %t", c.pattern, c.name, got)
		}
	}
}

func TestPositionAt(t *testing.T) {
	for _, c := range []struct {
		sql    string
		offset int
		want   string
	}{
		{"SELECT x", 1, "1:1"}, {"SELECT x", 8, "1:8"}, {"äö\nx y", 2, "1:2"}, {"äö\nx y", 3, "1:3"}, {"äö\nx y", 4, "2:1"}, {"äö\nx y", 6, "2:3"},
		{"a\r\n\r\nb", 6, "3:1"}, {"🎉x", 2, "1:2"}, {"SELECT", 7, "1:7"}, {"a\n", 3, "2:1"}, {"", 1, "1:1"},
		{"SELECT", 8, "none"}, {"", 2, "none"}, {"SELECT", 0, "none"}, {"SELECT", -1, "none"},
	} {
		got := "none"
		if p := PositionAt(c.sql, c.offset); p != nil {
			got = fmt.Sprintf("%d:%d", p.Line, p.Column)
		}
		if got != c.want {
			t.Errorf("%q at %d: got %s, want %s", c.sql, c.offset, got, c.want)
		}
	}
}

func TestNear(t *testing.T) {
	names := []string{"users", "user_roles", "orders", "order_items", "invoices", "Us"}
	for name, want := range map[string][]string{
		"usres": {"users"}, "USERS": {"users"}, "order": {"orders", "order_items"}, "xyzzy": nil, "us": {"Us"}, "": nil,
		"invoices_2024": {"invoices"},
	} {
		got := Near(name, names)
		if name == "order" { // both contain it
			slices.Sort(got)
			slices.Sort(want)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if got := Near("abc", []string{"abd", "abe", "abf", "abg"}); len(got) != maxNear {
		t.Errorf("got %q", got)
	}
}
