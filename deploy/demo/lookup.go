package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/parquet-go/parquet-go"
)

// shownColumns is how many columns of the lookup are printed: those that a
// question without an item has an answer to.
const shownColumns = 32

// served is the answer of the features API, as far as it is shown.
type served struct {
	Moment  string `json:"moment"`
	Columns []struct {
		Name   string `json:"name"`
		Value  any    `json:"value"`
		Status string `json:"status"`
	} `json:"columns"`
}

// lookUp asks for the features of a user as of this moment, and shows them
// beside the newest row of the same user in version 1.1.
func (p *programs) lookUp(ctx context.Context, ingest *daemon, database string) error {
	user, at, row, err := p.someUser(ctx, database)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, ingest.base+"/v1/features/user/"+url.PathEscape(user), nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 4096))
		return fmt.Errorf("GET /v1/features: %s: %s", response.Status, text)
	}
	var now served
	if err := json.NewDecoder(response.Body).Decode(&now); err != nil {
		return fmt.Errorf("GET /v1/features: %w", err)
	}
	p.say("GET /v1/features/user/…: one user's features of %s, beside the user's row of v1.1 as known on %s", now.Moment, at.UTC().Format(time.RFC3339))
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "column\tnow\tstatus\tin v1.1")
	shown := 0
	for _, c := range now.Columns {
		then, ok := row[c.Name]
		if !ok || c.Status == "never_seen" || shown == shownColumns {
			continue
		}
		shown++
		value := "null"
		if c.Value != nil {
			value = fmt.Sprint(c.Value)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", c.Name, value, c.Status, then)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if shown == 0 {
		return errors.New("the features API and the dataset have no column in common")
	}
	return nil
}

// someUser finds, among the users of the newest examples, one that version 1.1
// holds, with the newest of the user's rows.
func (p *programs) someUser(ctx context.Context, database string) (id string, at time.Time, row map[string]string, err error) {
	conn, err := pgx.Connect(ctx, database)
	if err != nil {
		return "", at, nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	rows, err := conn.Query(ctx, `SELECT "userId"::text FROM recommendations GROUP BY 1 ORDER BY max("createdAt") DESC LIMIT 200`)
	if err != nil {
		return "", at, nil, err
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return "", at, nil, err
	}
	command := exec.CommandContext(ctx, filepath.Join(p.bin, "snapshot"), "pseudonym", "--version", "1.1", "--data-dir", p.in("data"))
	command.Stdin, command.Stderr = strings.NewReader(strings.Join(ids, "\n")+"\n"), p.stderr
	out, err := command.Output()
	if err != nil {
		return "", at, nil, fmt.Errorf("snapshot pseudonym: %w", err)
	}
	hashes := strings.Fields(string(out))
	newest, times, err := newestRows(p.in("datasets", "v1.1", "train_v1.1.parquet"), hashes)
	if err != nil {
		return "", at, nil, err
	}
	for i, hash := range hashes {
		if row, ok := newest[hash]; ok {
			return ids[i], times[hash], row, nil
		}
	}
	return "", at, nil, errors.New("none of the users of the newest examples is in version 1.1")
}

// newestRows reads the newest row of each of some users, its values as text.
func newestRows(path string, users []string) (_ map[string]map[string]string, _ map[string]time.Time, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	reader := parquet.NewReader(f)
	defer func() { err = errors.Join(err, reader.Close(), f.Close()) }()
	var names []string
	for _, column := range reader.Schema().Columns() {
		names = append(names, column[0])
	}
	user, moment := slices.Index(names, "user_hash"), slices.Index(names, "timestamp")
	if user < 0 || moment < 0 {
		return nil, nil, fmt.Errorf("%s has no column user_hash or timestamp", path)
	}
	newest, times := map[string]map[string]string{}, map[string]time.Time{}
	rows := make([]parquet.Row, 64)
	for {
		n, err := reader.ReadRows(rows)
		for _, row := range rows[:n] {
			hash, at := row[user].String(), time.UnixMicro(row[moment].Int64())
			if !slices.Contains(users, hash) || at.Before(times[hash]) {
				continue
			}
			values := map[string]string{}
			for i, v := range row {
				values[names[i]] = "null"
				if !v.IsNull() {
					values[names[i]] = v.String()
				}
			}
			newest[hash], times[hash] = values, at
		}
		if errors.Is(err, io.EOF) {
			return newest, times, nil
		}
		if err != nil {
			return nil, nil, fmt.Errorf("read %s: %w", path, err)
		}
	}
}
