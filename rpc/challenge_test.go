package rpc

import "testing"

func TestParamsOfAChallenge(t *testing.T) {
	for name, test := range map[string]struct {
		values      []string
		scope, meta string
	}{
		"none":            {nil, "", ""},
		"scheme alone":    {[]string{"Bearer"}, "", ""},
		"both":            {[]string{`Bearer resource_metadata="https://a/b?c=d,e", scope="x y"`}, "x y", "https://a/b?c=d,e"},
		"no commas":       {[]string{`Bearer scope="x" resource_metadata="m"`}, "x", "m"},
		"case and space":  {[]string{` bEARER  SCOPE = "x" ,Resource_Metadata= m`}, "x", "m"},
		"escapes":         {[]string{`Bearer error_description="say \"scope=no\", \\", scope="x"`}, "x", ""},
		"of another":      {[]string{`Basic realm="scope=1", scope="no"`}, "", ""},
		"after another":   {[]string{`Basic realm="a", Bearer scope="x"`}, "x", ""},
		"before another":  {[]string{`Bearer scope=x, DPoP scope="no", resource_metadata="no"`}, "x", ""},
		"after token68":   {[]string{`Negotiate YWJj/+==, Bearer scope="x"`}, "x", ""},
		"second header":   {[]string{`Basic realm="a"`, `Bearer scope="x"`}, "x", ""},
		"the first":       {[]string{`Bearer scope="x", scope="y"`, `Bearer scope="z"`}, "x", ""},
		"without its end": {[]string{`Bearer resource_metadata="m", scope="x`}, "", "m"},
		"ends in escape":  {[]string{`Bearer scope="x\`}, "", ""},
		"garbage":         {[]string{`"<>,;=,Bearer scope=x`, `,,,`, `=`, ``}, "x", ""},
	} {
		c := Challenge{WWWAuthenticate: test.values}
		if scope, meta := c.Param("scope"), c.Param("resource_metadata"); scope != test.scope || meta != test.meta {
			t.Errorf("%s: scope %q and metadata %q, want %q and %q", name, scope, meta, test.scope, test.meta)
		}
	}
}

func FuzzChallenge(f *testing.F) {
	f.Add(`Bearer scope="x", resource_metadata="m"`)
	f.Add(`Basic a=="\`)
	f.Fuzz(func(t *testing.T, value string) {
		if got := (Challenge{WWWAuthenticate: []string{value}}).Param("scope"); len(got) > len(value) {
			t.Errorf("%q of %q", got, value)
		}
	})
}
