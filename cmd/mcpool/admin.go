package main

import (
	"fmt"
	"io"
	"net"
	"os"

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

// shownSettings are those in force as the API shows them.
func shownSettings(conf *config.Config) []admin.Setting {
	var shown []admin.Setting
	for _, s := range conf.Settings() {
		shown = append(shown, admin.Setting(s))
	}
	return shown
}

// isLoopback reports whether only this machine reaches an address.
func isLoopback(addr net.Addr) bool {
	tcp, is := addr.(*net.TCPAddr)
	return is && tcp.IP.IsLoopback()
}
