package featurestore

// AppendKey appends the encoding of one column of a key, given as the source
// writes it. The encodings of a table's key columns, in the definition's order,
// are the history.Row.Key of its row.
func AppendKey(dst, text []byte) []byte { return appendID(dst, text) }

// KeyTexts takes a history.Row.Key apart into the texts of its columns, as the
// source writes them.
func KeyTexts(key []byte) ([]string, error) {
	var texts []string
	for at := 0; at < len(key); {
		n := skipID(key[at:])
		if n < 0 {
			return nil, &CorruptError{What: "a row's key", Key: key}
		}
		texts = append(texts, string(appendIDText(nil, key[at:at+n])))
		at += n
	}
	return texts, nil
}
