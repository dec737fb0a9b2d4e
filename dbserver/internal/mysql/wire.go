package mysql

import (
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"reflect"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/go-sql-driver/mysql"
)

// A wire is the connection below the driver, and below TLS. It bounds what is
// read at once: the driver reads each row whole, however large.
type wire struct {
	net.Conn
	left atomic.Int64 // bytes that may be read before the next allow
	over atomic.Bool  // more than that were there
}

var errOver = errors.New("the server sent more than is read at once")

// allow lets so many bytes be read from now on.
func (w *wire) allow(bytes int64) { w.left.Store(bytes) }

func (w *wire) Read(p []byte) (int, error) {
	if w.left.Load() <= 0 {
		w.over.Store(true)
		return 0, errOver
	}
	n, err := w.Conn.Read(p)
	w.left.Add(-int64(n))
	return n, err
}

var errDriver = errors.New("the driver's connections are not as they were when this was written")

// linkOf returns what a connection of the driver writes packets to: the wire, or
// TLS over it. The driver does not export it, nor any way to send
// COM_RESET_CONNECTION, without which a session cannot be given on clean; a test
// finds out if that changes.
func linkOf(c driver.Conn) (net.Conn, error) {
	v := reflect.ValueOf(c)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return nil, errDriver
	}
	field := v.Elem().FieldByName("netConn")
	if !field.IsValid() {
		return nil, errDriver
	}
	link, ok := reflect.NewAt(field.Type(), unsafe.Pointer(field.UnsafeAddr())).Elem().Interface().(net.Conn) // #nosec G103 -- read where it is, by its own type
	if !ok || link == nil {
		return nil, errDriver
	}
	return link, nil
}

// Commands of the protocol
// (https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_command_phase.html).
const (
	comUse   = 0x02
	comQuery = 0x03
	comReset = 0x1f // of MySQL 5.7.3 and MariaDB 10.2.4
)

// query is the command that runs a statement.
func query(statement string) string { return string(rune(comQuery)) + statement }

// send sends commands of which each is answered by an OK, at once and between two
// of the driver's. The error is that of the first that is not.
func send(link net.Conn, timeout time.Duration, commands ...string) error {
	if err := link.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	var packets []byte
	for _, c := range commands {
		packets = append(packets, byte(len(c)), byte(len(c)>>8), byte(len(c)>>16), 0) // #nosec G115 -- statements of our own, far below the 16 MiB of a packet
		packets = append(packets, c...)
	}
	if _, err := link.Write(packets); err != nil {
		return err
	}
	var first error
	for range commands {
		err := readOK(link)
		if err != nil && numberOf(err) == 0 {
			return err
		}
		if first == nil {
			first = err
		}
	}
	return errors.Join(first, link.SetDeadline(time.Time{}))
}

// readOK reads the answer to a command.
func readOK(link net.Conn) error {
	var header [4]byte
	if _, err := io.ReadFull(link, header[:]); err != nil {
		return err
	}
	answer := make([]byte, int(header[0])|int(header[1])<<8|int(header[2])<<16)
	if _, err := io.ReadFull(link, answer); err != nil {
		return err
	}
	switch {
	case len(answer) > 0 && answer[0] == 0:
		return nil
	case len(answer) > 8 && answer[0] == 0xff:
		return &mysql.MySQLError{Number: binary.LittleEndian.Uint16(answer[1:]), Message: string(answer[9:])}
	}
	return errors.New("an answer of the server is not understood")
}
