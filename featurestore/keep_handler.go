package featurestore

import "net/http"

// Paths of the kept versions. Every request is a POST with a body in JSON.
const (
	PathKeep        = "/v1/keep"         // Keep → {}
	PathKeepRelease = "/v1/keep/release" // {name} → {found}
	PathKeepList    = "/v1/keep/list"    // {} → list of Keep
)

type releaseRequest struct {
	Name string `json:"name"`
}

type releaseAnswer struct {
	Found bool `json:"found"`
}

// asked reads a question in JSON, after the token was checked, and answers it.
func asked[Q any](h *handler, fn func(*Q) (any, error)) http.Handler {
	return h.guard(func(w http.ResponseWriter, r *http.Request) {
		var q Q
		if !readRequest(w, r, maxRequestBytes, &q) {
			return
		}
		out, err := fn(&q)
		if err != nil {
			refuse(w, encodeWireError(err))
			return
		}
		answer(w, http.StatusOK, out)
	})
}

func (h *handler) keep(k *Keep) (any, error) { return struct{}{}, h.s.Keep(*k) }

func (h *handler) releaseKept(q *releaseRequest) (any, error) {
	found, err := h.s.Release(q.Name)
	return releaseAnswer{Found: found}, err
}

func (h *handler) kept(*struct{}) (any, error) {
	list := h.s.Kept()
	if list == nil {
		list = []Keep{}
	}
	return list, nil
}
