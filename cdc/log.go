package cdc

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"dreamfeed/internal/change"
	"dreamfeed/internal/durable"
)

// LogConfig configures a Log.
type LogConfig struct {
	// Dir is the directory of the embedded JetStream server; not used with URL.
	Dir string
	// URL is an external NATS server or cluster; empty embeds one.
	URL string
	// Options are passed to the connection to an external server (TLS,
	// credentials).
	Options []nats.Option
	// Replicas is the number of copies that an external cluster keeps, 1 when 0.
	// It holds for a stream made anew.
	Replicas int
	// Name is the name of the stream, "DREAMFEED" when empty.
	Name string
	// Existing opens a stream to read it only: one that is not there is a
	// *NoStreamError, and the limits of one that is stay as they are.
	Existing bool
	// MaxBytes limits the stream's size on disk, 10 GiB when 0. A full stream
	// takes nothing more: it never discards.
	MaxBytes int64
	// DiskReserve tells the free space in bytes below which the publisher pauses; nil
	// is no reserve. The embedded server does not take another message after its
	// disk was full, even once there is room again, so it must not get there. It
	// is not used with URL.
	DiskReserve func() uint64
	// MaxMessage is the largest message, DefaultMaxMessage when 0. An external
	// server's own limit may lower it: see Log.MaxMessage.
	MaxMessage int
	// MaxRowBytes is the largest row that readers accept, DefaultMaxRowBytes
	// when 0.
	MaxRowBytes int
	// AckTimeout is how long the publisher waits for an acknowledgement before
	// it looks what the stream holds, 30 s when 0.
	AckTimeout time.Duration
	// Hook is told of every durable step; nil for none.
	Hook durable.Hook
	// Logger receives the server's and the connection's warnings; required.
	Logger *slog.Logger
}

const (
	defaultStream     = "DREAMFEED"
	defaultMaxBytes   = 10 << 30
	defaultAckTimeout = 30 * time.Second

	// requestTimeout bounds one request to the server, and its start.
	requestTimeout = 10 * time.Second

	// headerAllowance is what is left for NATS headers in a message.
	headerAllowance = 512

	// incarnationKey is where the stream's metadata holds the incarnation.
	incarnationKey = "dreamfeed-incarnation"
)

// Keys of log records.
const (
	keyStream   = "stream"
	keySequence = "sequence"
	keyError    = "error"
	keyWait     = "wait"
)

// Log is the JetStream stream that holds the feed. All its methods may be
// called from several goroutines.
type Log struct {
	cfg         LogConfig
	server      *server.Server // nil when external
	lock        *dirLock       // nil when external
	conn        *nats.Conn
	js          jetstream.JetStream
	stream      jetstream.Stream
	incarnation uint64
	maxMessage  int
	tail        *tail // nil when external
	closing     sync.Once
	closed      error
}

// LogState is what a stream holds.
type LogState struct {
	First, Last uint64 // sequences; First is Last+1 for an empty stream
	Messages    uint64
	Bytes       uint64
	MaxBytes    int64
}

// OpenLog starts the embedded server, or connects to an external one, and
// opens the stream, which it makes if there is none.
func OpenLog(ctx context.Context, cfg LogConfig) (_ *Log, err error) {
	if cfg.Name == "" {
		cfg.Name = defaultStream
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = defaultMaxBytes
	}
	if cfg.MaxMessage == 0 {
		cfg.MaxMessage = DefaultMaxMessage
	}
	if cfg.AckTimeout == 0 {
		cfg.AckTimeout = defaultAckTimeout
	}
	if cfg.Replicas == 0 {
		cfg.Replicas = 1
	}
	switch {
	case cfg.Logger == nil:
		return nil, errors.New("open stream: a logger is required")
	case cfg.Dir == "" && cfg.URL == "":
		return nil, errors.New("open stream: neither a directory nor the URL of a NATS server is given")
	case cfg.MaxMessage < minMessageBytes+headerAllowance || cfg.MaxMessage > math.MaxInt32:
		return nil, fmt.Errorf("open stream: messages of at most %d bytes are out of range", cfg.MaxMessage)
	}
	l := &Log{cfg: cfg}
	defer func() {
		if err != nil {
			_ = l.Close() // the first error tells more
		}
	}()
	if cfg.URL == "" {
		if err := l.embed(ctx); err != nil {
			return nil, fmt.Errorf("open stream in %s: %w", cfg.Dir, err)
		}
		l.tail = newTail()
	} else if l.conn, err = nats.Connect(cfg.URL, l.options(cfg.Options...)...); err != nil {
		return nil, connectLogError(cfg.URL, err)
	}
	l.js, err = jetstream.New(l.conn, jetstream.WithDefaultTimeout(requestTimeout),
		jetstream.WithPublishAsyncMaxPending(2*windowMessages), jetstream.WithPublishAsyncTimeout(cfg.AckTimeout))
	if err != nil {
		return nil, fmt.Errorf("open stream %s: %w", cfg.Name, err)
	}
	if err := l.openStream(ctx); err != nil {
		return nil, err
	}
	l.maxMessage = min(cfg.MaxMessage, int(l.conn.MaxPayload())) - headerAllowance
	if l.maxMessage < minMessageBytes {
		return nil, fmt.Errorf("open stream %s: the server takes messages of at most %d bytes: raise its max_payload to 8MB", cfg.Name, l.conn.MaxPayload())
	}
	return l, nil
}

// subject is the one subject of the stream.
func (l *Log) subject() string { return "dreamfeed." + l.cfg.Name }

// openStream opens the stream, or makes it with a new incarnation.
func (l *Log) openStream(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var err error
	l.stream, err = l.js.Stream(ctx, l.cfg.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) && l.cfg.Existing {
		return &NoStreamError{Dir: l.cfg.Dir, Stream: l.cfg.Name}
	}
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		switch unborn, err := l.removeUnborn(); {
		case err != nil:
			return fmt.Errorf("open stream %s: %w", l.cfg.Name, err)
		case unborn:
			l.cfg.Logger.Info("a stream that was not made to the end is made again", keyStream, l.cfg.Name)
		case l.unrecovered():
			return fmt.Errorf("open stream %s: the server could not recover it from its files in %s: see the log of component nats-server; restore the directory, or move it away and "+beginAnew, l.cfg.Name, l.cfg.Dir)
		}
		var id [8]byte
		if _, err := rand.Read(id[:]); err != nil {
			return fmt.Errorf("make stream %s: draw its identity: %w", l.cfg.Name, err)
		}
		if err := l.cfg.Hook.Before(durable.CreateStream); err != nil {
			return fmt.Errorf("make stream %s: %w", l.cfg.Name, err)
		}
		l.stream, err = l.js.CreateStream(ctx, jetstream.StreamConfig{
			Name:      l.cfg.Name,
			Subjects:  []string{l.subject()},
			Storage:   jetstream.FileStorage,
			Retention: jetstream.LimitsPolicy,
			Discard:   jetstream.DiscardNew,
			MaxBytes:  l.cfg.MaxBytes,
			// The size counts NATS headers in.
			MaxMsgSize: int32(l.cfg.MaxMessage),
			Replicas:   l.cfg.Replicas,
			// Message ids are for the order of the pipeline; nothing relies on
			// the server's search for duplicates, so that its window is the least.
			Duplicates: 100 * time.Millisecond,
			// The number is never 0, which stands for no incarnation.
			Metadata: map[string]string{incarnationKey: strconv.FormatUint(binary.LittleEndian.Uint64(id[:])|1, 16)},
		})
		if err != nil {
			return fmt.Errorf("make stream %s: %w", l.cfg.Name, err)
		}
	}
	if err != nil {
		return fmt.Errorf("open stream %s: %w", l.cfg.Name, err)
	}
	cfg := l.stream.CachedInfo().Config
	if l.incarnation, err = incarnationOf(cfg); err != nil {
		return err
	}
	if cfg.Retention != jetstream.LimitsPolicy || cfg.Discard != jetstream.DiscardNew || cfg.MaxAge != 0 || cfg.MaxMsgs > 0 ||
		cfg.MaxMsgsPerSubject > 0 || cfg.Storage != jetstream.FileStorage {
		return fmt.Errorf("open stream %s: its limits may discard what is not applied yet: set file storage, limits retention, discard new, and no limit of age or number", l.cfg.Name)
	}
	if l.cfg.Existing {
		return nil
	}
	if cfg.MaxBytes != l.cfg.MaxBytes || cfg.MaxMsgSize != int32(l.cfg.MaxMessage) {
		cfg.MaxBytes, cfg.MaxMsgSize = l.cfg.MaxBytes, int32(l.cfg.MaxMessage)
		if l.stream, err = l.js.UpdateStream(ctx, cfg); err != nil {
			return fmt.Errorf("change the limits of stream %s: %w", l.cfg.Name, err)
		}
	}
	return nil
}

// incarnationOf reads the identity that the stream was made with.
func incarnationOf(cfg jetstream.StreamConfig) (uint64, error) {
	id, err := strconv.ParseUint(cfg.Metadata[incarnationKey], 16, 64)
	if err != nil || id == 0 {
		return 0, fmt.Errorf("open stream %s: it was not made by this program: give another name, or remove it with: nats stream rm %s", cfg.Name, cfg.Name)
	}
	return id, nil
}

// Close closes the connection and stops the embedded server. Publishers and
// readers must be closed before. It may be called more than once.
func (l *Log) Close() error {
	l.closing.Do(func() {
		if l.conn != nil {
			l.conn.Close()
		}
		if l.server != nil {
			l.server.Shutdown()
			l.server.WaitForShutdown()
		}
		if l.lock != nil {
			l.closed = l.lock.release()
		}
	})
	return l.closed
}

// Incarnation is the stream's identity: a random number, never 0, made with the
// stream.
func (l *Log) Incarnation() uint64 { return l.incarnation }

// Embedded says whether the server is inside this process.
func (l *Log) Embedded() bool { return l.server != nil }

// Durable says whether an acknowledgement means that the message is synced
// to disk (I1). It is so for the embedded server only: a client can neither set
// nor see when an external one syncs.
func (l *Log) Durable() bool { return l.server != nil }

// MaxMessage is the largest message that can be published, in bytes.
func (l *Log) MaxMessage() int { return l.maxMessage }

// Last returns the header and sequence of the newest message. found is false
// when there is no message, or none that tells a state of the feed; the
// sequence is then still the stream's last one, for Publisher.
func (l *Log) Last(ctx context.Context) (header change.Header, sequence uint64, found bool, err error) {
	state, err := l.State(ctx)
	if err != nil {
		return change.Header{}, 0, false, err
	}
	if state.Last == 0 || state.Messages == 0 {
		return change.Header{}, state.Last, false, nil
	}
	msg, err := l.message(ctx, state.Last)
	if err != nil {
		return change.Header{}, 0, false, err
	}
	h, _, _, err := openFrame(state.Last, msg)
	if err != nil {
		return change.Header{}, 0, false, err
	}
	return h, state.Last, h.Epoch != 0, nil
}

// message reads the stored message at sequence.
func (l *Log) message(ctx context.Context, sequence uint64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	msg, err := l.stream.GetMsg(ctx, sequence)
	if err != nil {
		return nil, fmt.Errorf("read message %d of stream %s: %w", sequence, l.cfg.Name, err)
	}
	return msg.Data, nil
}

// State reads the stream's state. It is an *IncarnationError when the stream
// was made anew since it was opened.
func (l *Log) State(ctx context.Context) (LogState, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	// A handle of its own: the shared one caches what it reads.
	stream, err := l.js.Stream(ctx, l.cfg.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return LogState{}, &IncarnationError{Stream: l.cfg.Name, Want: l.incarnation}
	}
	if err != nil {
		return LogState{}, fmt.Errorf("read the state of stream %s: %w", l.cfg.Name, err)
	}
	info := stream.CachedInfo()
	got, err := incarnationOf(info.Config)
	if err != nil {
		return LogState{}, err
	}
	if got != l.incarnation {
		return LogState{}, &IncarnationError{Stream: l.cfg.Name, Want: l.incarnation, Got: got}
	}
	s := info.State
	return LogState{First: s.FirstSeq, Last: s.LastSeq, Messages: s.Msgs, Bytes: s.Bytes, MaxBytes: info.Config.MaxBytes}, nil
}

// Trim removes the messages up to and including sequence upTo, but never the
// newest message, which holds the publisher's state.
func (l *Log) Trim(ctx context.Context, upTo uint64) error {
	state, err := l.State(ctx)
	if err != nil {
		return err
	}
	below := min(upTo, math.MaxUint64-1) + 1 // the first that stays
	below = min(below, state.Last)
	if below <= state.First {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if err := l.cfg.Hook.Before(durable.Trim); err != nil {
		return fmt.Errorf("trim stream %s below %d: %w", l.cfg.Name, below, err)
	}
	if err := l.stream.Purge(ctx, jetstream.WithPurgeSequence(below)); err != nil {
		return fmt.Errorf("trim stream %s below %d: %w", l.cfg.Name, below, err)
	}
	return nil
}
