package main

import (
	"bytes"
	"crypto/sha256"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Profiles are for who has the token of the endpoint file, and the command line, which
// may hold a password, is not among them.
func TestProfilesAreForProgramsOfThisMachine(t *testing.T) {
	s := &server{token: sha256.Sum256([]byte(httpToken))}
	mux := http.NewServeMux()
	s.profiles(mux)
	ask := func(path, token string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		return w
	}
	for _, path := range []string{"/debug/pprof/heap", "/debug/pprof/profile?seconds=1", "/debug/pprof/goroutine"} {
		for _, token := range []string{"", httpToken + "x"} {
			if w := ask(path, token); w.Code != http.StatusUnauthorized || w.Body.Len() > 1024 {
				t.Errorf("%s with the token %q: %d", path, token, w.Code)
			}
		}
	}
	if w := ask("/debug/pprof/heap", httpToken); w.Code != http.StatusOK || !bytes.HasPrefix(w.Body.Bytes(), []byte{0x1f, 0x8b}) {
		t.Errorf("heap: %d, %d bytes", w.Code, w.Body.Len())
	}
	if w := ask("/debug/pprof/goroutine?debug=1", httpToken); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "goroutine profile") {
		t.Errorf("goroutine: %d %s", w.Code, w.Body)
	}
	if w := ask("/debug/pprof/cmdline", httpToken); w.Code != http.StatusNotFound {
		t.Errorf("the command line is told: %d %s", w.Code, w.Body)
	}
}
