package rpc

import (
	"encoding/json"
	"fmt"
)

// Codes of protocol errors: those of JSON-RPC 2.0 section 5.1, then those of
// the MCP specification 2026-07-28, basic/index "Error Codes".
const (
	CodeParse          = -32700 // the frame is not JSON
	CodeInvalidRequest = -32600 // the frame is not a request
	CodeMethodNotFound = -32601
	CodeInvalidParams  = -32602
	CodeInternal       = -32603

	CodeHeaderMismatch     = -32020 // a header does not say what the body says
	CodeMissingCapability  = -32021
	CodeUnsupportedVersion = -32022 // data names the versions that are supported
)

// An Error is an error of the protocol: the server understood the request and
// answered that it failed. It is an answer, not a loss: the connection is
// well and nothing is tried again.
type Error struct {
	Code    int
	Message string
	Data    json.RawMessage // nil for none
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s (code %d)", e.Message, e.Code)
}

// Errorf makes an Error without data.
func Errorf(code int, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}
