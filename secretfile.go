package mcpool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// maxSecret bounds, in bytes, a file that holds one secret.
const maxSecret = 64 << 10

// readSecret returns what is in a file that holds one secret. Errors name the
// file and nothing that is in it.
func readSecret(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return "", &fs.PathError{Op: "read", Path: path, Err: errors.New("is a folder")}
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	secret := strings.TrimSpace(string(data))
	switch {
	case err != nil:
		return "", err
	case len(data) > maxSecret:
		return "", fmt.Errorf("%s is larger than %d KiB", path, maxSecret>>10)
	case secret == "":
		return "", fmt.Errorf("%s is empty", path)
	}
	return secret, nil
}

// A replacement is a file that is about to take the place of another. It is
// there before it is needed, so that what cannot be replaced is known before.
type replacement struct {
	file *os.File
	path string // of the other, behind symbolic links
}

func newReplacement(path string) (*replacement, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, err
	}
	file, err := os.CreateTemp(filepath.Dir(real), "."+filepath.Base(real)+"-*") // mode 0600
	if err != nil {
		return nil, fmt.Errorf("%s cannot be replaced: %w", path, err)
	}
	return &replacement{file, real}, nil
}

// commit puts the secret in place of the old one, as a whole and for good.
func (r *replacement) commit(secret string) error {
	_, err := r.file.WriteString(secret + "\n")
	err = errors.Join(err, r.file.Sync(), r.file.Close())
	if err == nil {
		err = os.Rename(r.file.Name(), r.path)
	}
	if err != nil {
		return fmt.Errorf("%s is not replaced: %w", r.path, err)
	}
	r.file = nil
	// Without this the rename itself may be lost. Not every file system can.
	if folder, err := os.Open(filepath.Dir(r.path)); err == nil {
		_ = folder.Sync()
		_ = folder.Close()
	}
	return nil
}

// discard removes a replacement that was not committed.
func (r *replacement) discard() {
	if r != nil && r.file != nil {
		_ = r.file.Close()
		_ = os.Remove(r.file.Name())
	}
}
