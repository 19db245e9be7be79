package report

import (
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// A number and its unit are joined by a no-break space.
const nbsp = "\u00a0"

// maskedText stands where a cell concerns too few users, noneText where there
// is no value.
const (
	maskedText = "masked"
	noneText   = "–"
)

// count writes a whole number with its thousands apart: 1,234,567.
func count(n int64) string {
	digits := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, digits = "−", digits[1:]
	}
	var b strings.Builder
	b.WriteString(sign)
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}

// percent writes a share with one decimal. What is not quite nothing, or not
// quite all, is never written as nothing or all.
func percent(share float64) string { return percentWith(share, 1) }

func percentWith(share float64, decimals int) string {
	least := math.Pow(10, -float64(decimals))
	value := share * 100
	switch {
	case value == 0:
		return "0" + nbsp + "%"
	case value == 100:
		return "100" + nbsp + "%"
	case value > 0 && value < least:
		return "<" + nbsp + trimmed(least, decimals) + nbsp + "%"
	case value < 100 && value > 100-least:
		return ">" + nbsp + trimmed(100-least, decimals) + nbsp + "%"
	}
	return minus(strconv.FormatFloat(value, 'f', decimals, 64)) + nbsp + "%"
}

// mark writes a round share at an axis.
func mark(share float64) string { return trimmed(share*100, 3) + nbsp + "%" }

// number writes a measured value with about four significant digits.
func number(v float64) string {
	size := math.Abs(v)
	switch {
	case v == 0:
		return "0"
	case size >= 1e12 || size < 1e-4:
		return minus(strconv.FormatFloat(v, 'e', 2, 64))
	case size >= 1000:
		return count(int64(math.Round(v)))
	case v == math.Trunc(v):
		return minus(strconv.FormatFloat(v, 'f', 0, 64))
	}
	decimals := 3 - int(math.Floor(math.Log10(size)))
	return minus(trimmed(v, min(max(decimals, 1), 4)))
}

// trimmed writes a value with at most the decimals, without closing zeros.
func trimmed(v float64, decimals int) string {
	text := strconv.FormatFloat(v, 'f', decimals, 64)
	if strings.Contains(text, ".") {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return text
}

// minus writes a sign as wide as a digit.
func minus(text string) string { return strings.Replace(text, "-", "−", 1) }

// size writes a number of bytes in powers of ten.
func size(bytes float64) string {
	for _, unit := range []struct {
		name string
		size float64
	}{{"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}} {
		if math.Abs(bytes) >= unit.size {
			return trimmed(bytes/unit.size, 2) + nbsp + unit.name
		}
	}
	return trimmed(bytes, 0) + nbsp + "B"
}

// duration writes seconds in the largest unit that keeps them above one.
func duration(seconds float64) string {
	for _, unit := range []struct {
		name string
		size float64
	}{{"d", 86400}, {"h", 3600}, {"min", 60}} {
		if math.Abs(seconds) >= unit.size {
			return minus(trimmed(seconds/unit.size, 1)) + nbsp + unit.name
		}
	}
	if seconds != 0 && math.Abs(seconds) < 0.1 {
		return minus(trimmed(seconds*1000, 1)) + nbsp + "ms"
	}
	return minus(trimmed(seconds, 1)) + nbsp + "s"
}

// quantity writes a value in its unit. Shares get two decimals, so that a
// figure can be told from its threshold.
func quantity(v float64, unit Unit) string {
	switch unit {
	case Rows, Users, Values, Columns:
		return count(int64(math.Round(v)))
	case Bytes:
		return size(v)
	case Share:
		return percentWith(v, 2)
	case Times:
		return trimmed(v, 2) + nbsp + "×"
	case Seconds:
		return duration(v)
	}
	return number(v)
}

// figure writes a figure in its unit, or the reason why there is none.
func figure(f Figure, unit Unit) string {
	switch f.Hidden {
	case None:
		return noneText
	case Masked:
		return maskedText
	}
	return quantity(f.Value, unit)
}

// figurePercent writes a figure that is a share with one decimal.
func figurePercent(f Figure) string {
	if f.Hidden == Shown {
		return percent(f.Value)
	}
	return figure(f, Share)
}

// threshold writes what passes.
func threshold(t Threshold, unit Unit) string {
	bound := func(v float64) string {
		switch unit {
		case Share:
			return trimmed(v*100, 2) + nbsp + "%"
		}
		return quantity(v, unit)
	}
	switch {
	case t.Low != nil && t.High != nil && *t.Low == *t.High:
		return bound(*t.Low)
	case t.Low != nil && t.High != nil:
		return bound(*t.Low) + " to " + bound(*t.High)
	case t.Low != nil:
		return "at least " + bound(*t.Low)
	case t.High != nil && *t.High == 0:
		return "none"
	case t.High != nil:
		return "at most " + bound(*t.High)
	}
	return noneText
}

// moment writes a time in UTC, to the second unless it has a smaller part.
func moment(t time.Time) string {
	if t.IsZero() {
		return noneText
	}
	layout := "2006-01-02 15:04:05"
	if t.Nanosecond() != 0 {
		layout = "2006-01-02 15:04:05.999999"
	}
	return t.UTC().Format(layout) + nbsp + "UTC"
}

// day writes the date of a time in UTC.
func day(t time.Time) string {
	if t.IsZero() {
		return noneText
	}
	return t.UTC().Format("2006-01-02")
}

// shorten cuts a label to at most n runes.
func shorten(label string, n int) string {
	if utf8.RuneCountInString(label) <= n {
		return label
	}
	runes := []rune(label)
	return string(runes[:n-1]) + "…"
}
