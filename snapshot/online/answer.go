package online

import (
	"encoding/json"
	"math"
	"strconv"
	"time"

	"dreamfeed/internal/definition"
	"dreamfeed/snapshot/pit"
)

// AppendAnswer appends an answer in JSON: version, moment, staleness_seconds, the
// entity's id as it was asked, and "columns", or with items a list "items" of
// {"item": id as asked, "columns": …}. A column is {"name", "value", "status"}; a
// missing value is null, a timestamp a text.
func (s *Service) AppendAnswer(dst []byte, q *Question, a *Answer) []byte {
	dst = append(dst, `{"version":`...)
	dst = strconv.AppendUint(dst, uint64(a.Version), 10)
	dst = append(dst, `,"moment":"`...)
	dst = append(dst, a.Version.String()...)
	dst = append(dst, `","staleness_seconds":`...)
	dst = strconv.AppendFloat(dst, a.Staleness.Seconds(), 'f', 3, 64)
	dst = append(dst, ',')
	dst = appendText(dst, s.entityKey())
	dst = append(dst, ':')
	dst = appendText(dst, q.ID)
	if q.Items == nil {
		dst = append(dst, `,"columns":`...)
		dst = s.appendRow(dst, &a.Rows[0])
		return append(dst, '}')
	}
	dst = append(dst, `,"items":[`...)
	for i := range a.Rows {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, '{')
		if id := q.Items[i].ID; id != nil {
			dst = append(dst, `"item":`...)
			dst = append(dst, id...)
			dst = append(dst, ',')
		}
		dst = append(dst, `"columns":`...)
		dst = s.appendRow(dst, &a.Rows[i])
		dst = append(dst, '}')
	}
	return append(dst, "]}"...)
}

func (s *Service) appendRow(dst []byte, r *Row) []byte {
	dst = append(dst, '[')
	for i := range r.Values {
		if i > 0 {
			dst = append(dst, ',')
		}
		c := s.Column(i)
		dst = append(dst, `{"name":`...)
		dst = appendText(dst, c.Name)
		dst = append(dst, `,"value":`...)
		dst = appendValue(dst, c.Type, &r.Values[i])
		dst = append(dst, `,"status":"`...)
		dst = append(dst, r.Status[i].String()...)
		dst = append(dst, `"}`...)
	}
	return append(dst, ']')
}

// appendValue appends a value. What is not finite, which Fill leaves none of, is
// null.
func appendValue(dst []byte, typ definition.OutputType, v *pit.Value) []byte {
	if !v.Valid {
		return append(dst, "null"...)
	}
	switch typ {
	case definition.String:
		return appendText(dst, v.Text)
	case definition.Float32:
		if f := float64(v.Float); math.IsNaN(f) || math.IsInf(f, 0) {
			return append(dst, "null"...)
		}
		return strconv.AppendFloat(dst, float64(v.Float), 'g', -1, 32)
	case definition.Boolean:
		return strconv.AppendBool(dst, v.Int != 0)
	case definition.TimeStamp:
		dst = append(dst, '"')
		dst = time.UnixMicro(v.Int).UTC().AppendFormat(dst, "2006-01-02T15:04:05.999999Z")
		return append(dst, '"')
	}
	return strconv.AppendInt(dst, v.Int, 10)
}

// appendText appends a JSON string. Most texts need no escape.
func appendText(dst []byte, text string) []byte {
	for i := range len(text) {
		if c := text[i]; c < 0x20 || c >= 0x7f || c == '"' || c == '\\' {
			quoted, _ := json.Marshal(text) // a string can always be marshalled
			return append(dst, quoted...)
		}
	}
	dst = append(dst, '"')
	dst = append(dst, text...)
	return append(dst, '"')
}
