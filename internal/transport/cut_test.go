package transport

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/internal/mcptest"
	"github.com/mcpool-dev/mcpool/rpc"
)

// A frame that is cut anywhere is an error, never a shorter answer. So each
// response is sent up to each of its bytes, and then the connection closed as
// properly as a server closes it that has said all.

// answerFrames are answers in which some part may look whole; ID stands for
// the id.
var answerFrames = []string{
	`{"jsonrpc":"2.0","id":ID,"result":{}}`,
	` { "result" : {"a":{"b":[{},{"id":ID}]},"n":12345} , "id":ID, "jsonrpc":"2.0"} `,
	`{"jsonrpc":"2.0","id":ID,"error":{"code":-32000,"message":"no}","data":{}}}`,
}

// A carried is an answer as it goes over the wire, and from how many bytes on
// it is whole.
type carried struct {
	raw   string
	whole int
}

func packed(frame string) string {
	var out bytes.Buffer
	// Not compressed, so that what is cut off is all that is missing; and a
	// writer that compresses is slow to make.
	w, _ := gzip.NewWriterLevel(&out, gzip.NoCompression) // a valid level
	_, _ = io.WriteString(w, frame)
	_ = w.Close()
	return out.String()
}

// chunked writes a body as chunks of at most 16 bytes.
func chunked(body string) string {
	var out strings.Builder
	for len(body) > 0 {
		n := min(16, len(body))
		fmt.Fprintf(&out, "%x\r\n%s\r\n", n, body[:n])
		body = body[n:]
	}
	return out.String() + "0\r\n\r\n"
}

// carriers are the ways in which an answer can come over HTTP.
var carriers = map[string]func(frame string) carried{
	"length": func(frame string) carried {
		return respond("application/json", "Content-Length: "+strconv.Itoa(len(frame)), frame, 0)
	},
	"chunks": func(frame string) carried {
		return respond("application/json", "Transfer-Encoding: chunked", chunked(frame), 0)
	},
	"until the end": func(frame string) carried {
		return respond("application/json", "Connection: close", frame, len(frame)-len(strings.TrimRight(frame, " ")))
	},
	"gzip, length": func(frame string) carried {
		body := packed(frame)
		return respond("application/json", "Content-Encoding: gzip\r\nContent-Length: "+strconv.Itoa(len(body)), body, 0)
	},
	"gzip, chunks": func(frame string) carried {
		return respond("application/json", "Content-Encoding: gzip\r\nTransfer-Encoding: chunked", chunked(packed(frame)), 0)
	},
	"gzip, until the end": func(frame string) carried {
		return respond("application/json", "Content-Encoding: gzip\r\nConnection: close", packed(frame), 0)
	},
	"event": func(frame string) carried {
		return respond("text/event-stream", "Connection: close", "id: 1\ndata: "+frame+"\nevent: message\n\n", 0)
	},
	"event, many lines": func(frame string) carried {
		return respond("text/event-stream", "Connection: close", "data:"+strings.ReplaceAll(frame, ",", ",\r\ndata:")+"\r\n\r\n", 1) // CR is enough
	},
	"event, chunks": func(frame string) carried {
		const behind = "\r\n0\r\n\r\n"
		body := "data: " + frame + "\n\n"
		return respond("text/event-stream", "Transfer-Encoding: chunked", fmt.Sprintf("%x\r\n%s", len(body), body)+behind, len(behind))
	},
}

// respond writes a response. The last spare bytes of its body are not needed.
func respond(kind, header, body string, spare int) carried {
	raw := "HTTP/1.1 200 OK\r\nContent-Type: " + kind + "\r\n" + header + "\r\n\r\n" + body
	return carried{raw, len(raw) - spare}
}

func TestAnswerCutAtAnyByte(t *testing.T) {
	for name, carry := range carriers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var frame string
			var cut int
			var sent carried
			server := httptest.NewServer(&mcptest.Server{Fault: onMethod("tools/list", func(w http.ResponseWriter, r *http.Request) {
				sent = carry(strings.ReplaceAll(frame, "ID", string(mcptest.ID(r))))
				socket, _, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.WriteString(socket, sent.raw[:min(cut, len(sent.raw))])
				_ = socket.Close()
			})})
			t.Cleanup(server.Close)
			conn := open(t, newHTTP(t, server.URL, HTTPOptions{}), Legacy)
			for _, frame = range answerFrames {
				for cut = 0; cut == 0 || cut <= len(sent.raw); cut++ {
					answer, err := conn.Call(t.Context(), rpc.Call{Method: "tools/list"}, nil)
					if got := sent.raw[:min(cut, len(sent.raw))]; cut < sent.whole {
						if fault := (*Failure)(nil); !asFailure(err, &fault) || fault.Fate != MayHaveRun || fault.Dead {
							t.Fatalf("%q was answered with %s, %v", got, answer.Bytes(), err)
						}
					} else if !isWhole(answer.Bytes(), err) {
						t.Fatalf("%q was answered with %s, %v", got, answer.Bytes(), err)
					}
				}
			}
		})
	}
}

func asFailure(err error, to **Failure) bool {
	failure, ok := err.(*Failure)
	*to = failure
	return ok
}

// isWhole reports whether a call was answered by all of a frame.
func isWhole(result []byte, err error) bool {
	if said, ok := err.(*rpc.Error); ok {
		return said.Code == -32000 && said.Message == "no}" && string(said.Data) == "{}"
	}
	return err == nil && (string(result) == "{}" || strings.HasSuffix(string(result), `"n":12345}`))
}

// A child that exits in the middle of a line has given no answer. One that
// exits with all of it written but the newline has: what is left out of a JSON
// object is never one, so nothing that is missing could have changed it.
func TestLineCutAtAnyByte(t *testing.T) {
	const script = `read a; printf '%s\n' "$OPENED"; read b; read c; printf '%s' "$CUT"`
	const opened = `{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-11-25"}}`
	for _, frame := range answerFrames {
		frame = strings.ReplaceAll(frame, "ID", "2")
		whole := len(strings.TrimRight(frame, " "))
		for cut := range len(frame) + 1 {
			endpoint, err := Stdio(Command{Path: "/bin/sh", Args: []string{"-c", script},
				Env: []string{"OPENED=" + opened, "CUT=" + frame[:cut]}})
			if err != nil {
				t.Fatal(err)
			}
			conn, err := endpoint.Open(t.Context(), knownAs(Legacy), rpc.Capabilities{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			answer, err := conn.Call(t.Context(), rpc.Call{Method: "tools/list"}, nil)
			if fault := (*Failure)(nil); cut < whole {
				if !asFailure(err, &fault) || fault.Fate != MayHaveRun || !fault.Dead {
					t.Errorf("%q was answered with %s, %v", frame[:cut], answer.Bytes(), err)
				}
			} else if !isWhole(answer.Bytes(), err) {
				t.Errorf("%q was answered with %s, %v", frame[:cut], answer.Bytes(), err)
			}
			conn.Close(t.Context())
			endpoint.Close()
		}
	}
}

// The proof for a line without its end: no prefix of a message is a message.
func TestNoPrefixOfAMessageIsOne(t *testing.T) {
	for _, frame := range answerFrames {
		frame = strings.TrimRight(strings.ReplaceAll(frame, "ID", "2"), " ")
		for cut := range len(frame) {
			if _, err := jsonrpc.Parse([]byte(frame[:cut])); err == nil {
				t.Errorf("%q is a message", frame[:cut])
			}
		}
	}
}
