package online_test

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"dreamfeed/deploy"
	"dreamfeed/internal/change"
	"dreamfeed/internal/definition"
	"dreamfeed/snapshot/online"
)

// Nothing here knows a name of a definition: any one is served.
func TestEveryDefinitionIsServed(t *testing.T) {
	for _, name := range []string{"dreamscape", "bookshop", "library"} {
		t.Run(name, func(t *testing.T) {
			data := deploy.Dreamscape
			if name != "dreamscape" {
				var err error
				if data, err = os.ReadFile("../../internal/definition/testdata/" + name + ".yaml"); err != nil {
					t.Fatal(err)
				}
			}
			def, err := definition.Load(data, name)
			if err != nil {
				t.Fatal(err)
			}
			m := newMemory(def)
			m.commit(change.Version(epoch + second))
			s := service(t, m, online.Options{Definition: def})
			q := &online.Question{ID: "7"}
			a, err := s.Features(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			text := s.AppendAnswer(nil, q, a)
			if !json.Valid(text) || s.Columns() == 0 || !strings.Contains(string(text), `"`+s.Entity()+`":"7"`) {
				t.Errorf("%d columns: %s", s.Columns(), text)
			}
			q.Items = []online.Item{{ID: json.RawMessage(`"i"`)}}
			_, err = s.Features(t.Context(), q)
			var refused *online.RequestError
			if def.Example.Item == "" && (!errors.As(err, &refused) || !strings.Contains(err.Error(), "item of example")) || def.Example.Item != "" && err != nil {
				t.Errorf("an item of a definition whose example has item %q: %v", def.Example.Item, err)
			}
		})
	}
}
