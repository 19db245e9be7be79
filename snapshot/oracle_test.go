package snapshot_test

import (
	"bytes"
	"cmp"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"math/big"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"dreamfeed/internal/definition"
	"dreamfeed/snapshot"
	"dreamfeed/snapshot/pit"
)

// The oracle does steps 6 to 10 of the contract the plain way: all rows in
// memory, one rule after another.

type oracleRow struct {
	e       pit.Example
	columns []any // nil is null
	user    string
	weight  float32
	test    bool
}

type oracle struct {
	funnel      []snapshot.FunnelStep
	train, test [][]any
}

func hashOf(domain string, seed int64, id string) uint64 {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%d\x00%s", domain, seed, id))
	return binary.BigEndian.Uint64(sum[:])
}

func pseudonym(column, version, id string) string {
	sub, err := hkdf.Key(sha256.New, key, nil, column+"/v"+version, 32)
	if err != nil {
		panic(err)
	}
	mac := hmac.New(sha256.New, sub)
	mac.Write([]byte(id))
	return hex.EncodeToString(mac.Sum(nil))
}

func rat(s string) *big.Rat {
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		panic(s)
	}
	return r
}

func floorOf(r *big.Rat) int { return int(new(big.Int).Quo(r.Num(), r.Denom()).Int64()) }

func contract(c snapshot.Config, examples []pit.Example) *oracle {
	def := c.Definition
	o := &oracle{}
	left := len(examples)
	o.funnel = append(o.funnel, snapshot.FunnelStep{Key: "candidates", Count: int64(left)})
	remove := func(name string, n int) {
		left -= n
		o.funnel = append(o.funnel, snapshot.FunnelStep{Key: name, Count: int64(left), Removed: int64(n)})
	}
	for _, k := range []string{"deleted", "no_vector", "deletion_pending", "consent"} {
		remove(k, 0)
	}
	var rows []*oracleRow
	for _, e := range examples {
		if c.Inexact == snapshot.Drop && e.Exact >= pit.Inexact {
			continue
		}
		rows = append(rows, &oracleRow{e: e, user: pseudonym("reader_hash", c.Version, e.EntityID), weight: 1})
	}
	remove("inexact", left-len(rows))
	drop := func(name string, bad func(*oracleRow) bool) {
		before := len(rows)
		rows = slices.DeleteFunc(rows, bad)
		remove(name, before-len(rows))
	}
	drop("immature", func(r *oracleRow) bool { return def.Example.DropImmature && r.e.Immature })
	if def.Labels.DropCensored {
		drop("censored", func(r *oracleRow) bool { return r.e.Censored })
	}

	// 7
	var sampled []*oracleRow
	positives := 0
	for _, r := range rows {
		if def.Labels.Outcomes[r.e.Outcome].Score > 0 {
			positives++
		}
		if def.Labels.Outcomes[r.e.Outcome].Name == def.Labels.Sampled {
			sampled = append(sampled, r)
		}
	}
	byHash := func(domain string) func(a, b *oracleRow) int {
		return func(a, b *oracleRow) int {
			return cmp.Or(cmp.Compare(hashOf(domain, c.Seed, a.e.ID), hashOf(domain, c.Seed, b.e.ID)), strings.Compare(a.e.ID, b.e.ID))
		}
	}
	slices.SortFunc(sampled, byHash("negatives"))
	m := min(len(sampled), floorOf(new(big.Rat).Mul(rat(c.NegativeRatio), new(big.Rat).SetInt64(int64(positives)))))
	gone := map[*oracleRow]bool{}
	for i, r := range sampled {
		if i >= m {
			gone[r] = true
		} else {
			r.weight = float32(float64(len(sampled)) / float64(m))
		}
	}
	drop("not_sampled", func(r *oracleRow) bool { return gone[r] })

	// 8
	for i := range def.Columns {
		d := &def.Columns[i]
		if d.Required && d.Derive.Pseudonym == nil {
			drop("missing_required:"+d.Name, func(r *oracleRow) bool { return !r.e.Columns[i].Valid })
		}
	}
	for _, r := range rows {
		r.e.Columns = slices.Clone(r.e.Columns)
		for _, i := range []int{colV0, colV1} {
			r.e.Columns[i].Float = min(max(r.e.Columns[i].Float, 0), 1)
		}
	}
	rules := []func(*oracleRow) (float64, bool){
		func(r *oracleRow) (float64, bool) {
			return float64(r.e.Columns[colBudget].Float), r.e.Columns[colBudget].Valid
		},
		func(r *oracleRow) (float64, bool) { return float64(r.e.Values[0].Int), r.e.Values[0].Valid },
	}
	var limits [][2]float64
	for _, value := range rules {
		var values []float64
		for _, r := range rows {
			if v, ok := value(r); ok {
				values = append(values, v)
			}
		}
		slices.Sort(values)
		limits = append(limits, naiveBounds(values, def.Deviations))
	}
	for i, name := range def.Outliers {
		drop("outlier:"+name, func(r *oracleRow) bool {
			v, ok := rules[i](r)
			return ok && c.Outliers != snapshot.Keep && (v < limits[i][0] || v > limits[i][1])
		})
	}

	o.anonymise(def, rows)
	drop("suppressed", func(r *oracleRow) bool {
		if def.Privacy.GroupMinUsers == 0 {
			return false
		}
		group := func(r *oracleRow) string {
			flag := "null"
			if v := r.e.Columns[colFlag]; v.Valid {
				flag = fmt.Sprint(v.Int)
			}
			return r.e.Columns[colSegment].Text + "/" + flag
		}
		users := map[string]bool{}
		for _, other := range rows {
			if group(other) == group(r) {
				users[other.user] = true
			}
		}
		return len(users) < def.Privacy.GroupMinUsers
	})
	remove("embargo", 0)

	// 10
	for class := range def.Labels.Outcomes {
		var members []*oracleRow
		for _, r := range rows {
			if r.e.Outcome == class {
				members = append(members, r)
			}
		}
		slices.SortFunc(members, byHash("split"))
		n := new(big.Rat).Mul(rat(c.TestSize), new(big.Rat).SetInt64(int64(len(members))))
		for _, r := range members[:floorOf(n.Add(n, big.NewRat(1, 2)))] {
			r.test = true
		}
	}
	o.fill(c, def, rows)
	slices.SortFunc(rows, func(a, b *oracleRow) int {
		return cmp.Or(strings.Compare(a.columns[colUser].(string), b.columns[colUser].(string)),
			cmp.Compare(a.e.Time, b.e.Time), strings.Compare(a.columns[colID].(string), b.columns[colID].(string)))
	})
	for _, r := range rows {
		if r.test {
			o.test = append(o.test, r.columns)
		} else {
			o.train = append(o.train, r.columns)
		}
	}
	o.funnel = append(o.funnel, snapshot.FunnelStep{Key: "train", Count: int64(len(o.train))}, snapshot.FunnelStep{Key: "test", Count: int64(len(o.test))})
	return o
}

func naiveBounds(values []float64, k float64) [2]float64 {
	none := [2]float64{math.Inf(-1), math.Inf(1)}
	if len(values) < 2 {
		return none
	}
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	mean, squares := sum/float64(len(values)), 0.0
	for _, v := range values {
		squares += (v - mean) * (v - mean)
	}
	sd := math.Sqrt(squares / float64(len(values)-1))
	if sd == 0 {
		return none
	}
	return [2]float64{mean - k*sd, mean + k*sd}
}

// anonymise fills and merges the quasi texts.
func (o *oracle) anonymise(def *definition.Definition, rows []*oracleRow) {
	for _, r := range rows {
		for _, i := range []int{colSegment, colTypes} {
			if v := &r.e.Columns[i]; !v.Valid || v.Text == "" {
				*v = pit.Value{Valid: true, Text: "UNKNOWN"}
			}
		}
	}
	merge := func(parts func(r *oracleRow) []string, set func(r *oracleRow, parts []string)) {
		users := map[string]map[string]bool{}
		for _, r := range rows {
			for _, v := range parts(r) {
				if users[v] == nil {
					users[v] = map[string]bool{}
				}
				users[v][r.user] = true
			}
		}
		rare := map[string]bool{"OTHER": true}
		other := map[string]bool{}
		join := func(v string) {
			rare[v] = true
			for u := range users[v] {
				other[u] = true
			}
		}
		join("OTHER")
		var values []string
		for v := range users {
			if v != "OTHER" {
				values = append(values, v)
			}
		}
		slices.SortFunc(values, func(a, b string) int {
			return cmp.Or(cmp.Compare(len(users[a]), len(users[b])), strings.Compare(a, b))
		})
		for _, v := range values {
			if len(users[v]) < def.Privacy.MinUsers || len(other) > 0 && len(other) < def.Privacy.MinUsers {
				join(v)
			}
		}
		for _, r := range rows {
			var out []string
			for _, v := range parts(r) {
				if rare[v] {
					v = "OTHER"
				}
				out = append(out, v)
			}
			slices.Sort(out)
			set(r, slices.Compact(out))
		}
	}
	whole := func(i int) (func(*oracleRow) []string, func(*oracleRow, []string)) {
		return func(r *oracleRow) []string { return []string{r.e.Columns[i].Text} },
			func(r *oracleRow, parts []string) { r.e.Columns[i].Text = parts[0] }
	}
	merge(whole(colSegment))
	merge(func(r *oracleRow) []string { return strings.Split(r.e.Columns[colTypes].Text, ",") },
		func(r *oracleRow, parts []string) { r.e.Columns[colTypes].Text = strings.Join(parts, ",") })
	merge(whole(colTypes))
}

// fill makes the columns as written.
func (o *oracle) fill(c snapshot.Config, def *definition.Definition, rows []*oracleRow) {
	for _, r := range rows {
		r.columns = make([]any, colsN)
		r.columns[colUser] = r.user
		r.columns[colID] = pseudonym("offer_id", c.Version, r.e.ID)[:32]
		r.columns[colWeight] = r.weight
	}
	for i := range def.Columns {
		d := &def.Columns[i]
		if d.Derive.Pseudonym != nil || d.Derive.Alias != "" || d.Derive.Quality == definition.QualityWeight {
			continue
		}
		var train []float64
		for _, r := range rows {
			v := r.e.Columns[i]
			if !v.Valid {
				continue
			}
			switch d.Type {
			case definition.String:
				r.columns[i] = v.Text
			case definition.Float32:
				r.columns[i] = v.Float
				if !r.test {
					train = append(train, float64(v.Float))
				}
			case definition.Int32:
				r.columns[i] = int32(v.Int)
			case definition.Boolean:
				r.columns[i] = v.Int == 1
			case definition.TimeStamp:
				r.columns[i] = v.Int
			}
		}
		slices.Sort(train)
		for _, r := range rows {
			if r.columns[i] != nil && r.columns[i] != "" {
				continue
			}
			switch d.Missing {
			case definition.MissingUnknown:
				r.columns[i] = "UNKNOWN"
			case definition.MissingFalse:
				r.columns[i] = false
			case definition.MissingZero:
				r.columns[i] = int32(0)
			case definition.MissingMedian:
				if len(train) > 0 {
					r.columns[i] = float32(train[(len(train)-1)/2])
				}
			}
		}
	}
	for _, r := range rows {
		r.columns[colAlias] = r.columns[colBudget]
	}
}

// readParquet reads a file's rows with parquet-go.
func readParquet(t *testing.T, path string) (*parquet.File, [][]any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := parquet.OpenFile(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	var out [][]any
	reader := parquet.NewReader(f)
	defer reader.Close()
	buffer := make([]parquet.Row, 100)
	for {
		n, err := reader.ReadRows(buffer)
		for _, row := range buffer[:n] {
			values := make([]any, len(row))
			for _, v := range row {
				values[v.Column()] = valueOf(v)
			}
			out = append(out, values)
		}
		if err != nil {
			break
		}
	}
	if int64(len(out)) != f.NumRows() {
		t.Fatalf("%s: read %d of %d rows", path, len(out), f.NumRows())
	}
	return f, out
}

func valueOf(v parquet.Value) any {
	if v.IsNull() {
		return nil
	}
	switch v.Kind() {
	case parquet.Boolean:
		return v.Boolean()
	case parquet.Int32:
		return v.Int32()
	case parquet.Int64:
		return v.Int64()
	case parquet.Float:
		return v.Float()
	}
	return string(v.ByteArray())
}
