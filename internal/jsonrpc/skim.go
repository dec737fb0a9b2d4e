package jsonrpc

import (
	"bytes"
	"encoding/json"
)

// Large is the least size, in bytes, of the frames that Skim reads the ends of,
// and of the results that AppendResult writes the id behind.
const Large = 8 << 10

// ends is how much of each end of a large frame is looked at.
const ends = 512

// Skim reads a frame as [Parse] does, but of a large response with a result the
// two ends alone: what lies between is found neither valid nor to be one object.
// The frame has to have come whole, so that its end is where the server put it.
// A result that was skimmed is still no way to say more than the response it
// came in, see [AppendResult]; whoever looks for members in it scans it.
func Skim(frame []byte) (Message, error) {
	if len(frame) >= Large {
		if m, ok := skim(frame); ok {
			return m, nil
		}
	}
	return Parse(frame)
}

// skim reads a response that has nothing but its version and its id beside its
// result. In a frame that is valid JSON the last brace closes the frame, so the
// members before it are its own, back to the brace that closes the result: none
// of that can be within a string, where each quote has a backslash before it.
func skim(frame []byte) (m Message, ok bool) {
	start := skipSpace(frame[:ends], 0)
	if start == ends || frame[start] != '{' {
		return m, false
	}
	versioned := false
	i, ok := start+1, true
	for {
		var key []byte
		if key, i, ok = skimKey(frame[:ends], i); !ok {
			return m, false
		}
		if string(key) == `"result"` {
			break
		}
		if i, ok = m.skimMember(frame[:ends], key, i, &versioned); !ok || i == ends || frame[i] != ',' {
			return m, false
		}
		i++
	}
	result := i
	if result == ends || frame[result] != '{' {
		return m, false
	}

	end := skippedBack(frame, len(frame)) - 1
	if frame[end] != '}' {
		return m, false
	}
	last := len(frame) - ends
	after := last + bytes.LastIndexByte(frame[last:end], '}') + 1 // behind the result
	if after == last {
		return m, false
	}
	for i = skipSpace(frame, after); i < end; {
		var key []byte
		if frame[i] != ',' {
			return m, false
		}
		if key, i, ok = skimKey(frame[:end], i+1); !ok {
			return m, false
		}
		if i, ok = m.skimMember(frame[:end], key, i, &versioned); !ok {
			return m, false
		}
	}
	m.Result = frame[result:after:after]
	return m, versioned && m.ID != nil
}

// skimKey reads a key and the colon behind it, and returns where the value
// begins.
func skimKey(data []byte, i int) (key []byte, value int, ok bool) {
	i = skipSpace(data, i)
	if i >= len(data) || data[i] != '"' {
		return nil, i, false
	}
	end, err := skipString(data, i)
	if err != nil {
		return nil, i, false
	}
	colon := skipSpace(data, end)
	if colon >= len(data) || data[colon] != ':' {
		return nil, i, false
	}
	return data[i:end], skipSpace(data, colon+1), true
}

// skimMember takes in the version or the id, which may be there once, and
// returns what is behind it.
func (m *Message) skimMember(data, key []byte, i int, versioned *bool) (next int, ok bool) {
	end, err := skipValue(data, i, 1)
	if err != nil {
		return i, false
	}
	value := data[i:end:end]
	switch string(key) {
	case `"jsonrpc"`:
		ok = !*versioned && string(value) == `"2.0"`
		*versioned = true
	case `"id"`:
		ok = m.ID == nil && IsID(value)
		m.ID = json.RawMessage(value)
	}
	return skipSpace(data, end), ok
}

// skippedBack returns the offset behind what is not space before i.
func skippedBack(data []byte, i int) int {
	for i > 1 && (data[i-1] == ' ' || data[i-1] == '\n' || data[i-1] == '\t' || data[i-1] == '\r') {
		i--
	}
	return i
}
