package main

import (
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCompareFailsOnGrossLossesOnly(t *testing.T) {
	figure := func(name string, lower bool, values []float64) *Figure {
		s := &suite{stdout: io.Discard}
		for _, v := range values {
			s.record(smokeName, name, "ratio", traits{guard: true, lower: lower}, v)
		}
		return s.figures[0]
	}
	higher := func(values ...float64) *Figure { return figure("stream/ratio", false, values) }
	lower := func(values ...float64) *Figure { return figure("dataset/ratio", true, values) }
	tests := []struct {
		name           string
		now, before    []*Figure
		unknown, worse []string
	}{
		{"equal figures pass", []*Figure{higher(0.6)}, []*Figure{higher(0.6)}, nil, nil},
		{"a little less passes", []*Figure{higher(0.31)}, []*Figure{higher(0.6)}, nil, nil},
		{"more passes", []*Figure{higher(6)}, []*Figure{higher(0.6)}, nil, nil},
		{"less than half fails", []*Figure{higher(0.29)}, []*Figure{higher(0.6)}, nil, []string{"stream/ratio is 0.29 at best, below half of the recorded 0.6"}},
		{"where less is better, less passes", []*Figure{lower(0.1)}, []*Figure{lower(1)}, nil, nil},
		{"where less is better, up to twice passes", []*Figure{lower(1.9)}, []*Figure{lower(1)}, nil, nil},
		{"where less is better, more than twice fails", []*Figure{lower(2.1)}, []*Figure{lower(1)}, nil, []string{"dataset/ratio is 2.1 at best, above twice the recorded 1"}},
		{"one good run passes", []*Figure{higher(0.1, 0.31, 0.2)}, []*Figure{higher(0.5, 0.6, 0.7)}, nil, nil},
		{"one good run passes where less is better", []*Figure{lower(9, 1.9, 8)}, []*Figure{lower(0.5, 1, 3)}, nil, nil},
		{"no good run fails", []*Figure{higher(0.1, 0.29, 0.2)}, []*Figure{higher(0.5, 0.6, 0.7)}, nil, []string{"stream/ratio is 0.29 at best, below half of the recorded 0.6"}},
		{"what was not recorded is named", []*Figure{higher(0.6)}, []*Figure{lower(1)}, []string{"stream/ratio"}, nil},
		{"another section's figure is another", []*Figure{higher(0.1)}, []*Figure{{Section: "stream", Name: "stream/ratio", Median: 1}}, []string{"stream/ratio"}, nil},
		{"absolute figures are not compared", []*Figure{{Section: smokeName, Name: "rate", Median: 1}}, []*Figure{{Section: smokeName, Name: "rate", Median: 100}}, nil, nil},
		{"each loss is told", []*Figure{higher(0.1), lower(3)}, []*Figure{lower(1), higher(0.6)}, nil, []string{
			"stream/ratio is 0.1 at best, below half of the recorded 0.6", "dataset/ratio is 3 at best, above twice the recorded 1",
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			unknown, worse := compare(test.now, test.before)
			if diff := cmp.Diff(test.unknown, unknown); diff != "" {
				t.Errorf("unknown (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.worse, worse); diff != "" {
				t.Errorf("worse (-want +got):\n%s", diff)
			}
		})
	}
}
