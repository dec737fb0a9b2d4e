package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/mcpool-dev/mcpool/admin"
	"github.com/mcpool-dev/mcpool/config"
)

// environment has variables set the flags that are settings of the program, in
// which prefix is before their names.
func (f *flags) environment(prefix string) {
	f.VisitAll(func(one *flag.Flag) {
		if setting := prefix + settingOf(one.Name); slices.Contains(config.ProgramSettingNames(), setting) {
			f.own = append(f.own, one.Name)
			f.variables[one.Name] = config.Variable(setting)
		}
	})
}

// settingOf is the name of the setting that a flag sets.
func settingOf(flag string) string { return strings.ReplaceAll(flag, "-", "_") }

// nameVariables has the help of flags name the variables that set them.
func (f *flags) nameVariables() {
	f.VisitAll(func(one *flag.Flag) {
		if variable := f.variables[one.Name]; variable != "" {
			one.Usage += " [" + variable + "]"
		}
	})
}

// readVariables sets the program's own settings that flags have not set. Those of
// a configuration are read with it.
func (f *flags) readVariables() error {
	given := f.given()
	if slices.ContainsFunc(f.either, func(name string) bool { return given[name] }) {
		for _, name := range f.either {
			given[name] = true
		}
	}
	var errs []error
	for _, name := range f.own {
		value := os.Getenv(f.variables[name])
		if value == "" || given[name] {
			continue
		}
		one := f.Lookup(name)
		if err := one.Value.Set(value); err != nil {
			if isSwitch(one) {
				err = errors.New("want true or false")
			}
			errs = append(errs, fmt.Errorf("environment %s: value %q: %w", f.variables[name], value, err))
		}
		f.outside[name] = true
	}
	return errors.Join(errs...)
}

// given are the flags that are on the command line.
func (f *flags) given() map[string]bool {
	given := map[string]bool{}
	f.Visit(func(one *flag.Flag) { given[one.Name] = true })
	return given
}

// called is what a flag is to be called in an error about its value.
func (f *flags) called(name string) string {
	if f.outside[name] {
		return "environment " + f.variables[name]
	}
	return "--" + name
}

// ownSettings are the flags that are no settings of a configuration as settings,
// with where they come from.
func (f *flags) ownSettings() []admin.Setting {
	given := f.given()
	var list []admin.Setting
	for _, name := range f.own {
		s := admin.Setting{Name: settingOf(name), Value: f.Lookup(name).Value.String(), Source: "default"}
		switch {
		case f.outside[name]:
			s.Source = f.variables[name]
		case given[name]:
			s.Source = "flag " + s.Name
		}
		list = append(list, s)
	}
	return list
}
