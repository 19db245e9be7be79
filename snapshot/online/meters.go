package online

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Outcomes of a question, as metrics and nothing else tell them.
const (
	outcomeAnswered = "answered"
	outcomeRefused  = "refused" // it cannot be answered as it was asked
	outcomeStale    = "stale"
	outcomeEmpty    = "empty"
	outcomeFailed   = "failed"
	outcomeGone     = "gone" // who asked did not wait
)

// meters count questions. They hold no id and no value.
type meters struct {
	questions *prometheus.CounterVec
	seconds   prometheus.Histogram
	items     prometheus.Counter
	builds    prometheus.Counter
}

func newMeters(r prometheus.Registerer, s *Service) *meters {
	m := &meters{
		questions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dreamfeed_features_requests_total", Help: "Questions for online features, by outcome.",
		}, []string{"outcome"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "dreamfeed_features_request_seconds", Help: "Time to answer a question for online features.",
			Buckets: []float64{.0001, .00025, .0005, .001, .002, .004, .008, .016, .032, .064, .125, .25, .5, 1, 2.5},
		}),
		items: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "dreamfeed_features_rows_total", Help: "Rows of online features that were answered: one for each item, or for the entity alone.",
		}),
		builds: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "dreamfeed_features_index_builds_total", Help: "Times that the index of related entities was built by a scan.",
		}),
	}
	for _, o := range []string{outcomeAnswered, outcomeRefused, outcomeStale, outcomeEmpty, outcomeFailed, outcomeGone} {
		m.questions.WithLabelValues(o)
	}
	if r == nil {
		return m
	}
	r.MustRegister(m.questions, m.seconds, m.items, m.builds, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "dreamfeed_features_index_keys", Help: "Keys in the index of related entities; 0 before the first question.",
	}, func() float64 {
		s.mu.Lock()
		m := s.current
		s.mu.Unlock()
		if m == nil {
			return 0
		}
		_, keys := m.size()
		return float64(keys)
	}))
	return m
}

// note counts a question.
func (m *meters) note(a *Answer, err error, took time.Duration) {
	m.questions.WithLabelValues(outcomeOf(err)).Inc()
	if err == nil {
		m.seconds.Observe(took.Seconds())
		m.items.Add(float64(len(a.Rows)))
	}
}

func outcomeOf(err error) string {
	var refused *RequestError
	var stale *StaleError
	switch {
	case err == nil:
		return outcomeAnswered
	case errors.As(err, &refused):
		return outcomeRefused
	case errors.As(err, &stale):
		return outcomeStale
	case errors.Is(err, ErrEmpty):
		return outcomeEmpty
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return outcomeGone
	}
	return outcomeFailed
}
