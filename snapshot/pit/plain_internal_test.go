package pit

import (
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
)

// What plainNumbers takes for an array of numbers is one, of the numbers that
// encoding/json and strconv make of it.
func TestPlainNumbersAreThoseOfJSON(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	number := func() string {
		switch r.IntN(8) {
		case 0:
			return strconv.FormatFloat(r.NormFloat64(), 'g', -1, 64)
		case 1:
			return []string{"01", "-", "", "1.", ".5", "-0", "0", "1e3", "1E3", "NaN", "null", `"1"`, "999999999999999", "9999999999999999", "0.123456789012345", "0.12345678901234", "1.2.3", "--1", "+1", "-0.0", "1 "}[r.IntN(21)]
		case 2:
			return strconv.Itoa(r.Int() >> r.IntN(60))
		}
		return strconv.FormatFloat(r.Float64()*2-1, 'f', r.IntN(17), 64)
	}
	plain := 0
	for range 100000 {
		length := r.IntN(4)
		var parts []string
		for range max(length+r.IntN(8)/7, 0) {
			parts = append(parts, number())
		}
		text := []byte("[" + strings.Join(parts, []string{",", ", ", " ,", ",  "}[r.IntN(8)/2]) + "]")
		if r.IntN(20) == 0 {
			text = text[:r.IntN(len(text)+1)]
		}
		list := make([]float64, length)
		if !plainNumbers(text, list) {
			continue
		}
		plain++
		b := validJSON(text)
		if b == nil {
			t.Fatalf("%q is no JSON", text)
		}
		n := 0
		jsonElements(b, func(i int, element []byte) {
			n++
			f, ok := jsonNumber(element)
			if i >= length || !ok || math.Float64bits(f) != math.Float64bits(list[i]) {
				t.Fatalf("%q: element %d is %v (%v), taken for %v", text, i, f, ok, list)
			}
		})
		if n != length {
			t.Fatalf("%q has %d elements, taken for %d", text, n, length)
		}
	}
	if plain < 10000 {
		t.Errorf("%d of 100,000 are plain", plain)
	}
}

func BenchmarkVector(b *testing.B) {
	text := []byte("[0.1234, 0.2345, 0.3456, 0.4567, 0.5678, 0.6789, 0.789, 0.89]")
	list := make([]float64, 8)
	b.Run("plain", func(b *testing.B) {
		for b.Loop() {
			if !plainNumbers(text, list) {
				b.Fatal("not plain")
			}
		}
	})
	b.Run("json", func(b *testing.B) {
		for b.Loop() {
			v := validJSON(text)
			if !jsonElements(v, func(i int, e []byte) { list[i], _ = jsonNumber(e) }) {
				b.Fatalf("%q is no array", v)
			}
		}
	})
}
