package postgres

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// A wire speaks the extended protocol on a connection
// (https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-EXT-QUERY):
// statements are queued, sent together, and answered in order. pgconn's own
// pipelines cannot run a part of a portal, and FETCH, which can be sent through
// them, makes the server compute all rows of a chunk before it sends the first.
type wire struct {
	pg     *pgconn.PgConn
	in     *stream // from which pg reads
	queued bool    // something is queued behind the last point of synchronization
	split  bool    // the rows of the cursor come in two parts
	syncs  int     // points of synchronization that were not reached yet
	open   *answer // that is read at present; nil if none is
	heard  bool    // the server has answered anything
	ending bool    // what ends the transaction and resets the session is queued or sent
	clean  bool    // the server has done that
}

// portal is the cursor that queries are declared as.
const portal = "mcpool"

// send queues a statement.
func (w *wire) send(q query) {
	w.queued = true
	f := w.pg.Frontend()
	f.SendParse(&pgproto3.Parse{Query: q.sql})
	f.SendBind(&pgproto3.Bind{Parameters: q.params})
	f.SendDescribe(&pgproto3.Describe{ObjectType: 'P'})
	f.SendExecute(&pgproto3.Execute{})
}

// simple queues statements of ours that return no rows, with a point of
// synchronization.
func (w *wire) simple(sql string) {
	w.pg.Frontend().SendQuery(&pgproto3.Query{String: sql})
	w.syncs++
}

// fetch queues the reading of at most most rows of the cursor, zero for all. The
// first ones do not wait in the server for others to be computed.
func (w *wire) fetch(first, most int) {
	w.queued = true
	if most > 0 {
		first = min(first, most)
	}
	f := w.pg.Frontend()
	f.SendDescribe(&pgproto3.Describe{ObjectType: 'P', Name: portal})
	f.SendExecute(&pgproto3.Execute{Portal: portal, MaxRows: atMost(first)})
	if most == 0 || most > first {
		f.Send(&pgproto3.Flush{})
		f.SendExecute(&pgproto3.Execute{Portal: portal, MaxRows: atMost(max(most-first, 0))})
		w.split = true
	}
}

// atMost is a number of rows as the protocol has it.
func atMost(rows int) uint32 {
	return uint32(min(rows, math.MaxInt32)) // #nosec G115 -- bounded, and never negative
}

// sync queues a point of synchronization: behind an error the server goes on
// there.
func (w *wire) sync() {
	w.pg.Frontend().SendSync(&pgproto3.Sync{})
	w.queued = false
	w.syncs++
}

// flush sends what is queued, with a point of synchronization.
func (w *wire) flush() error {
	if w.queued {
		w.sync()
	}
	return w.pg.Frontend().Flush()
}

// end queues what ends the transaction and takes away whatever a caller has left
// in the session: settings, temporary tables, locks, prepared statements, what
// it listens to. It is done also behind an error.
func (w *wire) end() {
	if w.queued {
		w.sync()
	}
	w.simple("ROLLBACK")
	w.simple("DISCARD ALL") // which no transaction may have around it
	w.ending = true
}

// receive returns the next message that is about a statement. It holds until the
// one after it.
func (w *wire) receive() (pgproto3.BackendMessage, error) {
	for {
		m, err := w.pg.ReceiveMessage(context.Background())
		if err != nil {
			return nil, err
		}
		w.heard = true
		switch m := m.(type) {
		case *pgproto3.ReadyForQuery:
			w.syncs--
			return m, nil
		case *pgproto3.ErrorResponse:
			return nil, pgconn.ErrorResponseToPgError(m)
		case *pgproto3.NoticeResponse, *pgproto3.ParameterStatus, *pgproto3.NotificationResponse:
		default:
			return m, nil
		}
	}
}

// An answer is what a statement returns.
type answer struct {
	row    // the one read last; it holds until the next
	w      *wire
	fields []pgproto3.FieldDescription
	tag    string
	ended  bool
	err    error
}

// errSilent is that nothing was asked of which this could be the answer.
var errSilent = errors.New("the database has not answered")

// answer reads the beginning of the next answer. The one before is read to its
// end.
func (w *wire) answer() (*answer, error) {
	if w.open != nil {
		if _, err := w.open.close(); err != nil {
			return nil, err
		}
	}
	for {
		if w.syncs == 0 {
			return nil, errSilent
		}
		m, err := w.receive()
		if err != nil {
			return nil, err
		}
		switch m := m.(type) {
		case *pgproto3.RowDescription:
			a := &answer{w: w, fields: make([]pgproto3.FieldDescription, len(m.Fields))}
			copy(a.fields, m.Fields)
			for i := range a.fields { // the names are in the connection's buffer
				a.fields[i].Name = append([]byte(nil), a.fields[i].Name...)
			}
			w.open = a
			return a, nil
		case *pgproto3.NoData:
			w.open = &answer{w: w}
			return w.open, nil
		}
	}
}

// next reads the next row, and reports whether there is one.
func (a *answer) next() bool {
	for !a.ended {
		if a.w.in.next(&a.row) {
			if len(a.values) == len(a.fields) {
				return true
			}
			a.w.in.broken = errMessage
		}
		if err := a.w.in.broken; err != nil {
			a.ended, a.err = true, err
			break
		}
		m, err := a.w.receive()
		if err != nil {
			a.ended, a.err = true, err
			break
		}
		switch m := m.(type) {
		case *pgproto3.CommandComplete:
			a.ended, a.tag = true, string(m.CommandTag)
		case *pgproto3.PortalSuspended:
			a.ended, a.w.split = !a.w.split, false
		case *pgproto3.EmptyQueryResponse:
			a.ended = true
		default:
			a.ended, a.err = true, errSilent
		}
	}
	a.w.open = nil
	return false
}

// close reads the rest and returns the command tag.
func (a *answer) close() (tag string, err error) {
	for a.next() {
	}
	return a.tag, a.err
}

// cancel asks the server to end the statement that runs. It is asked again until
// over is closed, because one that it is told of between two messages it
// forgets. Whoever reads the answer is kept waiting for no longer than
// cancelDelay. It reports whether the server has said that it was told; if not,
// it may be told yet, and end whatever runs on the connection then.
func (w *wire) cancel(over <-chan struct{}) (told bool) {
	ctx, end := context.WithTimeout(context.Background(), mostDrained)
	defer end()
	_ = w.pg.Conn().SetDeadline(time.Now().Add(cancelDelay))
	again := time.NewTicker(cancelAgain)
	defer again.Stop()
	for {
		if err := w.pg.CancelRequest(ctx); err != nil || ctx.Err() != nil {
			return false
		}
		select {
		case <-over:
			return true
		case <-ctx.Done():
			return true
		case <-again.C:
		}
	}
}

// cancelAgain is after how long the server is asked again, and mostDrained for
// how long answers that nobody wants are read.
const (
	cancelAgain = 200 * time.Millisecond
	mostDrained = 5 * time.Second
)

// finish reads what is left to read.
func (w *wire) finish() error {
	if w.pg.IsClosed() || w.in.broken != nil {
		return errSilent
	}
	if w.open != nil && !w.open.ended { // rows that nobody wants are not sent
		over := make(chan struct{})
		close(over)
		if !w.cancel(over) {
			return errSilent
		}
	}
	if err := w.pg.Conn().SetDeadline(time.Now().Add(mostDrained)); err != nil {
		return err
	}
	if w.queued {
		if err := w.flush(); err != nil {
			return err
		}
	}
	return w.drain(true)
}

// reset ends the transaction and resets the session, unless that was done. Without
// an error the connection is good for another caller.
func (w *wire) reset() error {
	if !w.clean {
		if err := w.pg.Conn().SetDeadline(time.Now().Add(mostDrained)); err != nil {
			return err
		}
		w.end()
		if err := w.flush(); err != nil {
			return err
		}
		if err := w.drain(false); err != nil {
			return err
		}
	}
	if !w.clean || w.pg.TxStatus() != 'I' {
		return errors.New("the transaction did not end")
	}
	return w.pg.Conn().SetDeadline(time.Time{})
}

// drain reads until nothing more comes. With tolerant set, errors of statements
// are what was to be expected.
func (w *wire) drain(tolerant bool) error {
	for w.syncs > 0 {
		m, err := w.receive()
		var pg *pgconn.PgError
		if err != nil && (!tolerant || !errors.As(err, &pg) || dead(err)) {
			return err
		}
		if done, ok := m.(*pgproto3.CommandComplete); ok && string(done.CommandTag) == "DISCARD ALL" {
			w.clean = true
		}
	}
	w.open = nil
	return nil
}
