package dbserver

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// DefaultAuditBytes is the size at which an audit file is rotated.
const DefaultAuditBytes = 64 << 20

// AuditFiles is how many rotated audit files are kept besides the current one.
const AuditFiles = 9

// Audit says where each call of a tool is written down: a file of JSON lines,
// each of which has the hash of the one before it, so that a line that was
// changed, taken out or put in is found by [VerifyAudit]. Lines cut off at the
// end are found only by who knows the last hash.
//
// A call that cannot be written down fails, and its result is not told; a
// statement that writes is written down before it runs, too.
type Audit struct {
	// File is made with mode 0600, or continued. Several servers may write to it,
	// as while one takes the place of another: they take turns by a lock on
	// File.lock, but for Windows, where one server alone may.
	File string
	// Statements is what is written of a statement: "fingerprint", which is the
	// text without values and comments, or "full". Empty means fingerprint.
	Statements string
	// MaxBytes is the size at which the file gets the name File.1, that the one
	// before File.2, and so on up to AuditFiles. Zero means DefaultAuditBytes.
	MaxBytes int64
}

// An auditEntry is a line of the audit. Hash is that of the line without it.
type auditEntry struct {
	Seq       int64   `json:"seq"`
	Time      string  `json:"time"` // RFC 3339, UTC
	Principal string  `json:"principal,omitempty"`
	Tool      string  `json:"tool"`
	Database  string  `json:"database,omitempty"`
	Statement string  `json:"statement,omitempty"`
	SHA256    string  `json:"statement_sha256,omitempty"` // of its full text
	Rows      int64   `json:"rows"`                       // returned, or affected
	Duration  float64 `json:"duration_ms"`
	Verdict   string  `json:"verdict"` // ok, begun, cancelled or the code of an error
	Prev      string  `json:"prev"`
	Hash      string  `json:"hash,omitempty"`
}

// An auditLog is an open audit.
type auditLog struct {
	options Audit

	lock *os.File // whose lock is held while a line is written

	mu   sync.Mutex // guards what follows, and is held while a line is written
	file *os.File
	size int64
	seq  int64
	prev string
}

// openAudit opens the file and finds where the chain goes on.
func openAudit(options Audit) (*auditLog, error) {
	switch options.Statements {
	case "":
		options.Statements = "fingerprint"
	case "fingerprint", "full":
	default:
		return nil, fmt.Errorf("audit statements %q: want fingerprint or full", options.Statements)
	}
	if options.MaxBytes < 0 {
		return nil, errors.New("audit MaxBytes cannot be negative")
	}
	orDefault(&options.MaxBytes, DefaultAuditBytes)
	if options.File == "" {
		return nil, errors.New("audit: want a file")
	}
	if info, err := os.Stat(options.File); err == nil && info.IsDir() { // beside which no lock is to be left
		return nil, fmt.Errorf("audit: %s is a directory", options.File)
	}
	lock, err := os.OpenFile(options.File+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	a := &auditLog{options: options, lock: lock}
	unlock, err := lockFile(lock)
	if err == nil {
		defer unlock()
		err = a.open()
	}
	if err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("audit: %w", err)
	}
	return a, nil
}

func (a *auditLog) open() error {
	last, err := lastLine(a.options.File)
	if errors.Is(err, fs.ErrNotExist) || err == nil && last == nil {
		last, err = lastLine(a.rotated(1)) // rotated, and nothing written since
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if last != nil {
		var e auditEntry
		if err := json.Unmarshal(last, &e); err != nil {
			return fmt.Errorf("the last line of %s is none of an audit: move the file away", a.options.File)
		}
		a.seq, a.prev = e.Seq, e.Hash
	}
	if a.file, err = os.OpenFile(a.options.File, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return err
	}
	info, err := a.file.Stat()
	if err == nil {
		a.size = info.Size()
	}
	return err
}

// lastLine returns the last line of a file, nil if it has none.
func lastLine(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	tail := make([]byte, min(info.Size(), maxAuditLine))
	if _, err := f.ReadAt(tail, info.Size()-int64(len(tail))); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	tail = bytes.TrimRight(tail, "\n")
	if len(tail) == 0 {
		return nil, nil
	}
	return tail[bytes.LastIndexByte(tail, '\n')+1:], nil
}

// maxAuditLine is more than a line can have: a statement has 100,000 bytes at
// most, each of which is six at most as JSON.
const maxAuditLine = 1 << 20

func (a *auditLog) rotated(n int) string { return a.options.File + "." + strconv.Itoa(n) }

// write adds a line.
func (a *auditLog) write(e auditEntry) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	unlock, err := lockFile(a.lock)
	if err != nil {
		return err
	}
	defer unlock()
	if a.file != nil && !a.isLast() {
		_ = a.file.Close() // nothing was written to it that was not told
		a.file = nil
	}
	if a.file == nil {
		if err := a.open(); err != nil { // after a rotation that failed, too
			return err
		}
	}
	e.Seq, e.Prev, e.Hash = a.seq+1, a.prev, ""
	hash := e.sum()
	e.Hash = hash
	line := append(mustMarshal(e), '\n')
	if a.size > 0 && a.size+int64(len(line)) > a.options.MaxBytes {
		if err := a.rotate(); err != nil {
			return err
		}
	}
	n, err := a.file.Write(line)
	a.size += int64(n)
	if err != nil {
		if n > 0 { // a part of a line would make the rest unreadable
			err = errors.Join(err, a.file.Truncate(a.size-int64(n)))
			a.size -= int64(n)
		}
		return err
	}
	a.seq, a.prev = e.Seq, hash
	return nil
}

// isLast reports whether nobody else has written to the file, or rotated it,
// since this server did.
func (a *auditLog) isLast() bool {
	there, err := os.Stat(a.options.File)
	if err != nil {
		return false
	}
	ours, err := a.file.Stat()
	return err == nil && os.SameFile(there, ours) && ours.Size() == a.size
}

// sum is the hash of an entry that has none yet.
func (e auditEntry) sum() string {
	e.Hash = ""
	sum := sha256.Sum256(mustMarshal(e))
	return hex.EncodeToString(sum[:])
}

// rotate gives the file its next name and starts a new one.
func (a *auditLog) rotate() error {
	err := a.file.Close()
	a.file = nil
	for n := AuditFiles - 1; n >= 1 && err == nil; n-- {
		if err = os.Rename(a.rotated(n), a.rotated(n+1)); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	if err == nil {
		err = os.Rename(a.options.File, a.rotated(1))
	}
	if err != nil {
		return err
	}
	a.file, err = os.OpenFile(a.options.File, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	a.size = 0
	return err
}

func (a *auditLog) close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	err := a.lock.Close()
	if a.file != nil {
		err = errors.Join(err, a.file.Close())
		a.file = nil
	}
	return err
}

// VerifyAudit reads the files of an audit, the oldest first, and returns how
// many lines there are and the hash of the last. The error says at which line
// the chain does not hold. The first line can follow on one that is not there
// any more.
func VerifyAudit(files ...string) (lines int, last string, err error) {
	var seq int64
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			return lines, last, err
		}
		defer f.Close()
		scanner := bufio.NewScanner(f)
		scanner.Buffer(nil, maxAuditLine)
		for n := 1; scanner.Scan(); n++ {
			var e auditEntry
			complaint := ""
			switch err := json.Unmarshal(scanner.Bytes(), &e); {
			case err != nil:
				complaint = "is not a line of an audit"
			case e.sum() != e.Hash || string(mustMarshal(e)) != scanner.Text():
				complaint = "was changed"
			case lines > 0 && (e.Prev != last || e.Seq != seq+1):
				complaint = "does not follow on the one before"
			}
			if complaint != "" {
				return lines, last, fmt.Errorf("%s, line %d %s", filepath.Base(file), n, complaint)
			}
			lines, last, seq = lines+1, e.Hash, e.Seq
		}
		if err := scanner.Err(); err != nil {
			return lines, last, fmt.Errorf("%s: %w", filepath.Base(file), err)
		}
	}
	return lines, last, nil
}

// Verdicts of calls that are no errors of tools.
const (
	verdictOK        = "ok"
	verdictBegun     = "begun"
	verdictCancelled = "cancelled"
)

// beginAudit writes down that a statement that writes is about to run.
func (r *request) beginAudit() error { return r.endAudit(verdictBegun, 0) }

// endAudit writes down how a call ended.
func (r *request) endAudit(verdict string, elapsed time.Duration) error {
	a := r.server.audit
	if a == nil {
		return nil
	}
	if err := a.write(r.entry(verdict, elapsed)); err != nil {
		return fmt.Errorf("the call cannot be written down in the audit: %w", err)
	}
	return nil
}

// entry is what the audit has of a request.
func (r *request) entry(verdict string, elapsed time.Duration) auditEntry {
	e := auditEntry{Time: time.Now().UTC().Format(time.RFC3339Nano), Principal: r.who.Principal, Tool: r.who.Tool,
		Database: r.args.Database, Rows: r.rows, Duration: float64(elapsed.Microseconds()) / 1000, Verdict: verdict}
	if r.database != nil {
		e.Database = r.Name
	}
	if r.args.Query != "" {
		sum := sha256.Sum256([]byte(r.args.Query))
		e.SHA256 = hex.EncodeToString(sum[:])
		e.Statement = strings.ToValidUTF8(r.args.Query, "\ufffd")
		if r.server.audit.options.Statements == "fingerprint" {
			e.Statement = "" // of an unknown dialect nothing is known to be no value
			if r.database != nil {
				e.Statement = r.dialect().Fingerprint(r.args.Query)
			}
		}
	}
	return e
}
