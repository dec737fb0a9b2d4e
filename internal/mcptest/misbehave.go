package mcptest

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
)

// What the tool misbehave of a child does with the call it is to answer.
const (
	StrayLine         = "stray line"   // writes a line that is no message, and answers
	StrayPart         = "stray part"   // writes the beginning of a line, and answers on the same
	CutAnswer         = "cut answer"   // writes half of the answer, and exits
	SlowAnswer        = "slow answer"  // writes half of the answer, and the rest after ms
	KillSelf          = "kill self"    // kills itself
	FloodStderr       = "flood stderr" // writes 4 MiB to stderr, and answers
	FloodStdout       = "flood stdout" // sends 20,000 notifications, and answers
	LargeAnswer       = "large answer" // answers with so many MiB as steps says
	LargeAnswerIDLast = "large answer, id last"
	LargeAnswerNoID   = "large answer, no id"
	LargeRequest      = "large request" // sends a request of so many MiB, and answers when it is answered
	LargeLine         = "large line"    // writes a line of so many MiB that is no message, and answers
	UnknownID         = "unknown id"    // answers under an id that nobody has
	InvalidUTF8       = "invalid UTF-8" // answers with a text that is none
	AnswerTwice       = "answer twice"
	AnswerInBatch     = "answer in batch" // answers in an array, behind a notification
)

// misbehave answers a call of the tool of that name, and reports whether it
// knows how.
func (c *childServer) misbehave(m *jsonrpc.Message, args *arguments) bool {
	const note = `{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"a note"}}`
	result := json.RawMessage(`{"content":[],"structuredContent":{"text":"misbehaved"}}`)
	frame := string(jsonrpc.AppendResult(nil, m.ID, result))
	large := func() string { return `{"text":"` + strings.Repeat("x", args.Steps<<20) + `"}` }
	switch args.Text {
	case StrayLine:
		c.raw("2026-01-01 INFO {} about to answer\n" + frame + "\n")
	case StrayPart:
		c.raw("progress: 10% ")
		c.raw(frame + "\n")
	case CutAnswer:
		c.raw(frame[:len(frame)/2])
		os.Exit(6)
	case SlowAnswer:
		c.mu.Lock()
		defer c.mu.Unlock()
		_, _ = os.Stdout.WriteString(frame[:len(frame)/2])
		time.Sleep(time.Duration(args.MS) * time.Millisecond)
		_, _ = os.Stdout.WriteString(frame[len(frame)/2:] + "\n")
	case KillSelf:
		self, err := os.FindProcess(os.Getpid())
		if err == nil {
			err = self.Signal(syscall.SIGKILL)
		}
		panic(err)
	case FloodStderr:
		line := strings.Repeat("x", 127) + "\n"
		for range 4 << 20 / len(line) {
			fmt.Fprint(os.Stderr, line)
		}
		c.raw(frame + "\n")
	case FloodStdout:
		for range 20_000 {
			c.raw(note + "\n")
		}
		c.raw(frame + "\n")
	case LargeAnswer:
		c.raw(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":%s}`+"\n", m.ID, large()))
	case LargeAnswerIDLast:
		c.raw(fmt.Sprintf(`{"result":%s,"jsonrpc":"2.0","id":%s}`+"\n", large(), m.ID))
	case LargeAnswerNoID:
		c.raw(fmt.Sprintf(`{"result":%s}`+"\n", large()))
	case LargeRequest:
		c.mu.Lock()
		reply := make(chan jsonrpc.Message, 1)
		c.asked[`"large"`] = reply
		c.mu.Unlock()
		c.raw(fmt.Sprintf(`{"jsonrpc":"2.0","id":"large","method":"sampling/createMessage","params":%s}`+"\n", large()))
		<-reply
		c.raw(frame + "\n")
	case LargeLine:
		c.raw(strings.Repeat("x", args.Steps<<20) + "\n" + frame + "\n")
	case UnknownID:
		c.raw(string(jsonrpc.AppendResult(nil, json.RawMessage("987654321"), result)) + "\n")
	case InvalidUTF8:
		c.raw(strings.Replace(frame, "misbehaved", "misbehaved \xff\xc0", 1) + "\n")
	case AnswerTwice:
		c.raw(frame + "\n" + frame + "\n")
	case AnswerInBatch:
		c.raw("[" + note + "," + frame + "]\n")
	default:
		return false
	}
	return true
}

// raw writes what may be no message.
func (c *childServer) raw(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = os.Stdout.WriteString(text)
}
