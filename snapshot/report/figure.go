package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
)

// MarshalJSON writes a number, null, or "masked".
func (f Figure) MarshalJSON() ([]byte, error) {
	switch f.Hidden {
	case None:
		return []byte("null"), nil
	case Masked:
		return []byte(`"masked"`), nil
	}
	if math.IsNaN(f.Value) || math.IsInf(f.Value, 0) {
		return nil, fmt.Errorf("figure %v is no finite number", f.Value)
	}
	return json.Marshal(f.Value)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (f *Figure) UnmarshalJSON(data []byte) error {
	switch {
	case bytes.Equal(data, []byte("null")):
		*f = Figure{Hidden: None}
		return nil
	case bytes.Equal(data, []byte(`"masked"`)):
		*f = Figure{Hidden: Masked}
		return nil
	}
	*f = Figure{}
	return json.Unmarshal(data, &f.Value)
}
