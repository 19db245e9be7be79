package online

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dreamfeed/snapshot/pit"
)

// keepUpEvery is how often Run looks whether the store has gone on.
const keepUpEvery = time.Second

// Run keeps the index up to date between questions, once there was one, so that
// a question after a quiet time does not wait for it. It returns when ctx ends.
func (s *Service) Run(ctx context.Context) error {
	tick := time.NewTicker(keepUpEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			s.mu.Lock()
			used := s.current != nil
			s.mu.Unlock()
			if !used {
				continue
			}
			// What goes wrong here, the next question is told.
			if m, err := s.acquire(ctx); err == nil {
				s.release(m)
			}
		}
	}
}

// Close ends the service. Questions under way are not affected.
func (s *Service) Close() {
	s.advancing.Lock()
	defer s.advancing.Unlock()
	if s.watch != nil {
		s.watch.Close()
		s.watch = nil
	}
	s.mu.Lock()
	s.closed = true
	m := s.current
	s.mu.Unlock()
	s.drop(m)
}

// acquire returns the newest moment, which release gives back.
func (s *Service) acquire(ctx context.Context) (*moment, error) {
	if m, err := s.shared(); m != nil || err != nil {
		return m, err
	}
	s.advancing.Lock()
	defer s.advancing.Unlock()
	// Another question may have made it meanwhile.
	m, err := s.shared()
	if m != nil || err != nil {
		return m, err
	}
	if m, err = s.advance(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	old := s.current
	s.current = m
	m.users = 2 // the service, and the question
	s.mu.Unlock()
	if old != nil {
		s.release(old)
	}
	return m, nil
}

// shared is the current moment if it is the newest one, nil if not.
func (s *Service) shared() (*moment, error) {
	newest, err := s.store.Newest()
	if err != nil {
		return nil, err
	}
	if newest == 0 {
		return nil, ErrEmpty
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	if s.current == nil || s.current.version < newest {
		return nil, nil
	}
	s.current.users++
	return s.current, nil
}

// release gives a moment back. Who is the last closes its view; that it has no
// lease any more is nothing to be told.
func (s *Service) release(m *moment) {
	s.mu.Lock()
	m.users--
	last := m.users == 0
	s.mu.Unlock()
	if last {
		_ = m.view.Close()
	}
}

// drop takes a moment out of use, if it is the current one.
func (s *Service) drop(m *moment) {
	s.mu.Lock()
	was := m != nil && s.current == m
	if was {
		s.current = nil
	}
	s.mu.Unlock()
	if was {
		s.release(m)
	}
}

// advance makes the moment that is newest now.
func (s *Service) advance(ctx context.Context) (_ *moment, err error) {
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return nil, errClosed
	}
	if s.watch == nil {
		// What is written from here on is noted, what was before is in the view.
		kinds := relatedKinds(s.Definition)
		if s.watch, err = s.store.Watch(kinds, s.MaxTouched); err != nil {
			return nil, fmt.Errorf("watch the store: %w", err)
		}
	}
	view, err := s.store.View(0, 0)
	if err != nil {
		return nil, err
	}
	m := &moment{version: view.Info().AsOf, view: view}
	if err := s.turn(ctx, m); err != nil {
		return nil, errors.Join(err, view.Close())
	}
	return m, nil
}

// turn gives a moment its base: the last one, with what was touched since, or a
// new one.
func (s *Service) turn(ctx context.Context, m *moment) error {
	var touched []entityRef
	whole := s.watch.Take(m.version, func(kind, id string) { touched = append(touched, entityRef{kind, id}) })
	last := s.last
	s.last = nil // until it knows what was taken
	info := m.view.Info()
	if last != nil && whole && last.fits(&info) {
		if err := last.update(ctx, m.view, touched); err != nil {
			return err
		}
		m.base, s.last = last, last
		return nil
	}
	program, err := pit.Compile(s.Definition, &info)
	if err != nil {
		return fmt.Errorf("compile the online features: %w", err)
	}
	b := newBase(program, info, s.Workers, s.CacheBytes)
	if err := b.build(ctx, m.view); err != nil {
		return err
	}
	s.meters.builds.Inc()
	m.base, s.last = b, b
	return nil
}
