package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"dreamfeed/cdc"
	"dreamfeed/featurestore"
	"dreamfeed/internal/change"
	"dreamfeed/internal/cli"
	"dreamfeed/internal/definition"
	"dreamfeed/internal/durable"
	"dreamfeed/snapshot/online"
)

// stopGrace is how long running requests may go on after a stop was asked for.
const stopGrace = 5 * time.Second

type serverConfig struct {
	Source     *cdc.Source
	Store      *featurestore.Store
	Epoch      change.Epoch // of the feed: positions of the source belong to it
	Features   *online.Service
	Log        *cdc.Log
	Registry   *prometheus.Registry
	Definition *definition.Definition
	ReadyLag   time.Duration
	Access     *access
	DataDir    string
	Hook       durable.Hook
	Logger     *slog.Logger
}

// server answers health, metrics, status and views over HTTP.
type server struct {
	serverConfig
	http    *http.Server
	token   [sha256.Size]byte // of the endpoint file
	started time.Time
}

// newServer writes the endpoint file that lets snapshot find the daemon.
func newServer(cfg serverConfig) (*server, error) {
	secret := make([]byte, 32)
	if _, err := rand.Read(secret); err != nil {
		return nil, err
	}
	token := hex.EncodeToString(secret)
	s := &server{serverConfig: cfg, token: sha256.Sum256([]byte(token)), started: time.Now()}
	mux := http.NewServeMux()
	mux.Handle("GET /healthz", cfg.Access.public(func(w http.ResponseWriter, _ *http.Request) { answer(w, "ok") }))
	mux.Handle("GET /readyz", cfg.Access.public(s.ready))
	mux.Handle("GET /v1/status", cfg.Access.guard(http.HandlerFunc(s.status)))
	mux.Handle("GET /metrics", cfg.Access.guard(promhttp.HandlerFor(cfg.Registry, promhttp.HandlerOpts{})))
	features := cfg.Access.guard(cfg.Features.Handler(cfg.Logger))
	mux.Handle("GET /v1/features", features)
	mux.Handle("GET /v1/features/", features)
	mux.Handle("POST /v1/features", features)
	s.private(mux, "POST "+lookupPath, http.HandlerFunc(s.lookup))
	views := featurestore.NewHandler(cfg.Store, token)
	s.private(mux, "/v1/view", views)
	s.private(mux, "/v1/view/", views)
	s.private(mux, "POST "+featurestore.PathBackup, views)
	s.private(mux, "/v1/keep", views)
	s.private(mux, "/v1/keep/", views)
	s.private(mux, "POST "+refillPath, http.HandlerFunc(s.refill))
	s.private(mux, "POST "+streamPath, http.HandlerFunc(s.stream))
	s.private(mux, "POST "+featurestore.PathBarrier, http.HandlerFunc(s.barrier))
	s.profiles(mux)
	// No ReadTimeout and no WriteTimeout: a view is read as long as it takes, and
	// its handler sets deadlines of its own.
	s.http = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10, TLSConfig: cfg.Access.tls, ErrorLog: slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelWarn)}
	cfg.Registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "dreamfeed_lag_seconds", Help: "Age of the newest applied moment.",
	}, func() float64 { return s.lag().Seconds }))
	cfg.Registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "dreamfeed_lag_bytes", Help: "Bytes of the source's log that are not applied yet.",
	}, func() float64 { return float64(s.lag().Bytes) }))
	err := featurestore.WriteEndpoint(cfg.DataDir, featurestore.Endpoint{
		PID: os.Getpid(), Address: cfg.Access.address, Token: token, Certificate: cfg.Access.local,
	}, cfg.Hook)
	return s, err
}

// private registers a handler for the programs of this machine: it asks for the
// token in the endpoint file, before the handler sees the request.
func (s *server) private(mux *http.ServeMux, pattern string, handler http.Handler) {
	mux.Handle(pattern, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !shows(r, s.token) {
			featurestore.Refuse(w, featurestore.ErrToken)
			return
		}
		handler.ServeHTTP(w, r)
	}))
}

// Serve answers requests until Stop.
func (s *server) Serve() error {
	var err error
	if s.Access.tls != nil {
		err = s.http.ServeTLS(s.Access.listener, "", "")
	} else {
		err = s.http.Serve(s.Access.listener)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Stop lets running requests end, for stopGrace at most.
func (s *server) Stop() {
	ctx, cancel := context.WithTimeout(context.Background(), stopGrace)
	defer cancel()
	if err := s.http.Shutdown(ctx); err != nil {
		s.http.Close()
	}
}

// Close removes the endpoint file.
func (s *server) Close() error { return featurestore.RemoveEndpoint(s.DataDir, os.Getpid(), s.Hook) }

type lag struct {
	Bytes   int64   `json:"bytes"`
	Seconds float64 `json:"seconds"`
}

// lag compares what is applied with what the source was last heard to hold.
func (s *server) lag() lag {
	mark := s.Store.Watermark()
	var l lag
	if source := s.Source.Status().SourceLSN; source > mark.EndLSN {
		l.Bytes = int64(source - mark.EndLSN)
	}
	if mark.Version > 0 {
		l.Seconds = max(0, time.Since(mark.Version.Time()).Seconds())
	}
	return l
}

// answer writes a line; a client that is gone needs no answer.
func answer(w http.ResponseWriter, line string) { _, _ = io.WriteString(w, line+"\n") }

func (s *server) ready(w http.ResponseWriter, r *http.Request) {
	var reason string
	source, room := s.Source.Status(), s.roomToGoOn()
	switch l := s.lag(); {
	case room != nil:
		reason = "reading and applying are paused: " + room.Error()
	case s.Store.Status().Paused:
		reason = "applying is paused: free disk is below the reserve"
	case source.Parked:
		reason = "reading is paused: the stream takes nothing more"
	case source.State == cdc.Reconnecting:
		reason = "the source is reconnecting: " + source.Fault
	case s.Store.Watermark().Birth == 0:
		reason = "the backfill is not done"
	case source.State != cdc.Streaming:
		reason = "the source is " + string(source.State)
	case l.Seconds > s.ReadyLag.Seconds():
		reason = "the store lags by " + time.Duration(l.Seconds*float64(time.Second)).Round(time.Millisecond).String()
	default:
		answer(w, "ready")
		return
	}
	if s.Access.guarded && !s.Access.known(r) {
		reason = "not ready: /v1/status says why" // the reason names hosts and roles
	}
	http.Error(w, reason, http.StatusServiceUnavailable)
}

type statusReport struct {
	State string `json:"state"`
	// Fault is why the connection to the source was last lost.
	Fault string `json:"fault,omitempty"`
	// Paused and Parked say that the store waits for disk, the source for room in
	// the stream.
	Paused  bool   `json:"paused"`
	Parked  bool   `json:"parked"`
	Program string `json:"program"`
	Uptime  string `json:"uptime"`
	Applied struct {
		Version uint64 `json:"version"`
		Moment  string `json:"moment"`
		LSN     string `json:"lsn"`
	} `json:"applied"`
	momentsReport
	Source struct {
		LSN        string `json:"lsn"`
		Received   string `json:"received_lsn"`
		Durable    string `json:"durable_lsn"`
		Reconnects uint64 `json:"reconnects"`
		// WAL is what PostgreSQL keeps for us.
		WAL *walReport `json:"wal,omitempty"`
	} `json:"source"`
	Lag    lag          `json:"lag"`
	Stream streamReport `json:"stream"`
	// StreamFault is why the stream cannot be asked; Stream is then empty.
	StreamFault string            `json:"stream_fault,omitempty"`
	Rows        map[string]int64  `json:"rows"`
	Backfill    map[string]uint64 `json:"backfill_rows,omitempty"`
	Definition  map[string]string `json:"definition"`
	// Refill is the one under way, Refills counts those that were completed since
	// the start, Unfilled are the tables that still need one.
	Refill   *refillReport `json:"refill,omitempty"`
	Refills  uint64        `json:"refills"`
	Unfilled []string      `json:"unfilled,omitempty"`
}

type streamReport struct {
	First    uint64 `json:"first"`
	Last     uint64 `json:"last"`
	Messages uint64 `json:"messages"`
	Bytes    uint64 `json:"bytes"`
	MaxBytes int64  `json:"max_bytes"`
}

func (s *server) status(w http.ResponseWriter, r *http.Request) {
	mark, source := s.Store.Watermark(), s.Source.Status()
	// What is known is told also while the broker is away.
	stream, err := s.Log.State(r.Context())
	store := s.Store.Status()
	out := statusReport{
		State: string(source.State), Paused: store.Paused, Parked: source.Parked || s.roomToGoOn() != nil, Program: cli.ProgramVersion(version),
		Uptime: time.Since(s.started).Round(time.Second).String(),
		Lag:    s.lag(), Stream: streamReport(stream), Rows: store.Rows, Backfill: source.BackfillRows,
		Definition: map[string]string{"name": s.Definition.Name, "hash": s.Definition.Hash},
		Refill:     reportRefill(&source), Refills: source.Refills, Unfilled: s.Store.Unfilled(),
	}
	if err != nil {
		out.StreamFault = err.Error()
	}
	out.momentsReport = reportMoments(s.Store, store.Gaps, s.Definition.Defaults.Window)
	if source.State == cdc.Reconnecting {
		out.Fault = source.Fault
	}
	out.Applied.Version, out.Applied.LSN = uint64(mark.Version), mark.EndLSN.String()
	if mark.Version > 0 {
		out.Applied.Moment = mark.Version.String()
	}
	out.Source.LSN, out.Source.Received, out.Source.Durable = source.SourceLSN.String(), source.ReceivedLSN.String(), source.DurableLSN.String()
	out.Source.Reconnects, out.Source.WAL = source.Reconnects, reportWAL(source.Pressure)
	w.Header().Set("Content-Type", "application/json")
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(out); err != nil {
		s.Logger.Debug("status was not delivered", "error", err)
	}
}
