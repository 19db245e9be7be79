package row_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"dreamfeed/internal/pgtest"
	"dreamfeed/internal/row"
)

// TestAgreesWithPostgres takes values from a real server, as the stream carries
// them: each must come back byte for byte, and the common ones must be typed.
func TestAgreesWithPostgres(t *testing.T) {
	s := pgtest.New(t)
	conn, err := pgx.Connect(t.Context(), s.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for _, set := range []string{
		"SET DateStyle = ISO", "SET extra_float_digits = 3", "SET TimeZone = 'UTC'", "SET IntervalStyle = postgres", "SET bytea_output = hex",
	} {
		if _, err := conn.Exec(t.Context(), set); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name, query string
		oid         uint32
		kind        row.Kind
		// typed is the least share in per cent that must be stored typed.
		typed int
	}{
		// PostgreSQL's shortest form has a digit more than Go's where the shorter
		// one lies exactly between two floats: such a value is kept as text.
		{"float8 of all sizes", `SELECT ((random() - 0.5) * power(10::float8, (i % 600) - 300))::text FROM generate_series(1, 6000) i`, oidFloat8, row.Float, 99},
		{"float8 near the switch to exponents", `SELECT (x * power(10::float8, e))::text FROM unnest(ARRAY[1, 1.5, 9.99999999999999, -3]::float8[]) x, generate_series(-7, 18) e`, oidFloat8, row.Float, 100},
		{"float8 specials", `SELECT x::float8::text FROM unnest(ARRAY['0', '-0', 'Infinity', '-Infinity', '5e-324', '1.7976931348623157e308']) x`, oidFloat8, row.Float, 100},
		{"float4", `SELECT (random() * power(10::float8, (i % 60) - 30))::float4::text FROM generate_series(1, 2000) i`, oidFloat4, row.Float, 80},
		{"timestamps", `SELECT ('0001-01-01'::timestamp + random() * ('9999-12-31'::timestamp - '0001-01-01'::timestamp))::text FROM generate_series(1, 3000)`, oidTimestamp, row.Timestamp, 100},
		{"timestamps with milliseconds", `SELECT ('1960-01-01'::timestamp + i * interval '12345678.901 s')::timestamp(3)::text FROM generate_series(1, 300) i`, oidTimestamp, row.Timestamp, 100},
		{"timestamps that no typed form holds", `SELECT x::timestamp::text FROM unnest(ARRAY['infinity', '-infinity', '0044-03-15 BC', '12000-01-01']) x`, oidTimestamp, row.Text, 100},
		{"timestamps with zone", `SELECT ('1800-01-01'::timestamptz + random() * interval '400 years')::text FROM generate_series(1, 2000)`, oidTimestampTZ, row.TimestampTZ, 100},
		{"dates", `SELECT ('0001-01-01'::date + (random() * 3652058)::int)::text FROM generate_series(1, 3000)`, oidDate, row.Date, 100},
		{"numerics", `SELECT round(((random() - 0.5) * power(10::float8, i % 12))::numeric, i % 6)::text FROM generate_series(1, 3000) i`, oidNumeric, row.Decimal, 100},
		{"numerics that are too long", `SELECT (10::numeric ^ i)::text FROM generate_series(20, 200, 20) i`, oidNumeric, row.Text, 100},
		{"numeric specials", `SELECT x::numeric::text FROM unnest(ARRAY['NaN', 'Infinity', '-Infinity']) x`, oidNumeric, row.Text, 100},
		{"bigints", `SELECT ((random() - 0.5) * 9e18)::bigint::text FROM generate_series(1, 1000)`, oidInt8, row.Int, 100},
		{"uuids", `SELECT gen_random_uuid()::text FROM generate_series(1, 1000)`, oidUUID, row.UUID, 100},
	} {
		t.Run(c.name, func(t *testing.T) {
			rows, err := conn.Query(t.Context(), c.query)
			if err != nil {
				t.Fatal(err)
			}
			texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err != nil {
				t.Fatal(err)
			}
			typed := 0
			for _, text := range texts {
				cell := row.Parse(c.oid, []byte(text))
				if cell.String() != text {
					t.Errorf("%q comes back as %q", text, cell.String())
				}
				if cell.Kind == c.kind {
					typed++
				} else if c.typed == 100 {
					t.Errorf("%q is stored with kind %d, want %d", text, cell.Kind, c.kind)
				}
			}
			if len(texts) == 0 || typed*100 < c.typed*len(texts) {
				t.Errorf("%d of %d values are typed, want %d %%", typed, len(texts), c.typed)
			}
		})
	}
}
