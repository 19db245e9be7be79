package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"dreamfeed/internal/workload"
)

func onlineSection() section {
	return section{
		name: "online", run: runOnline,
		doc: "features of one user, and of one user with 100 items, over HTTP at fixed rates: from when a question should have been sent to its whole answer, whether or not those before were answered",
	}
}

const (
	onlineUsers   = 5000
	onlineDays    = 30
	onlineItems   = 100 // of a question
	onlineWorkers = 32  // connections
	onlineSeconds = 4
	onlineFull    = 10
	onlineSeed    = 5
)

func runOnline(ctx context.Context, s *suite) (err error) {
	seconds := onlineSeconds
	if s.full {
		seconds = onlineFull
	}
	const name = "online"
	if err := s.pg.CreateDatabase(ctx, name); err != nil {
		return err
	}
	users, items, err := populateOnline(ctx, s.pg.URL(name))
	if err != nil {
		return err
	}
	d, err := s.startIngest(ctx, ingestConfig{data: "data-" + name, url: s.pg.URL(name)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(d.stop(), err, os.RemoveAll(d.data), s.dropDatabase(ctx, name)) }()
	if err := d.awaitReady(ctx); err != nil {
		return err
	}
	if err := d.awaitIdle(ctx); err != nil {
		return err
	}
	host := strings.TrimPrefix(d.base, "http://")
	one := func() []byte {
		return []byte("GET /v1/features/user/" + url.PathEscape(users[rand.IntN(len(users))]) + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n")
	}
	many := func() []byte {
		chosen := make([]string, 0, onlineItems)
		for range onlineItems {
			chosen = append(chosen, items[rand.IntN(len(items))])
		}
		body, _ := json.Marshal(map[string]any{"user": users[rand.IntN(len(users))], "items": chosen}) // strings always can be
		return []byte("POST /v1/features HTTP/1.1\r\nHost: " + host + "\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + string(body))
	}
	for _, load := range []struct {
		name     string
		rate     int
		question func() []byte
		t        traits
	}{
		{"user", 500, one, traits{lower: true}},
		{"user", 2000, one, traits{lower: true, atLeast: 2, aim: 0.5}},
		{"user+100items", 50, many, traits{lower: true}},
		{"user+100items", 100, many, traits{lower: true}},
	} {
		// The first questions fill caches; they are not counted.
		if _, err := ask(ctx, host, float64(load.rate), load.rate/2, load.question); err != nil {
			return err
		}
		for range s.long {
			times, err := ask(ctx, host, float64(load.rate), load.rate*seconds, load.question)
			if err != nil {
				return fmt.Errorf("%s at %d/s: %w", load.name, load.rate, err)
			}
			label := fmt.Sprintf("%s/%d/s/", load.name, load.rate)
			s.record("online", label+"p50", "ms", traits{lower: true}, milliseconds(percentile(times, 50)))
			s.record("online", label+"p99", "ms", load.t, milliseconds(percentile(times, 99)))
		}
	}
	return nil
}

// populateOnline fills a database with users of an application, and returns some
// of their ids, and of the items that are shown to them.
func populateOnline(ctx context.Context, url string) (users, items []string, err error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := workload.CreateSchema(ctx, conn); err != nil {
		return nil, nil, err
	}
	if _, err := workload.Populate(ctx, conn, workload.Config{Seed: onlineSeed, Users: onlineUsers, Items: 1000, Days: onlineDays, Now: time.Now().UTC()}); err != nil {
		return nil, nil, err
	}
	list := func(sql string) (ids []string, err error) {
		rows, err := conn.Query(ctx, sql)
		if err != nil {
			return nil, err
		}
		if ids, err = pgx.CollectRows(rows, pgx.RowTo[string]); err == nil && len(ids) == 0 {
			err = errors.New("the populated database has no row of " + sql)
		}
		return ids, err
	}
	if users, err = list("SELECT id::text FROM users"); err != nil {
		return nil, nil, err
	}
	if items, err = list("SELECT id::text FROM item_vectors"); err != nil {
		return nil, nil, err
	}
	// PostgreSQL would do both by itself beside what is measured.
	for _, sql := range []string{"VACUUM ANALYZE", "CHECKPOINT"} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return nil, nil, err
		}
	}
	return users, items, nil
}

// ask sends questions at a rate, and returns for each the time from when it should
// have been sent to the whole answer. The client is a bare connection: what it
// takes itself is small beside what is measured.
func ask(ctx context.Context, host string, rate float64, count int, question func() []byte) (times []time.Duration, err error) {
	conns := make([]net.Conn, onlineWorkers)
	readers := make([]*bufio.Reader, onlineWorkers)
	defer func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	}()
	var dialer net.Dialer
	for i := range conns {
		if conns[i], err = dialer.DialContext(ctx, "tcp", host); err != nil {
			return nil, err
		}
		readers[i] = bufio.NewReaderSize(conns[i], 64<<10)
	}
	var mu sync.Mutex
	err = pace(ctx, rate, count, onlineWorkers, func(_ context.Context, worker int, intended time.Time) error {
		if _, err := conns[worker].Write(question()); err != nil {
			return err
		}
		response, err := http.ReadResponse(readers[worker], nil)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			text, _ := io.ReadAll(io.LimitReader(response.Body, 1024))
			return fmt.Errorf("%s: %s", response.Status, text)
		}
		if _, err := io.Copy(io.Discard, response.Body); err != nil {
			return err
		}
		took := time.Since(intended)
		mu.Lock()
		defer mu.Unlock()
		times = append(times, took)
		return nil
	})
	return times, err
}
