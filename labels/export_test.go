package labels

// NewSelectorBits returns a Selector with 2 to the bits buckets, so that tests
// reach the border of a crowded bucket.
func NewSelectorBits(bits uint) *Selector { return newSelector(bits) }
