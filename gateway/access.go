package gateway

import (
	"crypto/rand"
	"log/slog"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
)

// headerRequestID names a request, in the log also.
const headerRequestID = "X-Request-Id"

const (
	// maxRequestID is the most characters of a request's id that is taken from its
	// client; one of ours has madeRequestID.
	maxRequestID  = 64
	madeRequestID = 16
	// maxAccessText bounds what an Access has of a client's own words.
	maxAccessText = 128
)

// An Access is a request over HTTP that has been answered. It has nothing of
// queries, headers and arguments, where secrets are.
type Access struct {
	// RequestID is that of the header X-Request-Id, if it is 1 to 64 letters,
	// digits, '.', '_' and '-'; else one that is made up. The client is told it.
	RequestID string
	// Method is that of HTTP.
	Method string
	// Path is that of the URL, at most 128 characters; "" where nothing is served.
	Path string
	// Call is the method of MCP, "" for none; at most 128 characters.
	Call string
	// Server is the one whose endpoint it is, or else that the call was made at;
	// "" for none, or several.
	Server string
	// Tool is the tool that was called, as the client calls it, where a server
	// was asked for it; at most 128 characters.
	Tool string
	// Principal is on whose behalf it was made; "" for that of the pools, and where
	// that is not known.
	Principal string
	// From is the address and port that it came from, as of http.Request.RemoteAddr.
	From string
	// Status is that of HTTP. 0 says that nothing could be answered.
	Status int
	// Bytes are those of the body of the answer.
	Bytes int64
	// Duration is the time from the headers of the request to the end of the
	// answer; of a stream, or of a client that joined, to its end.
	Duration time.Duration
}

// A record is the writer of a request's answer, which keeps the books.
type record struct {
	http.ResponseWriter
	Access
	began time.Time
}

// Record returns a handler that names requests as a [Gateway] does and does what h
// does, and tells of each as Options.Access is told: for what is served beside one.
// serves says at which paths that is.
func Record(h http.Handler, serves func(path string) bool, tell func(Access)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := newRecord(w, r)
		if serves(r.URL.Path) {
			rec.Path = brief(r.URL.Path)
		}
		defer rec.end(tell)
		h.ServeHTTP(rec, r)
	})
}

// NotePrincipal says on whose behalf a request is made that is answered by w, if
// that is of [Record].
func NotePrincipal(w http.ResponseWriter, principal string) {
	for {
		switch of := w.(type) {
		case *record:
			of.Principal = principal
			return
		case interface{ Unwrap() http.ResponseWriter }:
			w = of.Unwrap()
		default:
			return
		}
	}
}

// newRecord names a request, and has its answer written down.
func newRecord(w http.ResponseWriter, r *http.Request) *record {
	rec := &record{ResponseWriter: w, began: time.Now()}
	rec.Method, rec.From = r.Method, r.RemoteAddr
	if given := r.Header.Get(headerRequestID); isRequestID(given) {
		rec.RequestID = given
	} else {
		rec.RequestID = rand.Text()[:madeRequestID]
	}
	w.Header()[headerRequestID] = []string{rec.RequestID}
	return rec
}

func isRequestID(s string) bool {
	if s == "" || len(s) > maxRequestID {
		return false
	}
	for _, c := range []byte(s) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-') {
			return false
		}
	}
	return true
}

// end tells what the books have.
func (rec *record) end(tell func(Access)) {
	rec.Duration = time.Since(rec.began)
	tell(rec.Access)
}

func (rec *record) WriteHeader(status int) {
	if rec.Status == 0 && status >= http.StatusOK {
		rec.Status = status
	}
	rec.ResponseWriter.WriteHeader(status)
}

func (rec *record) Write(p []byte) (int, error) {
	if rec.Status == 0 {
		rec.Status = http.StatusOK
	}
	n, err := rec.ResponseWriter.Write(p)
	rec.Bytes += int64(n)
	return n, err
}

// Unwrap is for http.ResponseController.
func (rec *record) Unwrap() http.ResponseWriter { return rec.ResponseWriter }

// called notes what a request has asked for.
func (rec *record) called(q *request) {
	rec.Call = brief(q.method)
	switch {
	case q.endpoint.name != "":
		rec.Server = q.endpoint.name
	case q.asked != nil:
		rec.Server = q.asked.Name
	}
	if q.method == methodCallTool && q.asked != nil {
		rec.Tool = brief(jsonrpc.GetString(q.params, "name"))
	}
}

// brief cuts off what is too long for a line.
func brief(text string) string {
	if len(text) <= maxAccessText {
		return text
	}
	runes := []rune(text[:min(len(text), utf8.UTFMax*maxAccessText)])
	return string(runes[:min(len(runes), maxAccessText)])
}

// logger is the log, whose lines name the request.
func (q *request) logger() *slog.Logger {
	if q.requestID == "" {
		return q.gateway.log
	}
	return q.gateway.log.With("request_id", q.requestID)
}
