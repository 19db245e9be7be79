package online

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"dreamfeed/internal/change"
	"dreamfeed/internal/definition"
)

// Keys of a question in JSON beside that of the entity.
const (
	keyItems     = "items"
	keyContext   = "context"
	keyStaleness = "max_staleness"
	keyAsOf      = "at"
)

// entityKey is the key under which questions and answers have the entity's id:
// the name of its kind, such as user.
func (s *Service) entityKey() string {
	switch kind := s.Entity(); kind {
	case keyItems, keyContext, keyStaleness, keyAsOf, "version", "moment", "staleness_seconds", "columns":
		return "entity"
	default:
		return kind
	}
}

// ParseQuestion reads a question in JSON:
//
//	{"user": ID, "items": [ID | {"id": ID, COLUMN: VALUE, …}, …], "context": {COLUMN: VALUE, …},
//	 "max_staleness": "5s", "at": "2026-11-01T00:00:00Z"}
//
// The first key is the name of the entity that examples belong to; all others may
// be left out. Its errors are *RequestError.
func (s *Service) ParseQuestion(body []byte) (*Question, error) {
	// The decoder would put another character in the place of what is no text, and
	// answer for somebody else.
	if !utf8.Valid(body) {
		return nil, refusal("the question is no text in UTF-8")
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(body, &keys); err != nil || keys == nil {
		return nil, refusal("the question is no JSON object such as {%q: \"…\"}", s.entityKey())
	}
	q := &Question{}
	known := []string{s.entityKey(), keyItems, keyContext, keyStaleness, keyAsOf}
	names := make([]string, 0, len(keys))
	for name := range keys {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		value, err := keys[name], error(nil)
		switch name {
		case s.entityKey():
			q.ID, err = parseID(value, name)
		case keyItems:
			q.Items, err = parseItems(value, s.MaxItems)
		case keyContext:
			if json.Unmarshal(value, &q.Context) != nil {
				err = refusal("%s is no object of columns and values", name)
			}
		case keyStaleness:
			var text string
			if err = json.Unmarshal(value, &text); err == nil {
				q.MaxStaleness, err = parseStaleness(text)
			} else {
				err = refusal("%s is no duration such as \"5s\"", name)
			}
		case keyAsOf:
			var text string
			if err = json.Unmarshal(value, &text); err == nil {
				q.AsOf, err = ParseAsOf(text)
			} else {
				err = refusal("%s is no moment such as \"2026-11-01T00:00:00Z\"", name)
			}
		default:
			err = refusal("%s of the question", definition.Unknown("key", name, known))
		}
		if err != nil {
			return nil, err
		}
	}
	if q.ID == "" {
		return nil, refusal("the question has no key %q, the id of the %s", s.entityKey(), s.Entity())
	}
	return q, nil
}

// parseID reads an id, which is a text, or a number as the source writes it.
func parseID(value json.RawMessage, key string) (string, error) {
	var text string
	if json.Unmarshal(value, &text) == nil && text != "" && !strings.ContainsRune(text, 0) {
		return text, nil
	}
	if number := string(bytes.TrimSpace(value)); number != "" && strings.Trim(number, "-0123456789") == "" {
		return number, nil
	}
	return "", refusal("%s is no id: give a text, or a whole number", key)
}

func parseItems(value json.RawMessage, most int) ([]Item, error) {
	var list []json.RawMessage
	if json.Unmarshal(value, &list) != nil || list == nil {
		return nil, refusal("%s is no list", keyItems)
	}
	if len(list) > most {
		return nil, refusal("%d items are more than the %d that one question may have: ask several times", len(list), most)
	}
	items := make([]Item, len(list))
	for i, raw := range list {
		switch raw = bytes.TrimSpace(raw); {
		case len(raw) > 0 && raw[0] == '{':
			if err := json.Unmarshal(raw, &items[i].Columns); err != nil {
				return nil, refusal("item %d is no object of columns and values", i+1)
			}
			if id, ok := items[i].Columns["id"]; ok {
				items[i].ID = id
				delete(items[i].Columns, "id")
			}
		case string(raw) == "null":
			return nil, refusal("item %d is null: give its id, or an object with its id and columns", i+1)
		default:
			items[i].ID = raw
		}
	}
	return items, nil
}

// parseStaleness reads a limit of staleness. Its errors are *RequestError.
func parseStaleness(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return 0, refusal("max_staleness %q is no duration above 0, such as 5s", text)
	}
	return d, nil
}

// ParseAsOf reads a moment. Its errors are *RequestError.
func ParseAsOf(text string) (change.Version, error) {
	t, err := change.ParseMoment(text)
	switch {
	case err != nil:
		return 0, &RequestError{Err: err}
	case t.UnixMicro() <= 0:
		return 0, refusal("the moment %s lies before the history of any store", text)
	}
	return change.VersionAt(t), nil
}
