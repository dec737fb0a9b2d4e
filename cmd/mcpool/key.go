package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/auth"
)

// runKey makes keys of those who may call.
func runKey(args []string, std stdio) error {
	if len(args) > 0 && args[0] == "new" {
		args = args[1:]
	} else if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		return usagef("mcpool key %s: there is mcpool key new NAME", args[0])
	}
	f := newFlags(std, "key new NAME [flags]", `Make a key with which NAME may call a gateway. The key is printed, once, and
kept nowhere; the line below it is for the file that --auth-key-file names,
or its hash for auth.keys of the configuration.`)
	admin := f.Bool("admin", false, "NAME may also use the admin API")
	if err := f.parse(args, 1); err != nil {
		return err
	}
	if len(f.arguments) == 0 {
		return usagef("whose key? mcpool key new NAME")
	}
	key, kept, err := auth.NewKey(f.arguments[0])
	if err != nil {
		return usagef("%w", err)
	}
	kept.Admin = *admin
	_, err = fmt.Fprintf(std.out, "%s\n%s\n", key, kept)
	return err
}

// keyVariable is the variable of the environment that has the key of a program
// that calls a gateway.
const keyVariable = "MCPOOL_KEY"

// A callerKey is where the key is with which a gateway is called.
type callerKey struct{ file string } // "" for the environment

// callerKey adds the flag that says so.
func (f *flags) callerKey(when string) *callerKey {
	k := new(callerKey)
	f.StringVar(&k.file, "key-file", "", when+"`file` with the key, or access token, to call the gateway with; "+keyVariable+" has it if not given")
	return k
}

// auth returns how a gateway is called, nil for without a key.
func (k *callerKey) auth() mcpool.Auth {
	switch {
	case k.file != "":
		return mcpool.BearerFile(k.file)
	case os.Getenv(keyVariable) != "":
		return mcpool.BearerEnv(keyVariable)
	}
	return nil
}

// read returns the key, "" for none.
func (k *callerKey) read() (string, error) {
	way := k.auth()
	if way == nil {
		return "", nil
	}
	source, err := way.TokenSource("")
	if err != nil {
		return "", err
	}
	token, err := source.Token()
	if err != nil {
		return "", err
	}
	return token.AccessToken, nil
}
