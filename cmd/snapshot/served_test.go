package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/parquet-go/parquet-go"

	"dreamfeed/deploy"
	"dreamfeed/internal/definition"
	"dreamfeed/internal/workload"
)

// servedRow is what a service that asks for features logs of an answer: a line
// of JSON. The recommendation with the id is the one that it went on to make.
type servedRow struct {
	ID   string    `json:"id"`
	User string    `json:"user"`
	At   time.Time `json:"at"` // when the recommendation was made: t
	// Moment is that of the answer, Flags what ingest features is told to ask the
	// same.
	Moment time.Time `json:"moment"`
	Flags  []string  `json:"flags"`
	// Alone is an answer for the user alone, without an item.
	Alone   bool           `json:"alone"`
	Columns []servedColumn `json:"columns"`
}

type servedColumn struct {
	Name   string          `json:"name"`
	Value  json.RawMessage `json:"value"`
	Status string          `json:"status"`
}

// servedAnswer is an answer for a user with items, or alone.
type servedAnswer struct {
	Moment time.Time `json:"moment"`
	Items  []struct {
		Columns []servedColumn `json:"columns"`
	} `json:"items"`
	Columns []servedColumn `json:"columns"`
}

// recommender is a service: it asks the daemon for features, logs what it was
// served, and writes the recommendations.
type recommender struct {
	t       *testing.T
	address string
	conn    *pgx.Conn
	random  *rand.Rand
	log     *json.Encoder
	made    int
}

// offered is an item with what its recommendation would say, as a question gives
// it.
type offered struct {
	Item        *string  `json:"id,omitempty"`
	Destination string   `json:"destinationId"`
	Name        string   `json:"destinationName"`
	Kind        string   `json:"destinationType"`
	Score       float64  `json:"score"`
	Confidence  *float64 `json:"confidence"`
}

// ask posts a question, or gets the answer for the user alone.
func (r *recommender) ask(user string, question map[string]any) (answer servedAnswer) {
	r.t.Helper()
	var response *http.Response
	var err error
	if question == nil {
		response, err = http.Get("http://" + r.address + "/v1/features/user/" + user)
	} else {
		body, bad := json.Marshal(question)
		if bad != nil {
			r.t.Fatal(bad)
		}
		response, err = http.Post("http://"+r.address+"/v1/features", "application/json", bytes.NewReader(body))
	}
	if err != nil {
		r.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK {
		r.t.Fatalf("features of %s: %d %s", user, response.StatusCode, body)
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		r.t.Fatalf("features of %s: %v: %s", user, err, body)
	}
	return answer
}

// touch changes something that a feature rests on, so that the newest moment is
// likely to be that of the change when the question comes.
func (r *recommender) touch(user, item string) {
	r.t.Helper()
	now := time.Now().UTC().Truncate(time.Millisecond)
	sql, args := "", []any{user}
	switch r.random.IntN(4) {
	case 0:
		sql, args = `INSERT INTO search_history (id, "userId", "sessionId", origin, destination, "departureDate", passengers, "searchedAt")
			VALUES (gen_random_uuid()::text, $1, 's', $2, 'NRT', $3, '{"adults": 2}', $4)`,
			[]any{user, fmt.Sprint("O", r.random.IntN(1000)), now.AddDate(0, 0, r.random.IntN(90)), now.Add(-time.Second)}
	case 1:
		sql, args = `UPDATE user_vectors SET "primarySegment" = $2, "updatedAt" = $3 WHERE "userId" = $1`,
			[]any{user, fmt.Sprint("SEGMENT_", r.random.IntN(1000)), now}
	case 2:
		sql, args = `UPDATE item_vectors SET "bookingCount" = "bookingCount" + 1, "updatedAt" = $2 WHERE id = $1`, []any{item, now}
	case 3:
		sql = `DELETE FROM favorites WHERE "userId" = $1`
	}
	r.exec(sql, args...)
}

// exec runs a statement that says nothing of a user or item which the traffic
// deletes meanwhile: what names it is refused by its foreign key.
func (r *recommender) exec(sql string, args ...any) {
	r.t.Helper()
	const foreignKeyViolation = "23503"
	_, err := r.conn.Exec(r.t.Context(), sql, args...)
	var refused *pgconn.PgError
	if err != nil && !(errors.As(err, &refused) && refused.Code == foreignKeyViolation) {
		r.t.Fatal(err)
	}
}

// recommend asks for a user with some items, and writes exactly what was asked
// about, with createdAt the moment of the answer or the one that was given.
func (r *recommender) recommend() {
	r.t.Helper()
	ctx := r.t.Context()
	var user string
	if err := r.conn.QueryRow(ctx, `SELECT id FROM users ORDER BY md5(id || $1) LIMIT 1`, fmt.Sprint(r.random.Uint64())).Scan(&user); err != nil {
		r.t.Fatal(err)
	}
	rows, err := r.conn.Query(ctx, `SELECT id, "destinationId", name, "destinationType" FROM (
			SELECT v.id, v."destinationId", v."destinationType", 'Place of ' || coalesce(v.country, 'the sea') AS name FROM item_vectors v) x
		ORDER BY md5(id || $1) LIMIT 3`, fmt.Sprint(r.random.Uint64()))
	if err != nil {
		r.t.Fatal(err)
	}
	offers, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (o offered, err error) {
		o.Score = r.random.Float64()
		if r.random.IntN(4) > 0 {
			c := r.random.Float64()
			o.Confidence = &c
		}
		return o, row.Scan(&o.Item, &o.Destination, &o.Name, &o.Kind)
	})
	if err != nil {
		r.t.Fatal(err)
	}
	if r.random.IntN(3) > 0 {
		before := time.Now()
		r.touch(user, *offers[0].Item)
		await(r.t, "a change to be applied", func() bool { return r.ask(user, nil).Moment.After(before) })
	}
	for i := range offers {
		switch r.random.IntN(8) {
		case 0:
			offers[i].Item = nil // found by its destination
		case 1:
			offers[i].Item, offers[i].Destination = nil, "nowhere"
		}
	}
	place := []string{"general", "homepage", "email"}[r.random.IntN(3)]
	if r.random.IntN(4) == 0 {
		answer := r.ask(user, nil)
		r.write(offers[0], place, servedRow{User: user, At: answer.Moment, Moment: answer.Moment, Alone: true, Columns: answer.Columns})
		return
	}
	context := map[string]any{"contextType": place}
	var at time.Time
	if r.random.IntN(3) == 0 {
		at = r.ask(user, nil).Moment.Add(-time.Duration(r.random.IntN(50)) * time.Millisecond).Truncate(time.Millisecond)
		context["createdAt"] = at
	}
	answer := r.ask(user, map[string]any{"user": user, "items": offers, "context": context})
	if len(answer.Items) != len(offers) {
		r.t.Fatalf("%d items answered of %d", len(answer.Items), len(offers))
	}
	for i, o := range offers {
		row := servedRow{User: user, At: answer.Moment, Moment: answer.Moment, Columns: answer.Items[i].Columns, Flags: o.flags(place)}
		if !at.IsZero() {
			row.At, row.Flags = at, append(row.Flags, "--context", "createdAt="+at.Format(time.RFC3339Nano))
		}
		r.write(o, place, row)
	}
}

// flags have ingest features ask about the same item in the same place.
func (o *offered) flags(place string) []string {
	flags := []string{
		"--context", "contextType=" + place, "--context", "destinationId=" + o.Destination, "--context", "destinationName=" + o.Name,
		"--context", "destinationType=" + o.Kind, "--context", "score=" + strconv.FormatFloat(o.Score, 'g', -1, 64),
	}
	if o.Confidence != nil {
		flags = append(flags, "--context", "confidence="+strconv.FormatFloat(*o.Confidence, 'g', -1, 64))
	}
	if o.Item != nil {
		flags = append(flags, "--item", *o.Item)
	}
	return flags
}

// write logs what was served and inserts the recommendation.
func (r *recommender) write(o offered, place string, row servedRow) {
	r.t.Helper()
	r.made++
	row.ID = fmt.Sprintf("served-%d", r.made)
	if err := r.log.Encode(row); err != nil {
		r.t.Fatal(err)
	}
	// A user or item that is gone by now takes no recommendation.
	r.exec(`INSERT INTO recommendations (id, "userId", "itemVectorId", "destinationId", "destinationName", "destinationType",
			score, confidence, "contextType", "expiresAt", "createdAt", "updatedAt")
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11)`,
		row.ID, row.User, o.Item, o.Destination, o.Name, o.Kind, o.Score, o.Confidence, place, row.At.Add(30*24*time.Hour), row.At)
}

// storedRows reads the file of --stage features, by interaction id.
func storedRows(t *testing.T, output, version string) map[string]map[string]any {
	t.Helper()
	path := filepath.Join(output, "features_v"+version, "features_v"+version+".parquet")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	file, err := parquet.OpenFile(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	fields := file.Schema().Fields()
	reader := parquet.NewReader(file)
	defer reader.Close()
	stored := map[string]map[string]any{}
	for buffer := make([]parquet.Row, 100); ; {
		n, err := reader.ReadRows(buffer)
		for _, row := range buffer[:n] {
			m := map[string]any{}
			for _, v := range row {
				name := fields[v.Column()].Name()
				switch {
				case v.IsNull():
					m[name] = nil
				case v.Kind() == parquet.ByteArray:
					m[name] = string(v.ByteArray())
				case v.Kind() == parquet.Boolean:
					m[name] = v.Boolean()
				case v.Kind() == parquet.Float:
					m[name] = v.Float()
				default:
					m[name] = v.Int64()
				}
			}
			stored[m["interaction_id"].(string)] = m
		}
		if errors.Is(err, io.EOF) {
			return stored
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// sameValue says whether a value as served is the one stored, null as null.
func sameValue(served json.RawMessage, stored any) bool {
	text := string(served)
	switch v := stored.(type) {
	case nil:
		return text == "null"
	case string:
		var s string
		return json.Unmarshal(served, &s) == nil && s == v && text != "null"
	case bool:
		return text == strconv.FormatBool(v)
	case float32:
		f, err := strconv.ParseFloat(text, 32)
		return err == nil && float32(f) == v
	case int64:
		n, err := strconv.ParseInt(text, 10, 64)
		return err == nil && n == v
	}
	return false
}

// ofUser says whether a column rests on the user and the moment only.
func ofUser(name string) bool {
	return !strings.HasPrefix(name, "item_") && !strings.HasPrefix(name, "recommendation_") && name != "context_type"
}

// What was served is what the dataset holds of the same recommendation, column by
// column, and what ingest features tells of the same moment: there is one
// function for all (DESIGN §6).
func TestServedFeaturesEqualTheStoredOnes(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	s := source{url: shared.NewDatabase(t), dataDir: filepath.Join(t.TempDir(), "data")}
	conn, err := pgx.Connect(t.Context(), s.url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := workload.CreateSchema(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	// The moment of an answer has microseconds: a column that rounded it would
	// make another moment of it.
	if _, err := conn.Exec(t.Context(), `ALTER TABLE recommendations ALTER "createdAt" TYPE timestamp(6)`); err != nil {
		t.Fatal(err)
	}
	if _, err := workload.Populate(t.Context(), conn, workload.Config{Seed: 5, Users: 60, Items: 40, Days: 40, Now: time.Now().UTC()}); err != nil {
		t.Fatal(err)
	}
	address := freeAddress(t)
	daemon := s.ingest(t, "--listen", address)
	await(t, "ingest to be ready", func() bool {
		code, _ := get(address, "/readyz")
		return code == http.StatusOK
	})

	log, err := os.Create(filepath.Join(t.TempDir(), "served.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	r := &recommender{t: t, address: address, conn: conn, random: rand.New(rand.NewPCG(seed, 0)), log: json.NewEncoder(log)}
	// serve recommends at least so often, and as long as the traffic goes on.
	serve := func(n int64, rounds, transactions int) {
		done := make(chan error, 1)
		go func() {
			_, err := workload.Run(t.Context(), s.url, workload.Traffic{Seed: int64(seed>>1) + n, Connections: 2, Rate: 150, Transactions: transactions})
			done <- err
		}()
		for over := false; rounds > 0 || !over; rounds-- {
			r.recommend()
			select {
			case err := <-done:
				if over = true; err != nil {
					t.Fatal(err)
				}
			default:
			}
		}
	}
	output := filepath.Join(s.dataDir, "datasets")
	build := func(version string) map[string]map[string]any {
		code, stdout, stderr := command(t, "", "--data-dir", s.dataDir, "--output", output, "--stage", "features", "--version", version, "--as-of", "now", "--keep")
		path := filepath.Join(output, "features_v"+version)
		if want := fmt.Sprintf("%s/features_v%s.parquet\n%s/metadata_features_v%s.json\n", path, version, path, version); code != 0 || !strings.HasSuffix(stdout, want) {
			t.Fatalf("snapshot --stage features: exit code %d, said %s, want the paths %s: %s", code, stdout, want, stderr)
		}
		return storedRows(t, output, version)
	}
	serve(1, 90, 150)
	before := r.made
	first := build("1.1")
	// What happens later to users, items and the recommendations themselves
	// changes nothing of it.
	serve(2, 20, 100)
	second := build("1.2")

	rows := readLog(t, log.Name())
	features := featureColumns(t)
	requireServed(t, s, conn, "1.1", rows[:before], first, features)
	requireServed(t, s, conn, "1.2", rows, second, features)
	requireTold(t, s, rows, features)

	// The dataset of a version is one thing and its rows of step 5 another, of
	// another moment here, and both are kept.
	if code, _, stderr := command(t, "", "--data-dir", s.dataDir, "--output", output, "--version", "1.1", "--as-of", "now", "--keep"); code != 0 {
		t.Errorf("the dataset after its features: exit code %d: %s", code, stderr)
	}
	if _, kept, _ := command(t, "", "kept", "--data-dir", s.dataDir); !strings.Contains(kept, "\n1.1 ") || !strings.Contains(kept, "\nfeatures_v1.1 ") {
		t.Errorf("kept is\n%s\nwant 1.1 and features_v1.1", kept)
	}
	daemon.stop(t)
}

func readLog(t *testing.T, path string) (rows []servedRow) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		var row servedRow
		if err := json.Unmarshal(lines.Bytes(), &row); err != nil {
			t.Fatal(err)
		}
		rows = append(rows, row)
	}
	return rows
}

// featureColumns are the names of the columns that a model is given.
func featureColumns(t *testing.T) (names []string) {
	t.Helper()
	def, err := definition.Load(deploy.Dreamscape, "dreamscape.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for i := range def.Columns {
		if def.Columns[i].Role == definition.RoleFeature {
			names = append(names, def.Columns[i].Name)
		}
	}
	return names
}

// requireServed holds what was served against the rows of step 5, and requires
// that each recommendation which is there has its row.
func requireServed(t *testing.T, s source, conn *pgx.Conn, version string, rows []servedRow, stored map[string]map[string]any, features []string) {
	t.Helper()
	held, err := conn.Query(t.Context(), `SELECT id FROM recommendations WHERE id LIKE 'served-%'`)
	if err != nil {
		t.Fatal(err)
	}
	list, err := pgx.CollectRows(held, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, id := range list {
		there[id] = true
	}
	ids := make([]string, len(rows))
	users := make([]string, len(rows))
	for i := range rows {
		ids[i], users[i] = rows[i].ID, rows[i].User
	}
	pseudonyms := s.pseudonyms(t, version, ids)
	compared, values, wrong, alone, without := 0, 0, 0, 0, 0
	for i, row := range rows {
		found := stored[pseudonyms[i]]
		columns := map[string]servedColumn{}
		for _, c := range row.Columns {
			columns[c.Name] = c
		}
		vector := columns["user_climate_pref"].Status
		lacks := vector == "never_seen" || vector == "deleted"
		switch {
		case found == nil && lacks:
			without++
			continue
		case found == nil && there[row.ID]:
			t.Errorf("version %s: %s was served and written, and is no row (vector %s)", version, row.ID, vector)
			continue
		case found == nil:
			continue // deleted since
		case lacks:
			t.Errorf("version %s: %s was served without a vector, and is a row", version, row.ID)
		}
		compared++
		if row.Alone {
			alone++
		}
		for _, name := range features {
			if row.Alone && !ofUser(name) {
				continue
			}
			values++
			v, ok := columns[name]
			if !ok {
				v.Value = json.RawMessage("nothing")
			}
			if !sameValue(v.Value, found[name]) {
				if wrong++; wrong <= 20 {
					t.Errorf("version %s, %s of %s: column %s was served as %s (%s) and is stored as %v", version, row.ID, row.At.Format(time.RFC3339Nano), name, v.Value, v.Status, found[name])
				}
			}
		}
	}
	t.Logf("version %s: %d rows, %d of them of the user alone, %d values compared, %d different; %d served users without a vector", version, compared, alone, values, wrong, without)
	if whole := compared - alone; whole < 120 || alone < 5 {
		t.Errorf("version %s: %d rows with an item and %d without compared: too few", version, whole, alone)
	}
}

// requireTold has ingest features tell of some of the moments again.
func requireTold(t *testing.T, s source, rows []servedRow, features []string) {
	t.Helper()
	program, err := ingestProgram()
	if err != nil {
		t.Fatal(err)
	}
	const asked = 20
	for i := range asked {
		row := rows[i*len(rows)/asked]
		at := row.Moment.UTC().Format(time.RFC3339Nano)
		var stderr bytes.Buffer
		ask := exec.CommandContext(t.Context(), program, slices.Concat([]string{"features", "--data-dir", s.dataDir, "--json", "--user", row.User, "--at", at}, row.Flags)...)
		ask.Stderr = &stderr
		out, err := ask.Output()
		if err != nil {
			t.Fatalf("ingest features --at %s: %v: %s", at, err, stderr.String())
		}
		var answer servedAnswer
		if err := json.Unmarshal(out, &answer); err != nil {
			t.Fatalf("ingest features: %v: %s", err, out)
		}
		columns := answer.Columns
		if len(answer.Items) == 1 {
			columns = answer.Items[0].Columns
		}
		told := map[string]servedColumn{}
		for _, c := range columns {
			told[c.Name] = c
		}
		for _, c := range row.Columns {
			if again := told[c.Name]; !bytes.Equal(again.Value, c.Value) || again.Status != c.Status {
				t.Errorf("%s at %s: column %s was served as %s (%s), and ingest features says %s (%s)", row.ID, at, c.Name, c.Value, c.Status, again.Value, again.Status)
			}
		}
		if len(told) != len(features) {
			t.Errorf("ingest features told %d columns, want %d", len(told), len(features))
		}
	}
}
