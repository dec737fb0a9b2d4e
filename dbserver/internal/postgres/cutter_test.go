package postgres

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// message is one as a server sends it.
func message(kind byte, body []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(body)+4)), body...)
}

// dataRow is a row with values of such lengths; a negative one is NULL.
func dataRow(lengths ...int) []byte {
	body := binary.BigEndian.AppendUint16(nil, uint16(len(lengths)))
	for i, n := range lengths {
		body = binary.BigEndian.AppendUint32(body, uint32(int32(n)))
		body = append(body, bytes.Repeat([]byte{'a' + byte(i%26)}, max(n, 0))...)
	}
	return message('D', body)
}

// rowValues takes a row apart, and returns what is left of each value as its
// kept and its whole length.
func rowValues(t *testing.T, row []byte) string {
	t.Helper()
	if got := int(binary.BigEndian.Uint32(row[1:])); got != len(row)-1 {
		t.Fatalf("the length is %d and should be %d", got, len(row)-1)
	}
	var b strings.Builder
	rest := row[7:]
	for range binary.BigEndian.Uint16(row[5:]) {
		n := int(int32(binary.BigEndian.Uint32(rest)))
		rest = rest[4:]
		if n < 0 {
			b.WriteString("NULL ")
			continue
		}
		kept, length := whole(rest[:n])
		fmt.Fprintf(&b, "%d/%d ", len(kept), length)
		rest = rest[n:]
	}
	if len(rest) > 0 {
		t.Fatalf("%d bytes are left", len(rest))
	}
	return strings.TrimSpace(b.String())
}

func TestCutterLeavesWhatIsShort(t *testing.T) {
	var sent []byte
	for i := range 2000 {
		sent = append(sent, message('N', bytes.Repeat([]byte{'D'}, i))...)
		sent = append(sent, dataRow(i, -1, 0, 7)...)
		sent = append(sent, message('Z', []byte{'I'})...)
	}
	for name, r := range map[string]io.Reader{"at once": bytes.NewReader(sent), "by bytes": iotest.OneByteReader(bytes.NewReader(sent)),
		"by halves": iotest.HalfReader(bytes.NewReader(sent))} {
		if got, err := io.ReadAll(newCutter(r)); err != nil || !bytes.Equal(got, sent) {
			t.Errorf("%s: other bytes came out (%v)", name, err)
		}
	}
}

func TestCutterCutsLongValues(t *testing.T) {
	for _, c := range []struct {
		lengths []int
		want    string
	}{
		{[]int{valueMost - 10}, "1048566/1048566"},
		{[]int{valueMost, 3}, "1048576/1048576 3/3"},
		{[]int{5, 3 * valueMost, -1, 2}, "5/5 1048576/3145728 NULL 2/2"},
		{[]int{2 * valueMost, 2 * valueMost, 2 * valueMost, 2 * valueMost, 2 * valueMost, 100}, "1048576/2097152 1048576/2097152 1048576/2097152 1048576/2097152 1024/2097152 100/100"},
	} {
		sent := dataRow(c.lengths...)
		for name, r := range map[string]io.Reader{"at once": bytes.NewReader(sent), "by halves": iotest.HalfReader(bytes.NewReader(sent))} {
			tail := message('Z', []byte{'I'})
			got, err := io.ReadAll(newCutter(io.MultiReader(r, bytes.NewReader(tail))))
			if err != nil || !bytes.HasSuffix(got, tail) {
				t.Fatalf("%s: the next message is not there (%v)", name, err)
			}
			if values := rowValues(t, got[:len(got)-len(tail)]); values != c.want {
				t.Errorf("%s: got %s, want %s", name, values, c.want)
			}
		}
	}
}

func TestCutterSaysThatAMessageBroke(t *testing.T) {
	for _, sent := range [][]byte{{'D', 0}, dataRow(2 * valueMost)[:valueMost], dataRow(2 * valueMost)[:8]} {
		if _, err := io.ReadAll(newCutter(bytes.NewReader(sent))); err != io.ErrUnexpectedEOF {
			t.Errorf("got %v", err)
		}
	}
}
