package main

import (
	"net/http"
	"net/http/pprof"
)

// profiles registers the runtime's profiles, for the programs of this machine:
// where the time goes (/debug/pprof/profile?seconds=N), what holds the memory
// (/debug/pprof/heap), what waits (/debug/pprof/goroutine). The command line is not
// among them, since it may hold a password.
func (s *server) profiles(mux *http.ServeMux) {
	s.private(mux, "GET /debug/pprof/profile", http.HandlerFunc(pprof.Profile))
	s.private(mux, "GET /debug/pprof/trace", http.HandlerFunc(pprof.Trace))
	for _, name := range []string{"allocs", "block", "goroutine", "heap", "mutex", "threadcreate"} {
		s.private(mux, "GET /debug/pprof/"+name, pprof.Handler(name))
	}
}
