package dbplugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/mcpool-dev/mcpool/rpc"
)

// ErrUnsupported says that the server has no tool for what was asked, or one
// that does not take it.
var ErrUnsupported = errors.New("not supported by this server")

// A site is a server, or one of its databases where it has tools for each of
// them.
type site struct {
	server string // what stands before __ in the names of its tools
	id     string // what stands behind _ in them
	Profile
}

// A catalog is what is known of the tools of a handler.
type catalog struct {
	turn  chan struct{} // who has it lists the tools
	sites []site        // fixed; nil if they are found out
	found atomic.Pointer[listing]
}

// A listing is what one list of tools says.
type listing struct {
	sites []site
	tools []string // names of all
}

func newCatalog() catalog { return catalog{turn: make(chan struct{}, 1)} }

// listing returns what is known, and asks for it first if that is nothing, or
// no more than stale. One caller asks for all.
func (p *Plugin) listing(ctx context.Context, stale *listing) (*listing, error) {
	if p.tools.sites != nil {
		return &listing{sites: p.tools.sites}, nil
	}
	if l := p.tools.found.Load(); l != stale {
		return l, nil
	}
	select {
	case p.tools.turn <- struct{}{}:
		defer func() { <-p.tools.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if l := p.tools.found.Load(); l != stale {
		return l, nil
	}
	tools, err := p.listTools(ctx)
	if err != nil {
		return nil, fmt.Errorf("dbplugin: tools/list: %w", err)
	}
	l := newListing(tools)
	p.tools.found.Store(l)
	return l, nil
}

// A listedTool is a tool as the server lists it.
type listedTool struct {
	Name        string `json:"name"`
	InputSchema struct {
		Properties map[string]json.RawMessage `json:"properties"`
		Required   []string                   `json:"required"`
	} `json:"inputSchema"`
	Annotations struct {
		ReadOnlyHint bool `json:"readOnlyHint"`
	} `json:"annotations"`
}

// listPages bounds how many pages of a list are followed: a server whose
// cursors never end must not hold its caller for ever.
const listPages = 1000

func (p *Plugin) listTools(ctx context.Context) ([]listedTool, error) {
	var tools []listedTool
	var params json.RawMessage
	for range listPages {
		answer, err := p.handler.Do(ctx, rpc.Call{Method: "tools/list", Params: params, Caller: p.options.Caller})
		if err != nil {
			return nil, err
		}
		var page struct {
			Tools      []listedTool `json:"tools"`
			NextCursor *string      `json:"nextCursor"`
		}
		if err := json.Unmarshal(answer.Bytes(), &page); err != nil {
			return nil, err
		}
		tools = append(tools, page.Tools...)
		if page.NextCursor == nil {
			return tools, nil
		}
		if params, err = json.Marshal(map[string]string{"cursor": *page.NextCursor}); err != nil {
			return nil, err
		}
	}
	return nil, errors.New("the list does not end")
}

// newListing finds the database servers in a list of tools.
func newListing(tools []listedTool) *listing {
	l := &listing{}
	var servers []string
	named := map[string]map[string]listedTool{} // by server, then by the server's own name
	for _, t := range tools {
		l.tools = append(l.tools, t.Name)
		server, own := "", t.Name
		if i := strings.LastIndex(t.Name, "__"); i > 0 {
			server, own = t.Name[:i], t.Name[i+2:]
		}
		if named[server] == nil {
			named[server] = map[string]listedTool{}
			servers = append(servers, server)
		}
		named[server][own] = t
	}
	for _, server := range servers {
		l.sites = append(l.sites, sites(server, named[server])...)
	}
	return l
}

// sites returns the site that the tools of a server are, or one for each
// database where its tools end with their ids.
func sites(server string, tools map[string]listedTool) (found []site) {
	for _, known := range profiles {
		if s, ok := fit(known.Profile, known.mark, tools); ok {
			s.server = server
			return []site{s}
		}
		if !known.suffix {
			continue
		}
		for name := range tools {
			id, ok := strings.CutPrefix(name, known.mark+"_")
			if !ok {
				continue
			}
			own := map[string]listedTool{}
			for name, t := range tools {
				if name, ok := strings.CutSuffix(name, "_"+id); ok {
					own[name] = t
				}
			}
			if s, ok := fit(known.Profile, known.mark, own); ok {
				s.server, s.id = server, id
				found = append(found, s)
			}
		}
		if found != nil {
			slices.SortFunc(found, func(a, b site) int { return strings.Compare(a.id, b.id) })
			return found
		}
	}
	return nil
}

// fit returns a profile with the tools and arguments that the server has of
// it, and false if those are not the server's.
func fit(profile Profile, mark string, tools map[string]listedTool) (site, bool) {
	if _, ok := tools[mark]; !ok {
		return site{}, false
	}
	s := site{Profile: profile}
	for _, o := range operations {
		t := o.tool(&s.Profile)
		listed, ok := tools[t.Name]
		if ok {
			*t = t.as(listed)
			ok = o.served(t) && !slices.ContainsFunc(listed.InputSchema.Required, t.unknown)
		}
		if !ok {
			*t = Tool{}
		}
	}
	return s, s.ReadData.Name != ""
}

// as is a tool as the server lists it. Of one whose schema names no arguments
// only what its operation needs is taken to be there.
func (t Tool) as(listed listedTool) Tool {
	has, mustHave := listed.InputSchema.Properties, listed.InputSchema.Required
	fitted := Tool{Name: listed.Name, Arguments: map[string]string{}, Fixed: map[string]any{}, readOnly: listed.Annotations.ReadOnlyHint}
	for ours, theirs := range t.Arguments {
		for one := range strings.SplitSeq(theirs, "|") {
			_, ok := has[one]
			if ok || len(has) == 0 && slices.Contains([]string{"query", "table_name", "handle", "token"}, ours) {
				fitted.Arguments[ours] = one
				if slices.Contains(mustHave, one) {
					fitted.required = append(fitted.required, ours)
				}
				break
			}
		}
	}
	for name, value := range t.Fixed {
		if _, ok := has[name]; ok {
			fitted.Fixed[name] = value
		}
	}
	if raw, ok := has[fitted.Arguments["database"]]; ok {
		var schema struct {
			Enum []string `json:"enum"`
		}
		_ = json.Unmarshal(raw, &schema) // one in another form names no choices
		fitted.choices = schema.Enum
	}
	return fitted
}

// unknown reports whether nothing is sent for one of the server's arguments.
func (t Tool) unknown(theirs string) bool {
	if _, ok := t.Fixed[theirs]; ok {
		return false
	}
	for _, name := range t.Arguments {
		if name == theirs {
			return false
		}
	}
	return true
}

// pick returns the site for the server that is meant and a database, which may
// be empty.
func (l *listing) pick(server, database string) (site, error) {
	all, err := l.of(server)
	if err != nil {
		return site{}, err
	}
	var ids []string
	for _, s := range all {
		if s.id == "" || database != "" && s.id == asID(database) || len(all) == 1 && database == "" {
			return s, nil
		}
		ids = append(ids, s.id)
	}
	return site{}, fmt.Errorf("dbplugin: %s has the databases %s: Options.Database has to be one of them, it is %q", all[0].Name, strings.Join(ids, ", "), database)
}

// of returns the sites of the server that is meant: one, or one for each of its
// databases.
func (l *listing) of(server string) ([]site, error) {
	var all []site
	var names []string
	for _, s := range l.sites {
		if server == "" || s.server == server {
			all = append(all, s)
		}
		if !slices.Contains(names, s.server) {
			names = append(names, s.server)
		}
	}
	switch {
	case len(all) == 0 && len(names) > 0:
		return nil, fmt.Errorf("dbplugin: no database server %q: there are %s", server, strings.Join(names, ", "))
	case len(all) == 0:
		return nil, fmt.Errorf("dbplugin: no known database server has the tools %s; Options.Profile describes others: %w", some(l.tools), ErrUnsupported)
	case server == "" && len(names) > 1:
		return nil, fmt.Errorf("dbplugin: the database servers are %s: Options.Server has to say which is meant", strings.Join(names, ", "))
	}
	return all, nil
}

// asID is a database as DBHub has it in the names of its tools.
func asID(database string) string {
	return strings.Map(func(c rune) rune {
		if c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' {
			return c
		}
		return '_'
	}, database)
}

// some lists names in a sentence.
func some(names []string) string {
	const most = 20
	switch {
	case len(names) == 0:
		return "(none)"
	case len(names) > most:
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

// unsupported is the error of an operation that a server does not have.
func (s *site) unsupported(what string) error {
	var has []string
	for _, o := range operations {
		if t := o.tool(&s.Profile); t.Name != "" && !slices.Contains(has, t.Name) {
			has = append(has, t.Name)
		}
	}
	return fmt.Errorf("dbplugin: %s has no tool to %s, only %s: %w", s.Name, what, some(has), ErrUnsupported)
}
