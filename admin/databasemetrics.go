package admin

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mcpool-dev/mcpool/dbserver"
)

// databaseCollector makes metrics of the Stats of databases when it is scraped.
type databaseCollector func() []*dbserver.Server

func ofDatabase(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("mcpool_database_"+name, help, append([]string{"database"}, labels...), nil)
}

var (
	databaseOpen       = ofDatabase("connections", "Connections to the database that are open.")
	databaseMost       = ofDatabase("max_connections", "Most calls on the database at a time.")
	databaseInUse      = ofDatabase("in_use", "Calls that run on the database.")
	databaseWaiting    = ofDatabase("waiting", "Calls that wait for their turn.")
	databaseWaited     = ofDatabase("waited_total", "Calls that had to wait for their turn.")
	databaseStatements = ofDatabase("statements_total", "Statements that have ended, by result: ok, cancelled, failed, or the code of an error.", "result")
	databaseSpooled    = ofDatabase("spooled_rows_total", "Rows that were kept behind a page.")
)

func (databaseCollector) Describe(out chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{databaseOpen, databaseMost, databaseInUse, databaseWaiting, databaseWaited, databaseStatements, databaseSpooled} {
		out <- desc
	}
}

func (servers databaseCollector) Collect(out chan<- prometheus.Metric) {
	for _, server := range servers() {
		for _, s := range server.Stats() {
			out <- constant(databaseOpen, prometheus.GaugeValue, float64(s.Open), s.Database)
			out <- constant(databaseMost, prometheus.GaugeValue, float64(s.MaxConnections), s.Database)
			out <- constant(databaseInUse, prometheus.GaugeValue, float64(s.InUse), s.Database)
			out <- constant(databaseWaiting, prometheus.GaugeValue, float64(s.Waiting), s.Database)
			out <- constant(databaseWaited, prometheus.CounterValue, float64(s.Waited), s.Database)
			out <- constant(databaseSpooled, prometheus.CounterValue, float64(s.SpooledRows), s.Database)
			for result, n := range s.Statements {
				out <- constant(databaseStatements, prometheus.CounterValue, float64(n), s.Database, result)
			}
		}
	}
}
