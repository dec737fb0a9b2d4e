package main

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/mcpool-dev/mcpool/internal/jsonrpc"
	"github.com/mcpool-dev/mcpool/internal/transport"
)

// A largeResult is what the peer answers calls of a tool with: rows of a
// database, as structured content and as text, the way dbserver has them. The
// id stands before it in the frame, as most servers write it, or behind. Those of
// modern servers begin with their type.
type largeResult struct {
	result []byte // of a legacy server
	idLast bool
}

// resultSizes are the least bytes of large results.
var resultSizes = []int{64 << 10, 1 << 20}

// largeResults has them by the names of the tools.
var largeResults = func() map[string]largeResult {
	all := map[string]largeResult{}
	for _, size := range resultSizes {
		result := rows(size)
		for _, idLast := range []bool{false, true} {
			all[largeTool(size, idLast)] = largeResult{result, idLast}
		}
	}
	return all
}()

func largeTool(size int, idLast bool) string {
	if idLast {
		return fmt.Sprintf("rows_%d_id_last", size)
	}
	return fmt.Sprintf("rows_%d_id_first", size)
}

// rows makes a result of so many bytes or a little more.
func rows(size int) []byte {
	var list bytes.Buffer
	for i := 0; list.Len() < size/2; i++ { // once as they are and once as text
		if i > 0 {
			list.WriteByte(',')
		}
		fmt.Fprintf(&list, `{"order_id":%d,"customer":"Customer no. %d","country":"%s","amount":%d.%02d,"paid":%t,"note":null}`,
			100000+i*7, i%977, []string{"DE", "FR", "US", "JP"}[i%4], i*31%5000, i%100, i%3 > 0)
	}
	structured := `{"columns":["order_id","customer","country","amount","paid","note"],"rows":[` + list.String() + `]}`
	text, err := json.Marshal(structured)
	must(err)
	result := fmt.Appendf(nil, `{"content":[{"type":"text","text":%s}],"structuredContent":%s}`, text, structured)
	must(jsonrpc.ValidObject(result))
	mustBe(len(result) >= size)
	return result
}

// frame is the answer to the request with that id.
func (r largeResult) frame(era transport.Era, id json.RawMessage) []byte {
	frame := append(make([]byte, 0, len(r.result)+128), `{"jsonrpc":"2.0"`...)
	if !r.idLast {
		frame = append(append(frame, `,"id":`...), id...)
	}
	frame = append(frame, `,"result":{`...)
	if era == transport.Modern {
		frame = append(frame, `"resultType":"complete",`...)
	}
	frame = append(frame, r.result[1:]...)
	if r.idLast {
		frame = append(append(frame, `,"id":`...), id...)
	}
	return append(frame, '}')
}
