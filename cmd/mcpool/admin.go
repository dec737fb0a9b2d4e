package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/mcpool-dev/mcpool"
	"github.com/mcpool-dev/mcpool/admin"
	"github.com/mcpool-dev/mcpool/config"
)

// maxTokenFile is more bytes than a token has that is worth its name.
const maxTokenFile = 4096

// readToken reads the file of an admin's token. Errors have nothing of what is
// in it.
func readToken(path string) ([]byte, error) {
	file, err := os.Open(path) // #nosec G703 -- whoever runs it names it
	if err != nil {
		return nil, fmt.Errorf("the admin token: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxTokenFile))
	if err != nil {
		return nil, fmt.Errorf("the admin token: %w", err)
	}
	return text, nil
}

// adminToken returns the token of a configuration, nil if it has none.
func adminToken(conf config.Admin) (*admin.Token, error) {
	if conf.TokenFile == "" {
		return nil, nil
	}
	text, err := readToken(conf.TokenFile)
	if err != nil {
		return nil, err
	}
	token, err := admin.ParseToken(text)
	if err != nil {
		return nil, fmt.Errorf("the admin token, %s: %w", conf.TokenFile, err)
	}
	return token, nil
}

// shows takes settings for those in force, but for what is at places that wait for a
// restart: there it is what it was.
func (o *opened) shows(settings []config.Setting, waits []string) {
	before := map[string]config.Setting{}
	if shown := o.shown.Load(); shown != nil {
		for _, one := range *shown {
			before[one.Name] = one
		}
	}
	for i, one := range settings {
		if one.Server == "" && slices.ContainsFunc(waits, func(place string) bool {
			return strings.HasPrefix(one.Name+"_", strings.ReplaceAll(place, ".", "_")+"_")
		}) {
			settings[i] = before[one.Name]
		}
	}
	o.shown.Store(&settings)
}

// settings are those in force as the API shows them. What a pool settles itself,
// where nothing is said, is as it has settled it now.
func (o *opened) settings() []admin.Setting {
	settled := map[string]mcpool.About{}
	for _, p := range o.pools() {
		settled[p.Name()] = p.About()
	}
	shown := slices.Clone(o.service.own)
	for _, one := range *o.shown.Load() {
		if about, is := settled[one.Server]; is {
			switch one.Name {
			case "sharing":
				one.Value = string(about.Sharing)
			case "max_connections_total":
				one.Value = strconv.Itoa(about.MaxConnectionsTotal)
			case "calls_per_connection":
				one.Value = strconv.Itoa(about.CallsPerConnection)
			}
		}
		shown = append(shown, admin.Setting(one))
	}
	return shown
}

// isLoopback reports whether only this machine reaches an address.
func isLoopback(addr net.Addr) bool {
	tcp, is := addr.(*net.TCPAddr)
	return is && tcp.IP.IsLoopback()
}
