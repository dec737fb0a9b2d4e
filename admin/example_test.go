package admin_test

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/mcpool-dev/mcpool/admin"
)

func Example() {
	web := httptest.NewServer(admin.New(admin.Options{Version: "v1.0.0"}))
	defer web.Close()
	response, err := http.Get(web.URL + "/readyz")
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(response.Status, ": ", string(body))
	// Output: 200 OK: ready
}
