package dbserver

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/mcpool-dev/mcpool/dbserver/internal/engine"
	"github.com/mcpool-dev/mcpool/dbserver/internal/result"
	"github.com/mcpool-dev/mcpool/rpc"
)

// tokenTime is how long the token of a preview is good.
const tokenTime = 2 * time.Minute

// maxShown is the longest statement that a person can be asked about, and as
// much for all its values, in bytes; of one value maxValueShown are shown.
const (
	maxShown      = 8000
	maxValueShown = 200
)

// A written is what write_data tells.
type written struct {
	Database  string          `json:"database"`
	Class     string          `json:"class"`
	Affected  int64           `json:"affected"`
	Committed bool            `json:"committed"`
	Previewed bool            `json:"previewed"` // the statement was run, and rolled back where it is not committed
	Token     string          `json:"token,omitempty"`
	ExpiresAt string          `json:"expires_at,omitempty"`
	Columns   json.RawMessage `json:"columns,omitempty"` // of RETURNING
	Rows      json.RawMessage `json:"rows,omitempty"`
	Notices   []string        `json:"notices"`

	text    []byte // of the rows
	counted int64  // rows that the cap is held to
}

// writeData serves write_data. A statement is run and rolled back first. Then a
// person is asked, if the client can; else a token comes back, with which the
// same call commits.
func (r *request) writeData(ctx context.Context) ([]byte, error) {
	if r.args.Token != "" {
		rows, err := r.redeem(r.args.Token)
		if err != nil {
			return nil, err
		}
		return r.commit(ctx, r.upTo(rows))
	}
	preview, err := r.write(ctx, r.writing(false))
	if err != nil {
		return nil, err
	}
	if preview.Previewed && preview.counted == 0 && preview.Class != classDDL {
		preview.Notices = append(preview.Notices, "nothing would change, so there is nothing to commit")
		return preview.encode()
	}
	if r.call.Events != nil && r.call.Caller.Capabilities.Elicitation {
		if err := r.confirm(ctx, preview); err != nil {
			return nil, err
		}
		return r.commit(ctx, r.upTo(preview.counted))
	}
	expires := time.Now().Add(tokenTime)
	preview.Token = r.server.sealer.Seal(expires, r.bound(), strconv.FormatInt(preview.counted, 10))
	preview.ExpiresAt = expires.UTC().Format(time.RFC3339)
	preview.Notices = append(preview.Notices, "nothing is changed yet: to commit, make the same call with this token")
	return preview.encode()
}

const classDDL = "ddl"

// writing is what a statement of the request may do.
func (r *request) writing(commit bool) engine.Write {
	return engine.Write{Commit: commit, RequireWhere: r.RequireWhere == nil || *r.RequireWhere, MaxRows: r.MaxAffected, DDL: r.AllowDDL}
}

// upTo is what a statement may do whose preview was counted as so many rows.
func (r *request) upTo(rows int64) engine.Write {
	w := r.writing(true)
	if rows > 0 {
		w.MaxRows = rows
	}
	return w
}

// write runs the statement of the request.
func (r *request) write(ctx context.Context, w engine.Write) (*written, error) {
	limit, _ := r.rowLimit()
	out := result.NewWriter(result.Limits{Rows: limit, Bytes: r.MaxBytes, Cell: r.MaxCellBytes}, func(_, _ []byte) bool { return true })
	defer out.Release()
	done, err := r.engine.Write(ctx, r.who, engine.Statement{SQL: r.args.Query, Params: r.args.Params, Timeout: r.timeout()}, w, out)
	if err != nil {
		return nil, err
	}
	told := &written{Database: r.Name, Class: done.Class, Affected: done.Affected, Committed: w.Commit,
		Previewed: !done.Uncertain, Notices: []string{}, counted: max(done.Affected, done.Counted)}
	if done.Uncertain && !w.Commit {
		told.Notices = append(told.Notices, "this database cannot roll such a statement back, so it was checked and not run")
	}
	if told.counted > done.Affected {
		told.Notices = append(told.Notices, fmt.Sprintf("with those that triggers, foreign keys and indexes change it is %d rows", told.counted))
	}
	if page := out.Page(); len(page.Columns) > 0 {
		a := pageAnswer{Page: page, maxBytes: r.MaxBytes, maxCell: r.MaxCellBytes}
		told.Columns = append(a.appendColumns([]byte{'['}), ']')
		told.Rows = append(a.appendRows([]byte{'['}), ']')
		told.text = bytes.Clone(page.Text)
		told.Notices = append(told.Notices, a.notes()...)
	}
	r.rows = done.Affected
	return told, nil
}

// commit runs the statement and keeps what it did.
func (r *request) commit(ctx context.Context, w engine.Write) ([]byte, error) {
	if err := r.beginAudit(); err != nil {
		return nil, err
	}
	told, err := r.write(ctx, w)
	if err != nil {
		var limit *engine.Error
		if errors.As(err, &limit) && limit.Code == engine.AffectedLimit && w.MaxRows < r.MaxAffected {
			limit.Message = fmt.Sprintf("the preview affected %d rows, and now the statement would affect more: nothing was changed", w.MaxRows)
			limit.Next = "preview it again, without a token"
		}
		return nil, err
	}
	return told.encode()
}

// bound is what a token is for: this principal, database, statement and values.
func (r *request) bound() string {
	sum := sha256.New()
	for _, part := range []string{r.who.Principal, r.Name, r.args.Query, string(mustMarshal([]any(r.args.Params)))} {
		fmt.Fprintf(sum, "%d:%s", len(part), part)
	}
	return "write_data " + hex.EncodeToString(sum.Sum(nil))
}

// redeem returns how many rows the preview was counted as that gave the token. A
// token is good once on this server.
func (r *request) redeem(token string) (int64, error) {
	said, until, ok := r.server.sealer.Open(token, r.bound(), 1)
	if ok && r.server.spent.first(token, until) {
		if n, err := strconv.ParseInt(said[0], 10, 64); err == nil {
			return n, nil
		}
	}
	return 0, &engine.Error{Code: engine.Confirmation, Layer: engine.LayerPolicy,
		Message: "the token is not of a preview of this statement with these params, was used, or has expired",
		Next:    "call write_data without a token for a new preview"}
}

// confirm asks the person at the client. Nothing is held in the database
// meanwhile.
func (r *request) confirm(ctx context.Context, preview *written) error {
	statement, values := plain(r.args.Query), r.shownValues()
	if len(statement) > maxShown || len(values) > maxShown {
		return &engine.Error{Code: engine.Confirmation, Layer: engine.LayerInput,
			Message: fmt.Sprintf("a person has to confirm the statement and can be shown %d bytes of it, and as many of its values; these are %d and %d",
				maxShown, len(statement), len(values)),
			Next: "do it in parts; long values can be sent as params, of which a part is shown"}
	}
	change := fmt.Sprintf("change %d rows of", preview.counted)
	if !preview.Previewed || preview.Class == classDDL {
		change = "change the schema of"
	}
	message := fmt.Sprintf("Commit this statement? It would %s database %s.\n\n%s", change, r.Name, statement)
	if values != "" {
		message += "\n\nValues: " + values
	}
	answer, err := r.call.Events.Ask(ctx, "elicitation/create", mustMarshal(map[string]any{
		"mode": "form", "message": message,
		"requestedSchema": map[string]any{"type": "object", "properties": map[string]any{
			"commit": map[string]any{"type": "boolean", "title": "Commit", "default": false},
		}, "required": []string{"commit"}},
	}))
	var refused *rpc.Error
	if err != nil && !errors.As(err, &refused) {
		return err
	}
	var said struct {
		Action  string `json:"action"`
		Content struct {
			Commit bool `json:"commit"`
		} `json:"content"`
	}
	if err == nil {
		err = json.Unmarshal(answer, &said)
	}
	if err == nil && said.Action == "accept" && said.Content.Commit {
		return nil
	}
	return &engine.Error{Code: engine.Confirmation, Layer: engine.LayerPolicy,
		Message: "the statement was not confirmed, and nothing was changed", Next: "ask the user what to do instead"}
}

var (
	blankLines = regexp.MustCompile(`[ \t]*[\r\n][ \t\r\n]*`)
	blanks     = regexp.MustCompile(`[ \t]{2,}|\t`)
)

// plain is a text as a person should see it: without space that moves a part of
// it out of sight, and with the numbers of characters that are not seen or turn
// the order of others around.
func plain(s string) string {
	s = blanks.ReplaceAllString(blankLines.ReplaceAllString(s, "\n"), " ")
	var b strings.Builder
	for _, r := range s {
		if r == '\n' || unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, "<U+%04X>", r)
		}
	}
	return b.String()
}

// shownValues are the values of the request as a person is shown them, each with
// as much of it that one does not hide the next.
func (r *request) shownValues() string {
	shown := make([]string, len(r.args.Params))
	for i, p := range r.args.Params {
		value, cut := result.Cut(string(mustMarshal(p)), maxValueShown)
		if shown[i] = plain(value); cut {
			shown[i] += "…"
		}
	}
	return strings.Join(shown, ", ")
}

// encode returns the result of tools/call.
func (w *written) encode() ([]byte, error) {
	var b strings.Builder
	switch {
	case w.Committed:
		fmt.Fprintf(&b, "Committed: %s, %d rows affected.\n", w.Class, w.Affected)
	case w.Previewed:
		fmt.Fprintf(&b, "Preview, rolled back: %s, %d rows would be affected.\n", w.Class, w.Affected)
	default:
		fmt.Fprintf(&b, "Not run: %s.\n", w.Class)
	}
	if w.Token != "" {
		fmt.Fprintf(&b, "Token: %s\n", w.Token)
	}
	for _, n := range w.Notices {
		fmt.Fprintf(&b, "Notice: %s\n", n)
	}
	if len(w.Rows) > 0 {
		var text string
		if err := json.Unmarshal(append(append([]byte{'"'}, w.text...), '"'), &text); err != nil {
			return nil, err
		}
		b.WriteString(untrusted + text)
	}
	return marshalResult(b.String(), w)
}
