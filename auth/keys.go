package auth

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"time"
)

const (
	// maxKeys bounds how many keys there are: each is compared with each key
	// that comes, some 10 ns.
	maxKeys = 4096
	// maxKeyFile bounds a file of them, in bytes.
	maxKeyFile = 1 << 20
	// keyFileFresh is how long what was read of a key file is used unlooked.
	keyFileFresh = time.Second
)

// A Key is a static key, of which only the hash is kept.
type Key struct {
	// Name is that of its principal: 1 to 64 letters, digits, '.', '_', '@' and
	// '-', the first a letter or digit. Several keys may not have one name.
	Name string
	// Hash is the SHA-256 of the key. It needs neither salt nor many rounds as
	// long as the key is random, as those of [NewKey] are: nobody can try 2^256.
	Hash [sha256.Size]byte
	// Admin says that its principal may use the admin API.
	Admin bool
}

// NewKey makes a key of 256 random bits, and what is kept of it.
func NewKey(name string) (key string, kept Key, err error) {
	if !keyName.MatchString(name) {
		return "", Key{}, errKeyName
	}
	var random [32]byte
	rand.Read(random[:]) // never fails
	key = "mcpool_" + base64.RawURLEncoding.EncodeToString(random[:])
	return key, Key{Name: name, Hash: sha256.Sum256([]byte(key))}, nil
}

// String is the line of a key in a key file.
func (k Key) String() string {
	line := k.Name + ": " + hashPrefix + hex.EncodeToString(k.Hash[:])
	if k.Admin {
		line += " " + adminWord
	}
	return line
}

const (
	hashPrefix = "sha256:"
	adminWord  = "admin"
)

var (
	keyName    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$`)
	errKeyName = errors.New("the name of a key: want 1 to 64 letters, digits, '.', '_', '@' and '-', the first a letter or digit")
	errHash    = errors.New("want sha256: and 64 hex digits, as mcpool key new prints them")
)

// ParseHash reads the hash of a key, with or without "sha256:" before its hex
// digits. The error does not have the text.
func ParseHash(text string) (hash [sha256.Size]byte, err error) {
	digits := strings.TrimPrefix(text, hashPrefix)
	if len(digits) != hex.EncodedLen(len(hash)) {
		return hash, errHash
	}
	if _, err := hex.Decode(hash[:], []byte(digits)); err != nil {
		return hash, errHash
	}
	return hash, nil
}

// ParseKeys reads a key file: lines NAME: sha256:HEX, behind which may be the
// word admin, empty lines, and lines that begin with '#'. Errors name the line
// and nothing that is in it, as it may be a key.
func ParseKeys(text []byte) ([]Key, error) {
	var keys []Key
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		key, err := parseKey(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		keys = append(keys, key)
	}
	if lines.Err() != nil {
		return nil, errors.New("a line is too long")
	}
	return keys, checkKeys(keys)
}

func parseKey(line string) (key Key, err error) {
	name, rest, ok := strings.Cut(line, ":")
	fields := strings.Fields(rest)
	if !ok || len(fields) == 0 || !strings.HasPrefix(fields[0], hashPrefix) {
		return key, errors.New("want NAME: sha256:HEX, as mcpool key new prints it")
	}
	if key.Name = strings.TrimSpace(name); !keyName.MatchString(key.Name) {
		return key, errKeyName
	}
	if key.Hash, err = ParseHash(fields[0]); err != nil {
		return key, err
	}
	if len(fields) > 2 || len(fields) == 2 && fields[1] != adminWord {
		return key, errors.New("want nothing behind the hash but the word admin")
	}
	key.Admin = len(fields) == 2
	return key, nil
}

func checkKeys(keys []Key) error {
	if len(keys) > maxKeys {
		return fmt.Errorf("there are %d keys: want at most %d", len(keys), maxKeys)
	}
	names, hashes := map[string]bool{}, map[[sha256.Size]byte]bool{}
	for _, key := range keys {
		switch {
		case !keyName.MatchString(key.Name):
			return errKeyName
		case names[key.Name]:
			return fmt.Errorf("two keys have the name %s", key.Name)
		case hashes[key.Hash]:
			return fmt.Errorf("the key %s is that of another name, too", key.Name)
		}
		names[key.Name], hashes[key.Hash] = true, true
	}
	return nil
}

// A keyring is the keys there are.
type keyring struct {
	fixed []Key
	file  string // "" for none
	log   *slog.Logger

	mu     sync.Mutex // guards what follows
	keys   []Key      // not to be modified
	looked time.Time  // at the file
	text   []byte     // of the file, as it was last read
}

func newKeyring(fixed []Key, file string, log *slog.Logger) (*keyring, error) {
	k := &keyring{fixed: fixed, file: file, log: log}
	keys, err := k.with(nil)
	if err != nil {
		return nil, err
	}
	k.keys = keys
	return k, nil
}

// open reads the file for the first time. It has to be good.
func (k *keyring) open() error {
	if k.file == "" {
		return nil
	}
	text, err := readKeyFile(k.file)
	var keys []Key
	if err == nil {
		keys, err = k.with(text)
	}
	if err != nil {
		return fmt.Errorf("key file %s: %w", k.file, err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys, k.text, k.looked = keys, text, time.Now()
	return nil
}

// with returns the keys there are with those of a file.
func (k *keyring) with(text []byte) ([]Key, error) {
	keys, err := ParseKeys(text)
	if err != nil {
		return nil, err
	}
	keys = append(keys, k.fixed...)
	return keys, checkKeys(keys)
}

// find returns whose key a token is. The time that takes says nothing of the
// keys there are but how many: what comes is hashed, all of it, and the hash is
// compared with each of the others to the end, found or not.
func (k *keyring) find(token string) (Principal, bool) {
	keys := k.current()
	sum := sha256.Sum256([]byte(token))
	found := -1
	for i := range keys {
		found = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(keys[i].Hash[:], sum[:]), i, found)
	}
	if found < 0 {
		return Principal{}, false
	}
	return Principal{Name: keys[found].Name, Admin: keys[found].Admin}, true
}

// current returns the keys, those of the file as it is now or was a second ago.
func (k *keyring) current() []Key {
	k.mu.Lock()
	keys, before := k.keys, k.text
	look := k.file != "" && time.Since(k.looked) >= keyFileFresh
	if look {
		k.looked = time.Now()
	}
	k.mu.Unlock()
	if !look {
		return keys
	}
	text, err := readKeyFile(k.file)
	if err == nil && !bytes.Equal(text, before) {
		keys, err = k.with(text)
	}
	if err != nil {
		k.log.Error("the key file is wrong: the keys of before hold", "file", k.file, "error", err)
		k.mu.Lock()
		defer k.mu.Unlock()
		return k.keys
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys, k.text = keys, text
	return keys
}

// readKeyFile reads a key file. One that anybody can write to would let anybody
// in.
func readKeyFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&0o002 != 0 && runtime.GOOS != "windows" { // which has no such modes
		return nil, fmt.Errorf("it has mode %04o, so that anybody can write keys into it: want 0600", mode)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err == nil && len(text) > maxKeyFile {
		err = fmt.Errorf("it is larger than %d KiB", maxKeyFile>>10)
	}
	return text, err
}
