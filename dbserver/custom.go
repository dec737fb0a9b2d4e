package dbserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
)

// A Tool is a tool of one's own: a statement with a name, whose values are the
// arguments of the tool.
type Tool struct {
	// Name is that of the tool: letters, digits, - and _, none of ours.
	Name        string
	Description string // for the model; needed
	// Database is the name of the database that the statement is for; it can be
	// empty where there is only one.
	Database string
	// Statement is one statement with placeholders of the form :name, each of
	// which is one of Params. Values are bound, and never made part of the text.
	Statement string
	Params    []Param
	// Write runs the statement for writing, and keeps what it did. The database
	// has to be in mode Write; RequireWhere, MaxAffected and AllowDDL of it hold.
	// Without Write the statement can only read, whatever the mode.
	Write bool
	// MaxRows is the most rows of an answer; zero means that of the database.
	MaxRows int
}

// A Param is an argument of a Tool.
type Param struct {
	Name        string
	Type        string // string, integer, number or boolean; empty means string
	Description string
	Enum        []string // of a string: all that it can be; empty for any
	// Default is the value where the argument is left out: a string, bool,
	// number or json.Number. With nil the argument is needed.
	Default any
	// Optional is that the argument can be left out, and is NULL then.
	Optional bool
}

var (
	toolName  = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,63}$`)
	paramName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)
)

// limitParam is the argument that tools of one's own have besides their params.
const limitParam = "limit"

// addCustom adds a tool of one's own.
func (s *Server) addCustom(c Tool) error {
	if !toolName.MatchString(c.Name) {
		return errors.New("its name: want a letter, then letters, digits, - and _, 64 at most")
	}
	if _, taken := s.tools.tools[c.Name]; taken {
		return errors.New("there is another tool of its name")
	}
	if c.Description == "" {
		return errors.New("it needs a description: without one no model knows when to call it")
	}
	db, err := s.choose(c.Database)
	if err != nil {
		return fmt.Errorf("no database is called %q", c.Database)
	}
	if c.Write && db.Mode != Write {
		return fmt.Errorf("it writes, and database %s has mode %s", db.Name, db.Mode)
	}
	if c.MaxRows < 0 {
		return errors.New("MaxRows cannot be negative")
	}
	schema, err := c.schema()
	if err != nil {
		return err
	}
	text, names := db.dialect().Named(c.Statement)
	if _, only := db.dialect().Statement(text); !only || text == "" {
		return errors.New("want one statement")
	}
	for _, p := range c.Params {
		if !slices.Contains(names, p.Name) {
			return fmt.Errorf("param %s is not in the statement: write it as :%[1]s", p.Name)
		}
	}
	for _, name := range names {
		if !slices.ContainsFunc(c.Params, func(p Param) bool { return p.Name == name }) {
			return fmt.Errorf("the statement has :%s, which is none of its params", name)
		}
	}
	annotations := readAnnotations
	if c.Write {
		annotations = writeAnnotations
	}
	d := definition{Name: c.Name, Title: c.Name, Description: c.Description, InputSchema: schema, Annotations: annotations}
	for _, own := range builtIn() {
		if own.Name == "read_data" && !c.Write || own.Name == "write_data" && c.Write {
			d.OutputSchema = own.OutputSchema
		}
	}
	serve := (*request).readData
	if c.Write {
		serve = func(r *request, ctx context.Context) ([]byte, error) { return r.commit(ctx, r.writing(true)) }
	}
	s.tools.add(d, &tool{database: db, serve: serve, bind: func(r *request) error { return c.bind(r, text, names) }})
	return nil
}

// schema is the input schema of the tool.
func (c *Tool) schema() (*jsonschema.Schema, error) {
	schema := &jsonschema.Schema{Type: "object", Properties: map[string]*jsonschema.Schema{},
		AdditionalProperties: &jsonschema.Schema{Not: &jsonschema.Schema{}}}
	for _, p := range c.Params {
		if !paramName.MatchString(p.Name) || p.Name == limitParam || schema.Properties[p.Name] != nil {
			return nil, fmt.Errorf("param %q: want a name of its own of letters, digits and _, other than %s", p.Name, limitParam)
		}
		one := &jsonschema.Schema{Type: p.Type, Description: p.Description}
		switch p.Type {
		case "":
			one.Type = "string"
		case "string", "integer", "number", "boolean":
		default:
			return nil, fmt.Errorf("param %s has type %q: want string, integer, number or boolean", p.Name, p.Type)
		}
		for _, v := range p.Enum {
			one.Enum = append(one.Enum, v)
		}
		if p.Default != nil {
			one.Default = mustMarshal(p.Default)
		}
		if resolved, err := one.Resolve(nil); err != nil {
			return nil, fmt.Errorf("param %s: %w", p.Name, err)
		} else if p.Default != nil {
			var value any
			if err := json.Unmarshal(one.Default, &value); err != nil || resolved.Validate(value) != nil {
				return nil, fmt.Errorf("param %s: its default is not of its type", p.Name)
			}
		}
		schema.Properties[p.Name] = one
		schema.PropertyOrder = append(schema.PropertyOrder, p.Name)
		if p.Default == nil && !p.Optional {
			schema.Required = append(schema.Required, p.Name)
		}
	}
	if !c.Write {
		one := 1.0
		schema.Properties[limitParam] = &jsonschema.Schema{Type: "integer", Minimum: &one, Description: "Most rows"}
		schema.PropertyOrder = append(schema.PropertyOrder, limitParam)
	}
	return schema, nil
}

// bind makes of the arguments of a call the statement to run.
func (c *Tool) bind(r *request, text string, names []string) error {
	var values map[string]json.RawMessage
	if err := json.Unmarshal(r.raw, &values); err != nil {
		return engine.Invalid("arguments: %v", err)
	}
	r.args = arguments{Query: text, Params: make(params, len(names))}
	for i, name := range names {
		p := c.Params[slices.IndexFunc(c.Params, func(p Param) bool { return p.Name == name })]
		raw, ok := values[name]
		if !ok && p.Default != nil {
			raw, ok = mustMarshal(p.Default), true
		}
		if !ok {
			continue // NULL
		}
		var one params
		if err := one.UnmarshalJSON(slices.Concat([]byte{'['}, raw, []byte{']'})); err != nil {
			return engine.Invalid("%s: %v", name, err)
		}
		r.args.Params[i] = one[0]
	}
	if raw, ok := values[limitParam]; ok {
		if err := r.args.Limit.UnmarshalJSON(raw); err != nil {
			return engine.Invalid("%s: %v", limitParam, err)
		}
	}
	if c.MaxRows > 0 && (r.args.Limit == 0 || int(r.args.Limit) > c.MaxRows) {
		r.args.Limit = integer(c.MaxRows)
	}
	return nil
}
