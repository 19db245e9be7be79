package spill_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"dreamfeed/snapshot/spill"
)

func TestEachTextHasOneNumberWhoeverAsks(t *testing.T) {
	texts := spill.NewTexts()
	const askers, most = 4, 3000
	found := make([][]uint32, askers)
	var group sync.WaitGroup
	for i := range found {
		found[i] = make([]uint32, most)
		group.Go(func() {
			for _, k := range rand.Perm(most) {
				number, ok := texts.Number(fmt.Append(nil, "text ", k))
				if !ok || texts.List()[number] != fmt.Sprint("text ", k) {
					t.Errorf("text %d has number %d (%v) of %d", k, number, ok, len(texts.List()))
				}
				found[i][k] = number
			}
		})
	}
	group.Wait()
	if len(texts.List()) != most || texts.Full() {
		t.Errorf("%d texts, full: %v", len(texts.List()), texts.Full())
	}
	for i := range found {
		for k := range found[i] {
			if found[i][k] != found[0][k] {
				t.Fatalf("text %d has numbers %d and %d", k, found[0][k], found[i][k])
			}
		}
	}
}

func TestTextsEndWithTheirRoom(t *testing.T) {
	many := spill.NewTexts()
	for k := range spill.MostTexts {
		if _, ok := many.Number(fmt.Append(nil, k)); !ok {
			t.Fatalf("there is no room for text %d", k)
		}
	}
	long := spill.NewTexts()
	if _, ok := long.Number([]byte(strings.Repeat("x", spill.MostTextBytes))); !ok {
		t.Error("there is no room for one long text")
	}
	for _, texts := range []*spill.Texts{many, long} {
		if texts.Full() {
			t.Error("it says that it is full before anybody asked for more")
		}
		if _, ok := texts.Number([]byte("one more")); ok || !texts.Full() {
			t.Error("there is room without end")
		}
		if number, ok := texts.Number([]byte(texts.List()[0])); !ok || number != 0 {
			t.Error("what has a number has lost it")
		}
	}
}

// TestColumnsOfNumbersSayTheirTexts holds ranges of columns of texts and of numbers of
// two kinds, put together, against the texts.
func TestColumnsOfNumbersSayTheirTexts(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("repeat with seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	kinds := []*spill.Texts{nil, spill.NewTexts(), spill.NewTexts()}
	for range 300 {
		to := spill.Column{Kind: spill.Text}
		var want []string
		for range r.IntN(5) {
			from := spill.Column{Kind: spill.Text, Texts: kinds[r.IntN(3)]}
			var texts []string
			for range 1 + r.IntN(20) {
				text, ok := strings.Repeat("t", r.IntN(4)), r.IntN(4) > 0
				if from.Texts == nil {
					from.AppendText(text, ok)
				} else {
					number, _ := from.Texts.Number([]byte(text))
					from.AppendNumber(number, ok)
				}
				if !ok {
					text = "null"
				}
				texts = append(texts, text)
			}
			first := r.IntN(len(texts))
			end := first + r.IntN(len(texts)-first+1)
			to.AppendRange(&from, first, end)
			want = append(want, texts[first:end]...)
		}
		to.Spell()
		var got []string
		for i, ok := range to.Valid {
			text := string(to.Text(i))
			if !ok && text == "" {
				text = "null"
			}
			got = append(got, text)
		}
		if strings.Join(got, "|") != strings.Join(want, "|") || len(to.Ends) != len(want) {
			t.Fatalf("%d texts %q, want %q", len(to.Ends), got, want)
		}
	}
}
