package dbserver_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/mcpool-dev/mcpool/dbserver"
	"github.com/mcpool-dev/mcpool/rpc"
)

func Example() {
	dir := filepath.Join(os.TempDir(), "mcpool", "sample")
	db, err := dbserver.New(dbserver.Options{Databases: []dbserver.Database{{
		Prepare: func(ctx context.Context) (string, error) { return dbserver.Sample(ctx, dir) },
	}}})
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	answer, err := db.Do(context.Background(), rpc.Call{
		Method: "tools/call",
		Params: json.RawMessage(`{"name":"read_data","arguments":{"query":"select count(*) as n from sales"}}`),
	})
	if err != nil {
		log.Fatal(err)
	}
	var result struct {
		StructuredContent struct{ Rows json.RawMessage }
	}
	if err := json.Unmarshal(answer.Bytes(), &result); err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(result.StructuredContent.Rows))
	// Output: [[50000]]
}
