package labels

import (
	"crypto/sha256"
	"encoding/binary"
	"strconv"
)

// The domains in which ids are hashed. Two choices in different domains are
// independent of one another.
const (
	DomainNegatives = "negatives"
	DomainSplit     = "split"
)

// Hasher computes h(domain, seed, id): the first 8 bytes, big-endian, of
// SHA-256(domain ‖ 0x00 ‖ seed in decimal ‖ 0x00 ‖ id) (CONTRACT, "Steps"). It
// keeps a buffer and is for one goroutine; hashing allocates nothing once the
// buffer has the size of the longest id.
type Hasher struct {
	prefix int
	buf    []byte
}

// NewHasher returns the hasher of a domain and seed.
func NewHasher(domain string, seed int64) *Hasher {
	buf := append(make([]byte, 0, 128), domain...)
	buf = append(buf, 0)
	buf = strconv.AppendInt(buf, seed, 10)
	buf = append(buf, 0)
	return &Hasher{prefix: len(buf), buf: buf}
}

// Hash returns the hash of the id's bytes.
func (h *Hasher) Hash(id string) uint64 {
	h.buf = append(h.buf[:h.prefix], id...)
	sum := sha256.Sum256(h.buf)
	return binary.BigEndian.Uint64(sum[:8])
}
