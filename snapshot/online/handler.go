package online

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"

	"dreamfeed/internal/definition"
)

// Handler answers GET /v1/features/{entity}/{id} and POST /v1/features. It knows
// no access rights: whoever it is given to sees to them.
//
// It answers 200 also for an entity that is not known, 400 for a question that
// cannot be answered as it is, 404 for another kind of entity, 413 for a body that
// is too large, 503 while the store is empty or lags by more than is allowed, all
// with {"error": sentence}. Nothing of a question goes to the log.
func (s *Service) Handler(log *slog.Logger) http.Handler {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	h := &handler{Service: s, log: log}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/features/{entity}/{id}", h.get)
	mux.HandleFunc("POST /v1/features", h.post)
	mux.HandleFunc("GET /v1/features", h.nobody)
	mux.HandleFunc("GET /v1/features/", h.nobody)
	return mux
}

type handler struct {
	*Service
	log     *slog.Logger
	buffers sync.Pool // of *[]byte
}

// keepBuffer is the largest buffer that is kept for the next answer, in bytes.
const keepBuffer = 1 << 20

func (h *handler) get(w http.ResponseWriter, r *http.Request) {
	kind := r.PathValue("entity")
	if kind != h.Entity() {
		h.refuse(w, http.StatusNotFound, definition.Unknown("entity", kind, []string{h.Entity()})+": features are those of a "+h.Entity())
		h.meters.note(nil, &RequestError{errors.New("another entity")}, 0)
		return
	}
	q := &Question{ID: r.PathValue("id")}
	var err error
	for name, values := range r.URL.Query() {
		switch {
		case len(values) > 1:
			err = refusal("%q is given %d times", name, len(values))
		case name == keyStaleness:
			q.MaxStaleness, err = parseStaleness(values[0])
		case name == keyAsOf:
			q.AsOf, err = ParseAsOf(values[0])
		default:
			err = refusal("%s (columns and items go to POST /v1/features)", definition.Unknown("parameter", name, []string{keyStaleness, keyAsOf}))
		}
		if err != nil {
			break
		}
	}
	h.answer(w, r, q, err)
}

// nobody answers an address that names nobody.
func (h *handler) nobody(w http.ResponseWriter, _ *http.Request) {
	h.refuse(w, http.StatusNotFound, fmt.Sprintf("the address names no %s: ask GET /v1/features/%[1]s/ID, with the id as one part of it, or POST /v1/features", h.Entity()))
	h.meters.note(nil, &RequestError{errors.New("no entity")}, 0)
}

func (h *handler) post(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, h.MaxBody))
	var q *Question
	if err == nil {
		q, err = h.ParseQuestion(body)
	}
	h.answer(w, r, q, err)
}

// answer answers a question that was read, or says what is wrong with it.
func (h *handler) answer(w http.ResponseWriter, r *http.Request, q *Question, err error) {
	began := h.Now()
	var a *Answer
	if err == nil {
		a, err = h.Features(r.Context(), q)
	}
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		err = refusal("the question is larger than the %d bytes that are read", large.Limit)
	}
	defer func() { h.meters.note(a, err, h.Now().Sub(began)) }()
	switch outcome := outcomeOf(err); {
	case outcome == outcomeAnswered:
		buffer, _ := h.buffers.Get().(*[]byte)
		if buffer == nil {
			buffer = new([]byte)
		}
		*buffer = append(h.AppendAnswer((*buffer)[:0], q, a), '\n')
		w.Header().Set("Content-Type", "application/json")
		if _, e := w.Write(*buffer); e != nil {
			h.log.Debug("an answer of online features was not delivered", "error", e)
		}
		if cap(*buffer) <= keepBuffer {
			h.buffers.Put(buffer)
		}
	case large != nil:
		h.refuse(w, http.StatusRequestEntityTooLarge, err.Error())
	case outcome == outcomeRefused:
		h.refuse(w, http.StatusBadRequest, err.Error())
	case outcome == outcomeStale, outcome == outcomeEmpty:
		w.Header().Set("Retry-After", "1")
		h.refuse(w, http.StatusServiceUnavailable, err.Error())
	case outcome == outcomeGone:
		h.refuse(w, http.StatusServiceUnavailable, "the question was given up")
	default:
		h.log.Error("online features were not answered", "error", err)
		h.refuse(w, http.StatusInternalServerError, "the features could not be read: the log of ingest says why")
	}
}

func (h *handler) refuse(w http.ResponseWriter, status int, sentence string) {
	data, err := json.Marshal(map[string]string{"error": sentence})
	if err != nil { // a string can always be marshalled
		data = []byte(`{"error":"the sentence cannot be written"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if _, err := w.Write(append(data, '\n')); err != nil {
		h.log.Debug("a refusal of online features was not delivered", "error", err)
	}
}
