package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/config"
)

// flags is the command line of one command.
type flags struct {
	*flag.FlagSet
	usage, about string
	help         func()
	arguments    []string // what is not a flag
}

// A describer is a place for a command's help that wants it as it is, and not as
// text.
type describer interface{ describe(*flags) }

// newFlags makes the flags of a command. usage is its line of arguments, and
// about what it does.
func newFlags(std stdio, usage, about string) *flags {
	name, _, _ := strings.Cut(usage, " ")
	f := &flags{FlagSet: flag.NewFlagSet(name, flag.ContinueOnError), usage: usage, about: about}
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

// parse reads flags and arguments in any order. There may be at most so many
// arguments.
func (f *flags) parse(args []string, most int) error {
	for {
		if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
			f.help()
			return err
		} else if err != nil {
			return usagef("%w; mcpool %s --help lists the flags", err, f.Name())
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
	values := new([]string)
	f.Func(name, usage+"; divided by commas, or given several times", func(s string) error {
		for value := range strings.SplitSeq(s, ",") {
			value = strings.TrimSpace(value)
			if value == "" {
				return errors.New("want names divided by commas")
			}
			*values = append(*values, value)
		}
		return nil
	})
	return values
}

// period adds a flag that holds a time, in seconds or as a duration.
func (f *flags) period(name string, preset time.Duration, usage string) *time.Duration {
	value := &preset
	f.Func(name, fmt.Sprintf("%s (default %v)", usage, preset), func(s string) (err error) {
		*value, err = mcpool.ParseDuration(s)
		return err
	})
	return value
}

// settings adds a flag for each setting of a pool, the gateway and the log, and
// returns those that were given, by the name of the setting.
func (f *flags) settings() map[string]string {
	given := map[string]string{}
	pool := mcpool.DefaultConfig() // to try values on
	for _, name := range config.SettingNames() {
		set := func(s string) error { return pool.Set(name, s) }
		if !slices.Contains(mcpool.SettingNames(), name) { // call_timeout, which is no pool's
			set = func(s string) error { _, err := mcpool.ParseDuration(s); return err }
		}
		usage := fmt.Sprintf("setting %s of all pools, as %s%s", name, mcpool.EnvPrefix, strings.ToUpper(name))
		f.Func(strings.ReplaceAll(name, "_", "-"), usage, func(s string) error {
			given[name] = s
			return set(s)
		})
	}
	gateway, admin := config.Gateway{}, config.Admin{} // likewise
	for _, section := range []struct {
		name  string
		names []string
		set   func(name, value string) error
	}{
		{"gateway", config.GatewaySettingNames(), gateway.Set},
		{"admin", config.AdminSettingNames(), admin.Set},
	} {
		for _, name := range section.names {
			if name == "gateway_session_key" {
				continue // everybody sees command lines
			}
			usage := "setting " + strings.TrimPrefix(name, section.name+"_") + " of the file's " + section.name + ", as " + mcpool.EnvPrefix + strings.ToUpper(name)
			f.Func(strings.ReplaceAll(name, "_", "-"), usage, func(s string) error {
				given[name] = s
				return section.set(name, s)
			})
		}
	}
	for _, name := range config.AccessSettingNames() {
		usage := "setting " + name + " of the file, as " + mcpool.EnvPrefix + strings.ToUpper(name)
		f.Func(strings.ReplaceAll(name, "_", "-"), usage, func(s string) error {
			given[name] = s
			return nil
		})
	}
	for _, name := range config.TelemetrySettingNames() {
		usage := "setting " + strings.TrimPrefix(name, "telemetry_") + " of the file's telemetry, as " + mcpool.EnvPrefix + strings.ToUpper(name)
		f.Func(strings.ReplaceAll(name, "_", "-"), usage, func(s string) error {
			given[name] = s
			return new(config.Telemetry).Set(name, s)
		})
	}
	f.log(given)
	return given
}
