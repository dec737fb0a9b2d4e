package dbplugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/mcpool-dev/mcpool/rpc"
)

// arguments are those of a call, by what they are here. Those that are nil or
// empty are not sent.
type arguments map[string]any

// site returns the site for a database, which may be empty.
func (p *Plugin) site(ctx context.Context, database string) (site, error) {
	l, err := p.listing(ctx, nil)
	if err != nil {
		return site{}, err
	}
	return l.pick(p.options.Server, p.database(database))
}

// database is the one that is meant: that of a call, or that of the options.
func (p *Plugin) database(ofCall string) string {
	if ofCall != "" {
		return ofCall
	}
	return p.options.Database
}

// call calls the tool for an operation. Once, if the server does not know the
// tool any more, it lists the tools again and makes the call anew.
func (p *Plugin) call(ctx context.Context, o operation, database string, a arguments) (Answer, error) {
	l, err := p.listing(ctx, nil)
	for again := false; ; again = true {
		if err != nil {
			return Answer{}, err
		}
		var s site
		if s, err = l.pick(p.options.Server, p.database(database)); err != nil {
			return Answer{}, err
		}
		var answer Answer
		answer, err = p.callAt(ctx, s, o, database, a)
		if again || err == nil || p.tools.sites != nil || !isUnknownTool(err, o.tool(&s.Profile).Name) {
			return answer, err
		}
		if l, err = p.listing(ctx, l); err != nil {
			return Answer{}, err
		}
	}
}

func (p *Plugin) callAt(ctx context.Context, s site, o operation, database string, a arguments) (Answer, error) {
	tool := o.tool(&s.Profile)
	if tool.Name == "" {
		return Answer{}, s.unsupported(o.name)
	}
	sent, err := tool.send(a)
	if err != nil {
		return Answer{}, fmt.Errorf("dbplugin: %s: %w", s.Name, err)
	}
	if d := p.database(database); d != "" && s.id == "" {
		switch {
		case tool.has("database"):
			sent[tool.Arguments["database"]] = d
		case o.name != fetchRows.name: // its handle says of which it is
			return Answer{}, fmt.Errorf("dbplugin: %s: its tool %s takes no database: %w", s.Name, tool.Name, ErrUnsupported)
		}
	}
	params, err := json.Marshal(map[string]any{"name": tool.Name, "arguments": sent})
	if err != nil {
		return Answer{}, fmt.Errorf("dbplugin: arguments of %s: %w", tool.Name, err)
	}
	got, err := p.handler.Do(ctx, rpc.Call{Method: "tools/call", Params: params, Caller: p.options.Caller})
	if err != nil {
		return Answer{}, fmt.Errorf("dbplugin: %s: %w", tool.Name, err)
	}
	return readAnswer(s, tool.Name, got.Bytes())
}

// send returns arguments as the server calls them.
func (t *Tool) send(a arguments) (map[string]any, error) {
	sent := map[string]any{}
	for name, value := range t.Fixed {
		sent[name] = value
	}
	for ours, value := range a {
		if value == nil || value == "" {
			continue
		}
		if ours == "params" {
			encoded, err := json.Marshal(value)
			if err != nil {
				return nil, fmt.Errorf("params: %w", err)
			}
			if value = json.RawMessage(encoded); string(encoded) == "null" { // a nil slice or map
				continue
			}
		}
		theirs, ok := t.Arguments[ours]
		switch {
		case ok:
			sent[theirs] = value
		case ours != "limit": // which is kept here
			return nil, fmt.Errorf("its tool %s takes no %s: %w", t.Name, ours, ErrUnsupported)
		}
	}
	return sent, nil
}

// isUnknownTool reports whether a server says that it has no such tool. There
// is no code for it: specification and SDKs say invalid params, an internal
// error or a result that is an error, each in words of its own.
func isUnknownTool(err error, tool string) bool {
	var refused *rpc.Error
	var failed *ToolError
	said := ""
	switch {
	case errors.As(err, &refused):
		if said = refused.Message; refused.Code == rpc.CodeMethodNotFound {
			return true
		}
	case errors.As(err, &failed):
		said = failed.Text
	}
	said = quotes.Replace(strings.ToLower(said))
	tool = strings.ToLower(tool)
	_, own, prefixed := strings.Cut(tool, "__") // the server itself does not know its name at a gateway
	for _, words := range []string{"unknown tool *", "tool * not found", "tool * does not exist", "tool with name * does not exist", "no such tool *"} {
		before, after, _ := strings.Cut(words, "*")
		if strings.Contains(said, before+tool+after) || prefixed && strings.Contains(said, before+own+after) {
			return true
		}
	}
	return false
}

// quotes takes away what stands around names.
var quotes = strings.NewReplacer(`"`, "", "'", "", "`", "", ":", "")
