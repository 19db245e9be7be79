package report

import (
	"strings"
	"testing"
	"time"
)

func TestNumbersAreWrittenTheSameWayEverywhere(t *testing.T) {
	low, high := 0.05, 0.15
	tests := []struct{ name, got, want string }{
		{"thousands are set apart", count(1234567), "1,234,567"},
		{"small counts stand alone", count(999), "999"},
		{"a negative count has a wide sign", count(-1234), "−1,234"},
		{"a share has one decimal", percent(0.1234), "12.3 %"},
		{"nothing is nothing", percent(0), "0 %"},
		{"all is all", percent(1), "100 %"},
		{"a little is not nothing", percent(0.00001), "< 0.1 %"},
		{"almost all is not all", percent(0.99999), "> 99.9 %"},
		{"a measured value has four digits", number(3.14159), "3.142"},
		{"a small one as well", number(0.012345), "0.0123"},
		{"a large one is whole", number(12345.6), "12,346"},
		{"a tiny one has an exponent", number(0.00001234), "1.23e−05"},
		{"a negative one has a wide sign", number(-2.5), "−2.5"},
		{"bytes come in powers of ten", size(14_730_112), "14.73 MB"},
		{"few bytes stay bytes", size(512), "512 B"},
		{"seconds become days", duration(7 * 86400), "7 d"},
		{"less than a second stays seconds", duration(0.4), "0.4 s"},
		{"less than a tenth becomes milliseconds", duration(-0.0123), "−12.3 ms"},
		{"a figure beside a threshold has two decimals", figure(Of(0.15004), Share), "15.00 %"},
		{"a masked figure says so", figure(Figure{Value: 3, Hidden: Masked}, Rows), "masked"},
		{"no figure is a dash", figure(Figure{Hidden: None}, Rows), "–"},
		{"a range has two ends", threshold(Within(low, high), Share), "5 % to 15 %"},
		{"at most nothing is none", threshold(AtMost(0), Rows), "none"},
		{"equal ends mean exactly", threshold(Within(8, 8), Plain), "8"},
		{"a moment is in UTC", moment(time.Date(2026, 11, 1, 2, 0, 0, 0, time.FixedZone("", 7200))), "2026-11-01 00:00:00 UTC"},
		{"an unknown moment is a dash", moment(time.Time{}), "–"},
		{"a difference has its sign", signed(0.25), "+0.25"},
		{"a mark at an axis has no spare zeros", mark(0.2), "20 %"},
		{"a long label is cut", shorten("ABCDEFGH", 5), "ABCD…"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := strings.ReplaceAll(test.got, nbsp, " "); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

func TestAxesHaveFewRoundMarks(t *testing.T) {
	tests := []struct {
		name      string
		low, high float64
		want      string
	}{
		{"from nothing to all", 0, 1, "0 0.25 0.5 0.75 1"},
		{"small shares", 0, 0.0031, "0 0.001 0.002 0.003"},
		{"around nothing", -0.3, 0.3, "−0.2 0 0.2"},
		{"large values", 0, 4_200_000, "0 2,000,000 4,000,000"},
		{"no range at all", 3, 3, "3"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var labels []string
			for _, tick := range (ticks{text: number, upTo: test.high}).Ticks(test.low, test.high) {
				labels = append(labels, tick.Label)
			}
			if got := strings.Join(labels, " "); got != test.want {
				t.Errorf("marks %q, want %q", got, test.want)
			}
		})
	}
}
