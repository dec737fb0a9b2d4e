package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"

	"github.com/mcpool-dev/mcpool/config"
	"github.com/mcpool-dev/mcpool/gateway"
)

// keyFile is what the key is kept in, in the state folder, where none is
// configured.
const keyFile = "session.key"

// sessionKey returns the key that sessions are sealed with: the one that is
// configured, else the one of the state folder, which is made if there is none.
// It is nil, and sessions end with this process, where none can be kept.
func sessionKey(conf config.Gateway, log *slog.Logger) ([]byte, error) {
	switch {
	case conf.SessionKey != nil:
		return conf.SessionKey, nil
	case conf.SessionKeyFile != "":
		// Whose it is and who may read it is its owner's business: a mounted
		// secret, say, is often for all to read within its container.
		return readKey(conf.SessionKeyFile)
	}
	folder, err := stateFolder()
	if err == nil {
		err = makeKey(folder)
	}
	if err != nil {
		log.Warn("there is no place to keep the key of sessions: they end with this process", "error", err)
		return nil, nil
	}
	return ownKey(folder)
}

// stateFolder is where things are kept that cannot be made again: what systemd
// gives the service, or that of the user (XDG Base Directory Specification).
func stateFolder() (string, error) {
	// Of several the first is the service's own (systemd.exec, StateDirectory=).
	if dirs := filepath.SplitList(os.Getenv("STATE_DIRECTORY")); len(dirs) > 0 && filepath.IsAbs(dirs[0]) {
		return dirs[0], nil
	}
	// What is not absolute is to be ignored, says that specification.
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "mcpool"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil { // a service account, say
		return "", err
	}
	return filepath.Join(home, ".local", "state", "mcpool"), nil
}

// makeKey makes the key of a folder, if there is none. Of processes that begin
// at once all use that of the first: the file is there whole or not at all.
func makeKey(folder string) error {
	path := filepath.Join(folder, keyFile)
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return err // whatever is there, it is not to be replaced
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	file, err := os.CreateTemp(folder, "."+keyFile+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	key := make([]byte, gateway.KeySize)
	rand.Read(key) // never fails
	_, err = fmt.Fprintf(file, "%x\n", key)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err = os.Link(file.Name(), path); errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// ownKey reads the key of a folder. One that others could have read is as good
// as public, and who has it can make sessions of anybody.
func ownKey(folder string) ([]byte, error) {
	path := filepath.Join(folder, keyFile)
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("the key of sessions: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" { // which has no such modes
		return nil, hinted{fmt.Errorf("the key of sessions, %s, has mode %04o, so others may have read it", path, mode), makeAnother}
	}
	key, err := readKey(path)
	if err != nil {
		return nil, hinted{err, makeAnother}
	}
	return key, nil
}

// makeAnother is what to do about a key that is not to be used.
const makeAnother = "delete it, and a new one is made, with mode 0600: legacy clients begin anew"

// maxKeyFile is more bytes than any way to write a key takes.
const maxKeyFile = 256

// readKey reads a file that has a key. Errors have nothing of what is in it.
func readKey(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("the key of sessions: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxKeyFile))
	if err != nil {
		return nil, fmt.Errorf("the key of sessions: %w", err)
	}
	key, err := gateway.ParseKey(string(text))
	if err != nil {
		return nil, fmt.Errorf("the key of sessions, %s: %w", path, err)
	}
	return key, nil
}
