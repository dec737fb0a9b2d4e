package sqlite

import (
	"context"
	"crypto/sha256"
	"database/sql/driver"
	_ "embed"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"
)

//go:embed sample.sql
var sampleSQL string

// Sample makes the sample database in dir, which is made if it is not there,
// and returns its path: a SQLite file of about 3 MB with customers, products,
// stores, a calendar and 50,000 sales. Its content is the same, to the byte,
// each time. A file that is there is used again; its name carries a hash of
// what made it. Any number of processes can do this at a time, since a file
// gets its name when it is complete.
//
// It takes about 0.3 s. ctx ends it, and then nothing is left behind.
func Sample(ctx context.Context, dir string) (path string, err error) {
	hash := sha256.Sum256([]byte(lib.SQLITE_VERSION + "\n" + sampleSQL))
	path = filepath.Join(dir, "sample-v1-"+hex.EncodeToString(hash[:6])+".db")
	if complete(path) {
		return path, nil
	}
	if err := makeSample(ctx, dir, path); err != nil {
		return "", fmt.Errorf("dbserver: make the sample: %w", err)
	}
	return path, nil
}

func makeSample(ctx context.Context, dir, path string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "sample-*.tmp")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it has been renamed
	err = fillSample(ctx, f.Name())
	if err == nil {
		err = f.Sync() // before the name, so that a file of that name is whole after a crash
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// fillSample runs the sample's SQL in one transaction on the empty file. There
// is no journal: a file that is not finished is thrown away.
func fillSample(ctx context.Context, file string) (err error) {
	conn, err := (&sqlite.Driver{}).Open("file:" + (&url.URL{Path: file}).EscapedPath())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	exec, ok := conn.(driver.ExecerContext)
	if !ok {
		return errDriver
	}
	_, err = exec.ExecContext(ctx, "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA locking_mode=EXCLUSIVE;"+
		"PRAGMA cache_size=-32768; BEGIN;"+sampleSQL+"COMMIT", nil)
	return err
}

// complete reports whether the file is as long as its header says
// (https://www.sqlite.org/fileformat.html, section 1.3).
func complete(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return false
	}
	header := make([]byte, 100)
	if _, err := io.ReadFull(f, header); err != nil || string(header[:16]) != "SQLite format 3\x00" {
		return false
	}
	pageSize := int64(binary.BigEndian.Uint16(header[16:]))
	pages := int64(binary.BigEndian.Uint32(header[28:]))
	return info.Size() == pageSize*pages
}
