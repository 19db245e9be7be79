package report_test

import (
	"fmt"
	"math"
	"strings"
	"time"

	"dreamfeed/snapshot/report"
)

var (
	none   = report.Figure{Hidden: report.None}
	masked = report.Figure{Hidden: report.Masked}
)

// sample is a report of an online bookshop, with everything that a report can
// show and with the characters that break careless templates.
func sample() report.Data {
	asOf := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	low, high := 0.05, 0.15
	return report.Data{
		Identity: report.Identity{
			Dataset: "bookshop", Version: "1.1",
			Doc:            "Books offered to readers, with what was known of reader and book at that moment.",
			DefinitionHash: strings.Repeat("9f2c41d7", 8), LogicalDigest: strings.Repeat("03ab77e1", 8),
			AsOf: asOf, WindowFrom: asOf.AddDate(0, 0, -90), WindowTo: asOf, CreatedAt: asOf.Add(26 * time.Hour),
			Watermark: asOf.Add(time.Hour + 123456*time.Microsecond), LSN: "16/B374D848",
			Seed: 42, Program: "snapshot v0.3.0",
			Settings: []report.Setting{
				{Name: "window-days", Value: "90"},
				{Name: "negative-ratio", Value: "2.0"},
				{Name: "test-size", Value: "0.2"},
				{Name: "inexact", Value: "keep"},
				{Name: "outliers", Value: "drop"},
			},
			TrainRows: 128_000, TestRows: 32_000, TrainUsers: 21_480, TestUsers: 14_002, ColumnCount: 12,
		},
		Gates: []report.Gate{
			{Name: "Required columns", Figure: report.Count(0), Unit: report.Rows, Threshold: report.AtMost(0), Verdict: report.Pass, Sentence: "No required column has a null."},
			{Name: "Duplicate interaction ids", Figure: report.Count(0), Unit: report.Rows, Threshold: report.AtMost(0), Verdict: report.Pass, Sentence: "Every interaction id occurs once."},
			{Name: "Train size", Figure: report.Of(14_730_112), Unit: report.Bytes, Threshold: report.AtLeast(10e6), Verdict: report.Pass, Sentence: "The train file is large enough."},
			{Name: "Test size", Figure: report.Of(1_910_400), Unit: report.Bytes, Threshold: report.AtLeast(2e6), Verdict: report.Warn, Sentence: "The test file is smaller than expected: widen the window or raise --test-size."},
			{Name: "Booking rate", Figure: report.Of(0.0931), Unit: report.Share, Threshold: report.Within(low, high), Verdict: report.Pass, Sentence: "The share of bought books is as expected."},
			{Name: "Largest outcome", Figure: report.Of(0.6634), Unit: report.Share, Threshold: report.AtMost(0.8), Verdict: report.Pass, Sentence: "NOT_VIEWED is the largest outcome."},
			{Name: "Inexact features", Figure: report.Of(0.2214), Unit: report.Share, Threshold: report.AtMost(0.2), Verdict: report.Warn, Sentence: "More rows than expected use a feature that was first seen after its example; --inexact drop leaves them out."},
			{Name: "Outlier rule on price", Figure: report.Of(1.38), Unit: report.Times, Threshold: report.AtMost(2), Verdict: report.Pass, Sentence: "No outcome loses over twice the overall share."},
			{Name: "Currencies", Figure: report.Count(1), Unit: report.Values, Threshold: report.AtMost(1), Verdict: report.Pass, Sentence: "All amounts are in one currency."},
		},
		Warnings: []string{"Column shelf_age has no value in train, so its gaps stay null."},
		Funnel: []report.Step{
			{Key: "candidates", Count: 412_337, Share: 1, Note: "offers in the window"},
			{Key: "deleted", Count: 411_021, Removed: 1_316, Share: 0.99681, Note: "deleted before the as-of moment"},
			{Key: "no_profile", Count: 398_740, Removed: 12_281, Share: 0.96702, Note: "the reader had no profile yet"},
			{Key: "not_sampled", Count: 166_108, Removed: 232_632, Share: 0.40285, Note: "not viewed, thinned out to 2.0 a purchase"},
			{Key: "missing_required:score", Count: 166_101, Removed: 7, Share: 0.40283, Note: "score is required"},
			{Key: "outlier:price", Count: 161_420, Removed: 4_681, Share: 0.39148, Note: "outside mean ± 3 deviations"},
			{Key: "suppressed", Count: 160_000, Removed: 1_420, Share: 0.38803, Note: "groups of fewer than 10 users"},
			{Key: "train", Count: 128_000, Share: 0.31042, Split: true},
			{Key: "test", Count: 32_000, Share: 0.07761, Split: true},
		},
		Classes: []report.Class{
			{Name: "BOUGHT", Score: report.Of(5), Train: report.Count(11_918), Test: report.Count(2_979), TrainShare: report.Of(0.0931), TestShare: report.Of(0.0931)},
			{Name: "REJECTED", Score: report.Of(-1), Train: report.Count(6_400), Test: report.Count(1_600), TrainShare: report.Of(0.05), TestShare: report.Of(0.05)},
			{Name: "NOT_VIEWED", Score: report.Of(0), Train: report.Count(84_915), Test: report.Count(21_229), TrainShare: report.Of(0.6634), TestShare: report.Of(0.6634)},
			{Name: "GIFTED", Score: none, Train: masked, Test: masked, TrainShare: masked, TestShare: masked},
		},
		Labels: []report.Label{
			{Name: "purchase_rate", Unit: report.Share, Train: report.Of(0.0931), Test: report.Of(0.0931), Doc: "Share of offers that ended in a purchase."},
			{Name: "avg_rating", Train: report.Of(3.914), Test: none, Doc: "Mean rating of those who rated."},
		},
		Maturity:    &report.Maturity{AfterSeconds: 7 * 86400, Immature: 9_211, Examples: 398_740, Share: 0.0231},
		LabelWindow: &report.LabelWindow{Seconds: 14 * 86400, Censored: 61_002, Examples: 398_740, Share: 0.15299, Dropped: true},
		GoalRecall: &report.GoalRecall{Goal: "BOUGHT", AgeSeconds: 30 * 86400, Examples: report.Count(13_207), Within: []report.Reached{
			{Seconds: 86400, Examples: report.Count(5_811), Share: report.Of(0.44)},
			{Seconds: 7 * 86400, Examples: report.Count(9_906), Share: report.Of(0.75006)},
			{Seconds: 14 * 86400, Examples: masked, Share: masked},
			{Seconds: 30 * 86400, Examples: report.Count(13_001), Share: report.Of(0.98440)},
		}},
		Charts:      sampleCharts(&report.Threshold{Low: &low, High: &high}),
		Columns:     sampleColumns(),
		PointInTime: report.PointInTime{Live: 88_312, Trusted: 36_264, Inexact: 30_100, Older: 5_324, LiveShare: 0.55195, TrustedShare: 0.22665, InexactShare: 0.188125, OlderShare: 0.033275},
		Lateness:    []report.Lateness{{Table: "offers", Rows: 412_337, P50: report.Of(0.4), P99: report.Of(93), Max: report.Of(86_400), Ahead: 12, Lead: report.Of(1.5)}, {Table: "orders", Rows: 51_002, P50: report.Of(0.5), P99: report.Of(7203), Max: report.Figure{Hidden: report.Masked}, Lead: report.Figure{Hidden: report.Masked}}},
		Faults: []report.Fault{
			{Column: "taste_1", Reason: "wrong_length", Count: 318},
			{Column: "pages", Reason: "not_a_number", Count: 41},
			{Column: "age_group", Reason: "bad_birth_date", Count: 12},
		},
		Outliers: []report.Outlier{
			{Column: "price", Low: report.Of(-12.418), High: report.Of(96.02), Outside: 4_681, Share: 0.02818, Dropped: true, Classes: []report.ClassShare{
				{Name: "BOUGHT", Share: report.Of(0.0389)}, {Name: "REJECTED", Share: report.Of(0.021)}, {Name: "NOT_VIEWED", Share: report.Of(0.0277)},
			}},
			{Column: "pages", Low: none, High: none, Dropped: true},
		},
		Privacy: report.Privacy{
			Claim: "pseudonymised", MinUsers: 10,
			Sentence: "Ids are replaced by keyed pseudonyms; whoever holds the key, or knows enough of a person's tastes, can find the person again. The dataset remains personal data.",
			Measures: []report.Measure{
				{Name: "Smallest group", Figure: report.Count(10), Unit: report.Users, Doc: "users who share a combination of the grouped columns"},
				{Name: "Unique taste vectors", Figure: report.Of(0.9712), Unit: report.Share, Doc: "users whose vector no other user has"},
			},
			Rare:   []report.Rare{{Column: "region", Into: "OTHER", Values: 4, Rows: report.Count(37)}, {Column: "genres", Into: "OTHER", Values: 2, Rows: masked}},
			Limits: []string{"Taste vectors are unique to a user and can link two versions."},
		},
		Reproduce: report.Reproduce{
			Command: `snapshot --version 1.1 --as-of 2026-11-01T00:00:00Z --window-days 90 --seed 42 --output "data & sets"`,
			Files: []report.File{
				{Name: "train_v1.1.parquet", Bytes: 14_730_112, Rows: 128_000, SHA256: strings.Repeat("5be1", 16)},
				{Name: "test_v1.1.parquet", Bytes: 1_910_400, Rows: 32_000, SHA256: strings.Repeat("c0de", 16)},
			},
			Notes: []string{"The pseudonyms need the same key; without it all else is equal."},
		},
	}
}

// sampleCharts has one chart of each kind, and a second of two.
func sampleCharts(expected *report.Threshold) []report.Chart {
	cell := func(label string, train, test int64) report.Cell {
		return report.Cell{Label: label, Train: report.Count(train), Test: report.Count(test)}
	}
	engagement := report.Chart{Title: "Engagement score", Kind: report.Bars, Column: "engagement_score", Doc: "What the outcome is worth.", Cells: []report.Cell{
		cell("-1", 6_400, 1_600), cell("0", 84_915, 21_229), cell("1", 16_210, 4_060), cell("3", 8_557, 2_132), cell("5", 11_918, 2_979),
	}}
	genres := report.Chart{Title: "Genres <favourite> & others", Kind: report.Bars, Column: "genre", Doc: "The genre a reader bought most.", Cells: []report.Cell{
		cell("CRIME", 40_112, 9_804), cell("SCIENCE_FICTION_AND_FANTASY", 29_871, 7_722), cell("POETRY", 21_003, 5_009), cell("UNKNOWN", 18_204, 4_690),
		cell("TRAVEL", 12_440, 3_201), cell("OTHER", 6_370, 1_574),
		{Label: "ESSAY", Train: masked, Test: masked},
	}}
	price := report.Chart{Title: "Price", Kind: report.Histogram, Column: "price", Doc: "List price of the book in the shop's currency."}
	for i := range 24 {
		x := float64(i)
		train := 118_000 * (0.11*math.Exp(-math.Pow((x-7)/4, 2)) + 0.025*math.Exp(-math.Pow((x-16)/2.2, 2)))
		test := 29_500 * (0.105*math.Exp(-math.Pow((x-7.4)/4, 2)) + 0.03*math.Exp(-math.Pow((x-16)/2.2, 2)))
		c := report.Cell{From: x * 4, To: (x + 1) * 4, Train: report.Count(int64(train)), Test: report.Count(int64(test))}
		if train < 15 || i > 21 {
			c.Train, c.Test = masked, masked
		}
		price.Cells = append(price.Cells, c)
	}
	popularity := report.Chart{Title: "Popularity", Kind: report.Histogram, Column: "popularity", Doc: "Share of readers who looked at the book."}
	for i := range 20 {
		x := float64(i) / 20
		popularity.Cells = append(popularity.Cells, report.Cell{
			From: x, To: float64(i+1) / 20,
			Train: report.Count(int64(30_000 * math.Exp(-x*5))), Test: report.Count(int64(7_600 * math.Exp(-x*5.2))),
		})
	}
	rate := report.Chart{Title: "Purchase rate", Kind: report.Rate, Column: "bought", Doc: "Offers that ended in a purchase.", Expected: expected, Cells: []report.Cell{
		{Label: "all", Train: report.Of(0.0931), Test: report.Of(0.1104)},
	}}
	return []report.Chart{engagement, price, popularity, genres, rate}
}

func sampleColumns() []report.Column {
	type column struct {
		name, kind, class, role, missing, fill string
		gap, mean, sd, drift                   float64
	}
	list := []column{
		{"user_hash", "string", "direct", "id", "", "", 0, 0, 0, 0},
		{"timestamp", "timestamp", "time", "time", "", "", 0, 0, 0, 0},
		{"taste_1", "float32", "vector", "feature", "", "", 0, 0.512, 0.211, 0.02},
		{"taste_2", "float32", "vector", "feature", "", "", 0, 0.431, 0.198, -0.05},
		{"age_group", "string", "quasi", "feature", "UNKNOWN", "UNKNOWN", 0.112, 0, 0, 0},
		{"price", "float32", "catalogue", "feature", "median", "27.95", 0.034, 29.417, 14.26, 0.11},
		{"pages", "int32", "catalogue", "feature", "median", "312", 0.221, 341.2, 120.7, 0.26},
		{"days_since_last_order", "int32", "quasi", "feature", "null", "", 0.4471, 38.22, 31.9, -0.31},
		{"order_count", "int32", "quasi", "feature", "zero", "0", 0.00004, 4.21, 6.02, 0.08},
		{"engagement_score", "float32", "sensitive", "label", "", "", 0, 0.812, 1.71, 0},
		{"sample_weight", "float32", "safe", "quality", "", "", 0, 2.81, 2.4, 0.004},
		{"score", "float32", "sensitive", "alias", "", "", 0, 0.812, 1.71, 0},
	}
	var columns []report.Column
	for i, c := range list {
		summary := func(rows, mean float64) report.Summary {
			s := report.Summary{
				Count: report.Count(int64(rows * (1 - c.gap))), Missing: report.Count(int64(rows * c.gap)), MissingShare: report.Of(c.gap),
				Distinct: report.Count(int64(40 + i*731)), Mean: none, SD: none, Min: none, Max: none,
			}
			if c.sd != 0 {
				s.Mean, s.SD = report.Of(mean), report.Of(c.sd)
				if c.class != "quasi" {
					s.Min, s.Max = report.Of(mean-2*c.sd), report.Of(mean+2.5*c.sd)
				}
			}
			return s
		}
		out := report.Column{
			Name: c.name, Type: c.kind, Class: c.class, Role: c.role, Missing: c.missing, Fill: c.fill,
			Doc: fmt.Sprintf("What %s means, in a sentence.", c.name), Train: summary(128_000, c.mean), Test: summary(32_000, c.mean+c.drift*c.sd),
		}
		out.Shift = report.Shift(out.Train, out.Test)
		if c.name == "age_group" {
			out.Test.Distinct = masked
		}
		columns = append(columns, out)
	}
	return columns
}
