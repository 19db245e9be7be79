package pit

import (
	"math"
	"testing"
)

func TestBucketsAreAtMostOne64thWide(t *testing.T) {
	last := -1
	for _, v := range []int64{0, 1, 63, 64, 127, 128, 129, 130, 255, 256, 257, 1 << 20, 1<<20 + 1, 86_400_000_000, 1 << 62, math.MaxInt64 - 1, math.MaxInt64} {
		n := bucket(v)
		if h := highest(n); h < v || h-v > v/64 || n < last || n >= 58*lateBuckets {
			t.Errorf("%d is in bucket %d, which ends at %d", v, n, h)
		}
		if n > 0 && highest(n-1) >= v {
			t.Errorf("%d is in bucket %d, and the one before ends at %d", v, n, highest(n-1))
		}
		last = n
	}
}

func TestPercentilesAreOfTheNearestRank(t *testing.T) {
	var l Lateness
	if l.Percentile(50) != 0 {
		t.Error("the median of nothing is not 0")
	}
	for v := int64(1); v <= 100; v++ {
		l.Add(v)
	}
	l.Add(-7)
	for _, c := range []struct{ percent, want int64 }{{1, 1}, {50, 50}, {99, 99}, {100, 100}} {
		if got := l.Percentile(c.percent); got != c.want { // of 101 rows, the first of which is 0
			t.Errorf("%d %% is %d, want %d", c.percent, got, c.want)
		}
	}
	if l.Rows != 101 || l.Ahead != 1 || l.Lead != 7 || l.Max != 100 {
		t.Errorf("lateness %+v", l)
	}
}
