package online

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"dreamfeed/internal/change"
	"dreamfeed/internal/definition"
	"dreamfeed/snapshot/pit"
)

// Store is what the service asks of a feature store.
type Store interface {
	// Newest is the newest closed moment, 0 while nothing is complete. It is
	// asked for every question, and must be cheap.
	Newest() (change.Version, error)
	// View is the store as of a closed moment, with the promise that the window
	// before it stays whole while the view is read. A moment that the store cannot
	// show is a *RequestError.
	View(asOf change.Version, window time.Duration) (pit.View, error)
	// Watch begins to note which entities of some kinds are written, at most limit
	// that were not taken.
	Watch(entities []string, limit int) (Watch, error)
}

// Watch names what changed in a Store.
type Watch interface {
	// Take calls fn with every entity that changed since the last call, of what is
	// visible as of a moment. It returns false, and calls nothing, if it does not
	// know.
	Take(asOf change.Version, fn func(entity, id string)) (whole bool)
	Close()
}

// Options configure a Service. The zero value of each means its default.
type Options struct {
	Definition *definition.Definition // needed
	// MaxStaleness is the age of the newest applied moment above which questions
	// are refused; 0 is none.
	MaxStaleness time.Duration
	// CacheBytes bounds, roughly, the decoded histories of related entities, 64 MiB
	// by default. MaxTouched bounds those that changed and were not read again,
	// 65,536 by default: with more the index is built anew.
	CacheBytes int64
	MaxTouched int
	// MaxItems bounds the items of a question, 1,000 by default; MaxBody its JSON
	// in bytes, 1 MiB by default.
	MaxItems int
	MaxBody  int64
	// Workers bounds the answers that are computed at once, twice the processors
	// by default.
	Workers    int
	Now        func() time.Time
	Registerer prometheus.Registerer // nil for no metrics
}

// Service answers questions. It is safe for concurrent use.
type Service struct {
	Options
	store   Store
	columns []int // of the definition, those that answers show
	meters  *meters

	advancing sync.Mutex // held by who makes a newer moment
	// Under advancing: last is the base that knows all that the watch has told,
	// nil if none does.
	watch   Watch
	last    *base
	mu      sync.Mutex
	current *moment
	closed  bool
}

// moment is the store as of a version, shared by all questions that came while
// that was the newest.
type moment struct {
	*base
	version change.Version
	view    pit.View
	// users are the questions that read it, and the service while it is current.
	// The last one closes the view. Under Service.mu.
	users int
}

// relatedKinds are the kinds among which the definition finds rows by match.
func relatedKinds(def *definition.Definition) []string {
	var kinds []string
	for i := range def.Rows {
		if kind := def.Table(def.Rows[i].Table).Entity; len(def.Rows[i].Match) > 0 && !slices.Contains(kinds, kind) {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}

// New makes a service. It reads nothing before the first question.
func New(store Store, o Options) (*Service, error) {
	if o.Definition == nil {
		return nil, errors.New("make the online features: a definition is needed")
	}
	for _, set := range []struct {
		value *int64
		to    int64
	}{{&o.CacheBytes, 64 << 20}, {&o.MaxBody, 1 << 20}} {
		if *set.value <= 0 {
			*set.value = set.to
		}
	}
	for _, set := range []struct {
		value *int
		to    int
	}{{&o.MaxTouched, 1 << 16}, {&o.MaxItems, 1000}, {&o.Workers, 2 * runtime.GOMAXPROCS(0)}} {
		if *set.value <= 0 {
			*set.value = set.to
		}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Service{Options: o, store: store}
	for i := range o.Definition.Columns {
		if o.Definition.Columns[i].Role == definition.RoleFeature {
			s.columns = append(s.columns, i)
		}
	}
	s.meters = newMeters(o.Registerer, s)
	return s, nil
}

// Entity is the kind of entity that examples belong to.
func (s *Service) Entity() string {
	return s.Definition.Table(s.Definition.Example.Table).Entity
}

// Question asks for the features of one entity, or of it and some items.
type Question struct {
	ID string // of the entity, as the source writes it
	// Context are columns of the example's own row, in JSON (pit.Request.Set).
	Context map[string]json.RawMessage
	// Items are answered one by one, in order; nil asks for the entity alone.
	Items []Item
	// MaxStaleness is a limit of the asker's own; the stricter one holds. 0 is none.
	MaxStaleness time.Duration
	// AsOf asks for what would have been answered at a moment; 0 is the newest.
	AsOf change.Version
}

// Item is something that the entity may be shown.
type Item struct {
	// ID goes to the column that the definition names as the example's item; nil
	// is none.
	ID json.RawMessage
	// Columns are columns of its example, over those of the context.
	Columns map[string]json.RawMessage
}

// Answer is what is known, of one moment.
type Answer struct {
	Version change.Version
	// Staleness is how old the moment was when the question was answered.
	Staleness time.Duration
	// Rows go with the items, or are the one of the entity alone.
	Rows []Row
}

// Row has a value and its status for each of Service.Columns.
type Row struct {
	Values []pit.Value
	Status []pit.Status
}

// Column is the definition of a column of the answers, by its place in a Row.
func (s *Service) Column(i int) *definition.Column { return &s.Definition.Columns[s.columns[i]] }

// Columns is the number of columns of a Row: those of the dataset whose role is
// feature, in its order.
func (s *Service) Columns() int { return len(s.columns) }

// Features answers a question.
//
// Errors: *RequestError for a question that cannot be answered as it is,
// *StaleError, ErrEmpty.
func (s *Service) Features(ctx context.Context, q *Question) (*Answer, error) {
	if q.ID == "" || !utf8.ValidString(q.ID) || strings.ContainsRune(q.ID, 0) {
		return nil, refusal("the id of the %s is missing, or no text", s.Entity())
	}
	if len(q.Items) > s.MaxItems {
		return nil, refusal("%d items are more than the %d that one question may have: ask several times", len(q.Items), s.MaxItems)
	}
	for attempt := 0; ; attempt++ {
		m, err := s.acquire(ctx)
		if err != nil {
			return nil, err
		}
		a, err := s.within(ctx, m, q)
		s.release(m)
		if errors.Is(err, errNewer) && ctx.Err() == nil {
			attempt--
			continue
		}
		var refused *RequestError
		var stale *StaleError
		if err == nil || attempt > 0 || ctx.Err() != nil || errors.As(err, &refused) || errors.As(err, &stale) {
			return a, err
		}
		// A view that was not read for long may have lost its lease.
		s.drop(m)
	}
}

// within answers as of a moment.
func (s *Service) within(ctx context.Context, m *moment, q *Question) (*Answer, error) {
	lag := max(s.Now().Sub(m.version.Time()), 0)
	if limit := stricter(s.MaxStaleness, q.MaxStaleness); q.AsOf == 0 && limit > 0 && lag > limit {
		return nil, &StaleError{Lag: lag, Limit: limit}
	}
	requests, err := s.requests(m, q)
	if err != nil {
		return nil, err
	}
	past, err := s.past(m, q, requests)
	if err != nil {
		return nil, err
	}
	if past != nil {
		defer past.view.Close()
		m = past
		lag = max(s.Now().Sub(m.version.Time()), 0)
	}
	e, err := m.view.Entity(ctx, s.Entity(), q.ID)
	if err != nil {
		return nil, fmt.Errorf("read a %s: %w", s.Entity(), err)
	}
	w, err := m.joiners.take(ctx)
	if err != nil {
		return nil, err
	}
	defer m.joiners.give(w)
	w.related.begin(ctx, m)
	a := &Answer{Version: m.version, Staleness: lag, Rows: make([]Row, 0, len(requests))}
	n := len(s.columns)
	values, statuses := make([]pit.Value, n*len(requests)), make([]pit.Status, n*len(requests))
	err = w.Answer(e, m.version, requests, func(x *pit.Answer) error {
		row := Row{values[:n:n], statuses[:n:n]}
		values, statuses = values[n:], statuses[n:]
		for i, at := range s.columns {
			row.Values[i] = pit.Fill(&s.Definition.Columns[at], x.Columns[at])
			row.Status[i] = x.Status[at]
		}
		a.Rows = append(a.Rows, row)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return a, nil
}

func stricter(a, b time.Duration) time.Duration {
	if a <= 0 || b > 0 && b < a {
		return b
	}
	return a
}

// errNewer says that a question asks for a moment that is newer than the one that
// was the newest when it came, and is closed by now.
var errNewer = errors.New("the moment was closed meanwhile")

// requests are the hypothetical examples of a question.
func (s *Service) requests(m *moment, q *Question) ([]*pit.Request, error) {
	shared := m.program.Request(q.ID)
	if err := set(shared, q.Context, ""); err != nil {
		return nil, err
	}
	if q.Items == nil {
		return []*pit.Request{shared}, nil
	}
	list := make([]*pit.Request, 0, len(q.Items))
	for i := range q.Items {
		item, r := &q.Items[i], shared.Clone()
		where := fmt.Sprintf("item %d: ", i+1)
		if err := set(r, item.Columns, where); err != nil {
			return nil, err
		}
		if item.ID != nil {
			column := s.Definition.Example.Item
			if column == "" {
				return nil, refusal("%sthe definition does not say which column holds the id of an item (item of example): give the columns of each item instead", where)
			}
			if err := r.Set(column, item.ID); err != nil {
				return nil, refusal("%s%w", where, err)
			}
		}
		list = append(list, r)
	}
	return list, nil
}

// set gives a request columns, in the order of their names, so that of several
// that are wrong always the same one is told.
func set(r *pit.Request, columns map[string]json.RawMessage, where string) error {
	if len(columns) == 0 {
		return nil
	}
	names := make([]string, 0, len(columns))
	for name := range columns {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := r.Set(name, columns[name]); err != nil {
			return refusal("%s%w", where, err)
		}
	}
	return nil
}

// past is a moment of the question's own, if it asks for another one, or looks
// further back than the shared view promises; nil if neither.
func (s *Service) past(m *moment, q *Question, requests []*pit.Request) (*moment, error) {
	asOf := m.version
	if q.AsOf != 0 {
		asOf = q.AsOf
	}
	earliest := int64(asOf)
	for _, r := range requests {
		if t, ok := r.Time(); ok {
			earliest = min(earliest, t)
		}
	}
	if asOf == m.version && earliest == int64(asOf) {
		return nil, nil
	}
	info := m.view.Info()
	if floor := int64(info.Floor); earliest < int64(asOf) && earliest < floor && floor > int64(info.Birth) {
		return nil, refusal("column %s lies before %s, from where on the store's history is whole", s.Definition.Example.Time, info.Floor)
	}
	// A moment long before the first backfill is within any history.
	window := time.Duration(min(int64(asOf)-max(earliest, 0), int64(asOf))) * time.Microsecond
	view, err := s.store.View(asOf, window)
	if err != nil {
		return nil, err
	}
	if asOf > m.version {
		// The store has gone on since the shared moment was made, and its base does
		// not know what was touched.
		return nil, errors.Join(errNewer, view.Close())
	}
	return &moment{base: m.base, version: asOf, view: view}, nil
}
