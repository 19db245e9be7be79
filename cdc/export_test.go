package cdc

import "time"

// BearSilence sets how long a server may say nothing, at least. To be called
// before Run.
func (s *Source) BearSilence(d time.Duration) { s.silence = d }
