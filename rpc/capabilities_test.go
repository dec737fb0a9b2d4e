package rpc

import "testing"

func TestCapabilities(t *testing.T) {
	for raw, want := range map[string]Capabilities{
		`{}`:                                     {},
		`{"roots":{}}`:                           {Roots: true},
		`{"sampling":{}}`:                        {Sampling: true},
		`{"sampling":{"tools":{}}}`:              {Sampling: true, SamplingTools: true},
		`{"sampling":{"context":{},"tools":{}}}`: {Sampling: true, SamplingTools: true, SamplingContext: true},
		`{"elicitation":{}}`:                     {Elicitation: true},
		`{"elicitation":{"url":{}}}`:             {ElicitationURL: true},
		`{"elicitation":{"form":{},"url":{}}}`:   {Elicitation: true, ElicitationURL: true},
		`{"elicitation":{},"roots":{},"sampling":{"context":{}}}`: {Roots: true, Sampling: true, SamplingContext: true, Elicitation: true},
	} {
		if got := ReadCapabilities([]byte(raw)); got != want {
			t.Errorf("%s is read as %+v", raw, got)
		}
		if got := string(want.JSON()); got != raw {
			t.Errorf("%+v is written as %s, want %s", want, got, raw)
		}
	}
}

func TestReadCapabilities(t *testing.T) {
	for raw, want := range map[string]Capabilities{
		"":     {},
		"null": {},
		"7":    {},
		"{":    {},
		`{"roots":{"listChanged":true},"experimental":{},"Sampling":{}}`: {Roots: true},
		`{"roots":null,"sampling":true,"elicitation":{"form":{}}}`:       {Elicitation: true},
		`{"sampling":{"tools":true,"context":null}}`:                     {Sampling: true},
		`{"elicitation":{"form":{"applyDefaults":true}}}`:                {Elicitation: true},
		`{"elicitation":{"applyDefaults":true}}`:                         {Elicitation: true},
		`{"elicitation":{"url":null}}`:                                   {Elicitation: true},
	} {
		if got := ReadCapabilities([]byte(raw)); got != want {
			t.Errorf("%s is read as %+v, want %+v", raw, got, want)
		}
	}
}
