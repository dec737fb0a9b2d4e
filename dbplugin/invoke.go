package dbplugin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Invoke calls the function with the arguments that a model gave and returns
// the text to give back to it. Empty arguments count as {}. Of servers whose
// answers are not written for models, rows and lists of tables are told as
// tab-separated text. No text has more than 100,000 bytes.
//
// What the model can put right comes back as text too, with a nil error: that
// the arguments do not fit Parameters, that the server has no such thing, and
// what the tool says of its failure, such as of SQL that does not compile. An
// error means that there was no answer: ctx ended, the server could not be
// reached, or refused the call.
func (f Function) Invoke(ctx context.Context, arguments json.RawMessage) (string, error) {
	var a functionArguments
	if err := f.readArguments(arguments, &a); err != nil {
		return fmt.Sprintf("INVALID_ARGUMENT: %s: %v\nNext: call %[1]s again with arguments that fit %s", f.Name, err, f.Parameters), nil
	}
	text, err := f.call(ctx, a)
	var failed *ToolError
	switch {
	case errors.As(err, &failed):
		if text = failed.Text; text == "" || failed.Code != "" && !strings.Contains(text, failed.Code) {
			text = strings.TrimPrefix(failed.Code+": "+failed.Message, ": ")
		}
	case errors.Is(err, ErrUnsupported):
		text = err.Error()
	case err != nil:
		return "", err
	}
	return short(text), nil
}

func (f Function) readArguments(raw json.RawMessage, a *functionArguments) error {
	if len(raw) == 0 || string(raw) == "null" {
		raw = json.RawMessage("{}")
	}
	var value any
	if err := json.Unmarshal(raw, &value); err != nil {
		return fmt.Errorf("the arguments are not JSON: %w", err)
	}
	if _, ok := value.(map[string]any); !ok {
		return errors.New("the arguments are not an object")
	}
	if err := f.schema.Validate(value); err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "validating root: "))
	}
	return json.Unmarshal(raw, a)
}

// maxText is the most bytes of a text for a model, a quarter as many tokens:
// more than any answer that mcpool gives, and no more than a context can spare.
const maxText = 100_000

// short returns a text without what costs tokens and says nothing, cut at
// maxText.
func short(text string) string {
	if trimmed := strings.TrimSpace(text); isJSON(trimmed) {
		var b bytes.Buffer
		if json.Compact(&b, []byte(trimmed)) == nil {
			text = b.String()
		}
	}
	if len(text) <= maxText {
		return text
	}
	cut := maxText - 100
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return fmt.Sprintf("%s…\nNotice: cut, these are %d of %d bytes: ask for less", text[:cut], cut, len(text))
}

func (p *Plugin) listForModel(ctx context.Context, a functionArguments) (string, error) {
	list, err := p.tableList(ctx, a.Database, ListOptions{})
	return list.forModel(err, list.tsv)
}

func (p *Plugin) describeForModel(ctx context.Context, a functionArguments) (string, error) {
	d, err := p.describe(ctx, a.Database, a.TableName)
	return d.forModel(err, func() string { return d.Text })
}

func (p *Plugin) readForModel(ctx context.Context, a functionArguments) (string, error) {
	r, err := p.readData(ctx, a.Database, a.Query, ReadOptions{Limit: int(a.Limit), Params: a.params()})
	return r.forModel(err)
}

func (p *Plugin) fetchForModel(ctx context.Context, a functionArguments) (string, error) {
	r, err := p.FetchRows(ctx, a.Handle, int(a.Limit))
	return r.forModel(err)
}

func (p *Plugin) explainForModel(ctx context.Context, a functionArguments) (string, error) {
	answer, err := p.call(ctx, explainQuery, a.Database, arguments{"query": a.Query, "params": a.params()})
	return answer.Text, err
}

func (p *Plugin) infoForModel(ctx context.Context, a functionArguments) (string, error) {
	answer, err := p.call(ctx, databaseInfo, a.Database, nil)
	return answer.Text, err
}

func (p *Plugin) writeForModel(ctx context.Context, a functionArguments) (string, error) {
	answer, err := p.call(ctx, writeData, a.Database, arguments{"query": a.Query, "params": a.params(), "token": a.Token})
	return answer.Text, err
}

// forModel returns what to tell a model: the text of the server, if it is
// written for models or could not be read, and what was read from it otherwise.
func (a *Answer) forModel(err error, rendered func() string) (string, error) {
	var form *formError
	switch {
	case errors.As(err, &form), err == nil && a.from.site.told:
		return a.Text, nil
	case err != nil:
		return "", err
	}
	return rendered(), nil
}

// forModel is that of Answer, but that rows which were left out here are in
// the server's text, too.
func (r *ResultSet) forModel(err error) (string, error) {
	if err == nil && r.cutHere {
		return r.tsv(), nil
	}
	return r.Answer.forModel(err, r.tsv)
}
