package rpc

import (
	"strings"
	"testing"
)

func TestReadTrace(t *testing.T) {
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for name, test := range map[string]struct {
		parent, state, baggage string
		want                   *Trace
	}{
		"nothing":         {"", "", "", nil},
		"all":             {parent, "a=b", "c=d", &Trace{parent, "a=b", "c=d"}},
		"baggage alone":   {"", "", "c=d", &Trace{Baggage: "c=d"}},
		"state alone":     {"", "a=b", "", nil},
		"another version": {"01" + parent[2:], "a=b", "", nil},
		"too long":        {parent + "0", "", "", nil},
		"upper case":      {strings.ToUpper(parent), "", "", nil},
		"no trace":        {"00-" + strings.Repeat("0", 32) + "-00f067aa0ba902b7-01", "", "", nil},
		"no span":         {parent[:36] + strings.Repeat("0", 16) + "-01", "", "", nil},
		"a line break":    {parent, "a=b\r\nX: y", "c=d\nX: y", &Trace{Parent: parent}},
		"no ASCII":        {parent, "a=ä", "c=ä", &Trace{Parent: parent}},
		"a long state":    {parent, strings.Repeat("a", 513), "", &Trace{Parent: parent}},
		"a long baggage":  {parent, "", strings.Repeat("a", 8193), &Trace{Parent: parent}},
		"the longest":     {parent, strings.Repeat("a", 512), strings.Repeat("a", 8192), &Trace{parent, strings.Repeat("a", 512), strings.Repeat("a", 8192)}},
	} {
		got := ReadTrace(test.parent, test.state, test.baggage)
		if (got == nil) != (test.want == nil) || got != nil && *got != *test.want {
			t.Errorf("%s: got %+v, want %+v", name, got, test.want)
		}
	}
}
