package pit

import (
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"dreamfeed/internal/definition"
)

// derivedBytes bounds what a RelatedStore keeps of derived values, beside its
// budget, and an eighth of it their texts. What an example shows of an item of fifteen columns takes 80 bytes.
const derivedBytes = 64 << 20

// derivedStore keeps what parts of the plan made of the versions of related rows,
// for all joiners: an item that is shown to a hundred users is decoded and derived
// once. Values are packed into words without pointers, a tenth of what decoded rows
// take, so that there is room for those of most versions and nothing in them for
// the collector to follow. What is kept stays; when the room is used up, no more
// comes, and joiners derive the rest themselves, as they do without a store.
//
// Records are written by one joiner each, and read by all once refs says where.
type derivedStore struct {
	program *Program
	places  int // records of a version, at most
	// refs are, by version and place, 1 + the number of the record's first word.
	refs   []atomic.Uint32
	chunks []atomic.Pointer[derivedChunk]
	taken  atomic.Int64 // chunks

	full  atomic.Bool // there is no room for another text
	mu    sync.Mutex
	names map[string]uint32
	bytes int64
	// texts and standings are what words give the number of. Lists are replaced,
	// never changed.
	texts     atomic.Pointer[[]string]
	standings atomic.Pointer[[]standing]
}

const (
	chunkBits  = 14
	chunkWords = 1 << chunkBits
	// mostNames is how many different texts a store keeps: they are what is the
	// same of many versions.
	mostNames = 1 << 16
	// mostStandings is the same of what parts leave beside their values.
	mostStandings = 1 << 8
)

type derivedChunk [chunkWords]uint32

// packing says how a value is packed.
type packing uint8

const (
	packFloat packing = iota // the bits of Float
	packWord                 // Int, of 32 bits
	packLong                 // Int, low word first
	packText                 // number of a text
)

func packingOf(t definition.OutputType) packing {
	switch t {
	case definition.Float32:
		return packFloat
	case definition.TimeStamp:
		return packLong
	case definition.String:
		return packText
	}
	return packWord
}

// newDerivedStore returns a store for so many versions.
func newDerivedStore(p *Program, versions uint64, limit int64) *derivedStore {
	d := &derivedStore{program: p, names: map[string]uint32{}}
	for i := range p.relations {
		d.places = max(d.places, p.relations[i].table.shows)
	}
	d.texts.Store(&[]string{})
	d.standings.Store(&[]standing{{}})
	room := limit - 4*int64(versions)*int64(d.places)
	if room < 4*chunkWords {
		return d
	}
	d.refs = make([]atomic.Uint32, versions*uint64(d.places))
	d.chunks = make([]atomic.Pointer[derivedChunk], room/(4*chunkWords))
	return d
}

// derivedWriter is a joiner's side of a store: it fills a chunk of its own.
type derivedWriter struct {
	*derivedStore
	chunk *derivedChunk
	first uint32 // number of the chunk's first word
	used  int
	local map[string]uint32 // what the joiner knows of names
	words []uint32
}

func (d *derivedStore) writer() *derivedWriter {
	return &derivedWriter{derivedStore: d, used: chunkWords, local: map[string]uint32{}}
}

// show sets the values of a part to what is kept of a version of its row.
func (d *derivedWriter) show(version uint64, p *part, values []Value, s *standing) bool {
	at := version*uint64(d.places) + uint64(p.place)
	if at >= uint64(len(d.refs)) {
		return false
	}
	ref := d.refs[at].Load()
	if ref == 0 {
		return false
	}
	ref--
	words := d.chunks[ref>>chunkBits].Load()[ref&(chunkWords-1):]
	if words[0] == 0 {
		*s = standing{}
	} else {
		*s = (*d.standings.Load())[words[0]]
	}
	valid := words[1:]
	next := valid[validWords(len(p.steps)):]
	for _, r := range p.runs {
		to := values[r.out : r.out+r.n]
		for k := range to {
			step := r.step + k
			if valid[step>>5]>>(step&31)&1 == 0 {
				to[k] = Value{}
				continue
			}
			word := next[0]
			next = next[1:]
			switch p.packings[step] {
			case packFloat:
				to[k] = Value{Valid: true, Float: math.Float32frombits(word)}
			case packWord:
				to[k] = Value{Valid: true, Int: int64(int32(word))}
			case packLong:
				to[k] = Value{Valid: true, Int: int64(word) | int64(next[0])<<32}
				next = next[1:]
			default:
				to[k] = Value{Valid: true, Text: (*d.texts.Load())[word]}
			}
		}
	}
	return true
}

func validWords(steps int) int { return (steps + 31) / 32 }

// keep packs the values that a part made of a version, if there is room.
func (d *derivedWriter) keep(version uint64, p *part, values []Value, s *standing) {
	at := version*uint64(d.places) + uint64(p.place)
	if at >= uint64(len(d.refs)) || d.refs[at].Load() != 0 || d.taken.Load() > int64(len(d.chunks)) {
		return
	}
	number, ok := d.standing(s)
	if !ok {
		return
	}
	d.words = append(d.words[:0], number)
	for range validWords(len(p.steps)) {
		d.words = append(d.words, 0)
	}
	for _, r := range p.runs {
		for k := range r.n {
			v, step := &values[r.out+k], r.step+k
			if !v.Valid {
				continue
			}
			d.words[1+step>>5] |= 1 << (step & 31)
			switch p.packings[step] {
			case packFloat:
				d.words = append(d.words, math.Float32bits(v.Float))
			case packWord:
				if v.Int != int64(int32(v.Int)) {
					return
				}
				d.words = append(d.words, uint32(v.Int))
			case packLong:
				d.words = append(d.words, uint32(v.Int), uint32(v.Int>>32))
			default:
				name, ok := d.name(v.Text)
				if !ok {
					return
				}
				d.words = append(d.words, name)
			}
		}
	}
	if ref, ok := d.room(len(d.words)); ok {
		copy(d.chunk[ref&(chunkWords-1):], d.words)
		d.refs[at].Store(ref + 1)
	}
}

// room finds room for some words in the joiner's chunk, or a new one.
func (d *derivedWriter) room(words int) (ref uint32, ok bool) {
	if d.used+words > chunkWords {
		if words > chunkWords {
			return 0, false
		}
		number := d.taken.Add(1) - 1
		if number >= int64(len(d.chunks)) {
			return 0, false
		}
		d.chunk, d.first, d.used = new(derivedChunk), uint32(number)<<chunkBits, 0
		d.chunks[number].Store(d.chunk)
	}
	ref = d.first + uint32(d.used)
	d.used += words
	return ref, true
}

// name is the number of a text.
func (d *derivedWriter) name(text string) (uint32, bool) {
	if n, ok := d.local[text]; ok {
		return n, true
	}
	if d.full.Load() && len(d.local) == len(*d.texts.Load()) {
		return 0, false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	n, ok := d.names[text]
	if !ok {
		texts := *d.texts.Load()
		if len(texts) == mostNames || d.bytes+int64(len(text)) > derivedBytes/8 {
			d.full.Store(true)
			return 0, false
		}
		n = uint32(len(texts))
		text = strings.Clone(text)
		d.bytes += int64(len(text))
		d.names[text] = n
		// Readers of the list before do not look behind its end.
		texts = append(texts, text)
		d.texts.Store(&texts)
	}
	d.local[(*d.texts.Load())[n]] = n
	return n, true
}

// standing is the number of what a part left behind.
func (d *derivedWriter) standing(s *standing) (uint32, bool) {
	if !s.late && len(s.faults) == 0 {
		return 0, true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	list := *d.standings.Load()
	for i := range list {
		if list[i].late == s.late && slices.Equal(list[i].faults, s.faults) {
			return uint32(i), true
		}
	}
	if len(list) == mostStandings {
		return 0, false
	}
	list = append(list, *s)
	d.standings.Store(&list)
	return uint32(len(list) - 1), true
}
