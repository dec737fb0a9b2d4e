package admin

import (
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// Requests counts requests over HTTP, for /metrics. The zero Requests is no use;
// [NewRequests] makes one.
type Requests struct {
	ended    *prometheus.CounterVec
	inFlight *prometheus.GaugeVec
}

// NewRequests returns one that has counted nothing.
func NewRequests() *Requests {
	return &Requests{
		prometheus.NewCounterVec(prometheus.CounterOpts{Name: "mcpool_http_requests_total",
			Help: "Requests over HTTP that have been answered, by what they were for and status; 0 where the answer was broken off."}, []string{"handler", "code"}),
		prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "mcpool_http_requests_in_flight",
			Help: "Requests over HTTP that are being answered, streams included."}, []string{"handler"}),
	}
}

// Count returns a handler that does what h does, and counts its requests under
// a name.
func (r *Requests) Count(name string, h http.Handler) http.Handler {
	inFlight := r.inFlight.WithLabelValues(name)
	ended := r.ended.MustCurryWith(prometheus.Labels{"handler": name})
	ended.WithLabelValues(strconv.Itoa(http.StatusOK)) // so that it is there from the start
	return http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		inFlight.Inc()
		answer := &statusWriter{ResponseWriter: w}
		broken := true
		defer func() {
			inFlight.Dec()
			if broken {
				answer.status = 0
			}
			ended.WithLabelValues(strconv.Itoa(answer.status)).Inc()
		}()
		h.ServeHTTP(answer, request)
		broken = false
		if answer.status == 0 {
			answer.status = http.StatusOK // as net/http sends it
		}
	})
}

// Describe implements prometheus.Collector.
func (r *Requests) Describe(out chan<- *prometheus.Desc) {
	r.ended.Describe(out)
	r.inFlight.Describe(out)
}

// Collect implements prometheus.Collector.
func (r *Requests) Collect(out chan<- prometheus.Metric) {
	r.ended.Collect(out)
	r.inFlight.Collect(out)
}

// A statusWriter notes the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 && (status >= http.StatusOK || status == http.StatusSwitchingProtocols) {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
