package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/config"
)

// flags is the command line of one command, and what of it the environment may set.
type flags struct {
	*flag.FlagSet
	usage, about string
	help         func()
	arguments    []string          // what is not a flag
	variables    map[string]string // that set flags, by their names
	own          []string          // flags that are no settings of a configuration, and that a variable sets
	either       []string          // those of them of which one is wanted
	outside      map[string]bool   // those of them that their variables have set
}

// A describer is a place for a command's help that wants it as it is, and not as
// text.
type describer interface{ describe(*flags) }

// newFlags makes the flags of a command. usage is its line of arguments, and
// about what it does.
func newFlags(std stdio, usage, about string) *flags {
	name, _, _ := strings.Cut(usage, " ")
	f := &flags{FlagSet: flag.NewFlagSet(name, flag.ContinueOnError), usage: usage, about: about, variables: map[string]string{}, outside: map[string]bool{}}
	f.SetOutput(io.Discard) // errors are reported once, by run
	f.Usage = func() {}     // a mistake is no reason to print it
	f.help = func() {
		if d, is := std.out.(describer); is {
			d.describe(f)
			return
		}
		fmt.Fprintf(std.out, "Usage: mcpool %s\n\n%s\n\n", usage, about)
		f.SetOutput(std.out)
		f.PrintDefaults()
	}
	return f
}

// parse reads flags and arguments in any order, and then the environment, for what
// flags have not set. There may be at most so many arguments.
func (f *flags) parse(args []string, most int) error {
	f.nameVariables()
	if err := f.parseLine(args, most); err != nil {
		return err
	}
	return f.readVariables()
}

// isSwitch reports whether a flag takes no value.
func isSwitch(one *flag.Flag) bool {
	b, is := one.Value.(interface{ IsBoolFlag() bool })
	return is && b.IsBoolFlag()
}

func (f *flags) parseLine(args []string, most int) error {
	for {
		if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
			f.help()
			return err
		} else if err != nil {
			return usagef("%w", err)
		}
		if f.NArg() == 0 {
			break
		}
		if dashes := len(args) - f.NArg(); dashes > 0 && args[dashes-1] == "--" {
			f.arguments = append(f.arguments, f.Args()...)
			break
		}
		f.arguments = append(f.arguments, f.Arg(0))
		args = f.Args()[1:]
	}
	if len(f.arguments) > most {
		return usagef("unexpected argument %q", f.arguments[most])
	}
	return nil
}

// list adds a flag that holds several values, divided by commas or given
// several times.
func (f *flags) list(name, usage string) *[]string {
	values := new(listValue)
	f.Var(values, name, usage+"; divided by commas, or given several times")
	return (*[]string)(values)
}

type listValue []string

func (v *listValue) String() string { return strings.Join(*v, ", ") }

func (v *listValue) Set(s string) error {
	for value := range strings.SplitSeq(s, ",") {
		value = strings.TrimSpace(value)
		if value == "" {
			return errors.New("want names divided by commas")
		}
		*v = append(*v, value)
	}
	return nil
}

// period adds a flag that holds a time, in seconds or as a duration.
func (f *flags) period(name string, preset time.Duration, usage string) *time.Duration {
	value := periodValue(preset)
	f.Var(&value, name, usage)
	return (*time.Duration)(&value)
}

type periodValue time.Duration

func (v *periodValue) String() string { return time.Duration(*v).String() }

func (v *periodValue) Set(s string) error {
	d, err := mcpool.ParseDuration(s)
	*v = periodValue(d)
	return err
}

// file adds a flag that holds the name of a file, which "" is not: a variable of a
// script may be unset.
func (f *flags) file(name, usage string) *string {
	value := new(fileValue)
	f.Var(value, name, usage)
	return (*string)(value)
}

type fileValue string

func (v *fileValue) String() string { return string(*v) }

func (v *fileValue) Set(s string) error {
	if s == "" {
		return errors.New("want a file")
	}
	*v = fileValue(s)
	return nil
}

// setting adds a flag for a setting of a configuration, which config reads the
// variable of.
func (f *flags) setting(name, usage string, given map[string]string) {
	flag := strings.ReplaceAll(name, "_", "-")
	f.variables[flag] = config.Variable(name)
	f.Func(flag, usage, func(s string) error {
		given[name] = s
		return config.CheckSetting(name, s)
	})
}

// settings adds a flag for each setting of a configuration, and returns those that
// were given, by the name of the setting.
func (f *flags) settings() map[string]string {
	given := map[string]string{}
	for _, name := range config.AllSettingNames() {
		if name == "gateway_session_key" {
			continue // everybody sees command lines
		}
		usage := logUsage[name]
		if usage == "" {
			usage = "setting " + config.SettingPlace(name) + " of the file"
		}
		f.setting(name, usage, given)
	}
	return given
}
