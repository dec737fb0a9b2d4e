package dbserver

import (
	"testing"

	"github.com/mcpool-dev/mcpool/rpc"
)

func TestSampleContent(t *testing.T) {
	s := serveSample(t, Database{})
	for query, want := range map[string]string{
		"SELECT (SELECT count(*) FROM customers), (SELECT count(*) FROM products), (SELECT count(*) FROM calendar), (SELECT count(*) FROM stores)": "[[2000,200,1096,21]]",
		// Every key refers to something, so that no row is lost in the joins.
		`SELECT count(*), sum(amount_cents), sum(quantity), count(customer_id), sum(sale_id * (date_key + product_id + store_id) % 1000003)
			FROM sales JOIN calendar USING (date_key) JOIN stores USING (store_id) JOIN products USING (product_id)`: "[[50000,624795723,121210,45570,25155930053]]",
		"SELECT count(*) FROM sales JOIN customers USING (customer_id)":                                                                                               "[[45570]]",
		"SELECT count(*) - count(email), count(loyalty_number), min(loyalty_number) > 9007199254740992, sum(length(notes) > 4096), sum(length(photo)) FROM customers": "[[117,666,1,5,2432]]",
		"SELECT name FROM customers WHERE customer_id = 42 OR name LIKE 'محمد 李' OR name LIKE 'נועה Ø%' GROUP BY 1":                                                   `[["Café \"Tab\tand\nnewline\" 🎉👩🏽‍🚀"],["נועה Øster"],["محمد 李"]]`,
		"SELECT min(full_date), max(full_date), sum(is_weekend), max(quarter), max(weekday) FROM calendar":                                                            `[["2023-01-01","2025-12-31",313,4,7]]`,
		"SELECT items, revenue_cents FROM monthly_revenue WHERE year = 2024 AND month = 2 AND region = 'North'":                                                       "[[480,2401253]]",
	} {
		if got := rowsJSON(t, read(t, s, query)); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", query, got, want)
		}
	}
}

func BenchmarkFirstQuery(b *testing.B) {
	path, err := samplePath()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		s, err := New(Options{Databases: []Database{{DSN: path}}})
		if err != nil {
			b.Fatal(err)
		}
		if a := read(b, s, "SELECT count(*) FROM stores"); a.IsError {
			b.Fatal(string(a.structured))
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadData(b *testing.B) {
	s := serveSample(b, Database{})
	params := []byte(`{"name":"read_data","arguments":{"query":"SELECT * FROM sales LIMIT 100"}}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Do(b.Context(), rpc.Call{Method: "tools/call", Params: params}); err != nil {
			b.Fatal(err)
		}
	}
}
