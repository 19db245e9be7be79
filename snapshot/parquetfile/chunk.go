package parquetfile

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/klauspost/compress/s2"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding/rle"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"

	"dreamfeed/snapshot/spill"
)

const (
	// pageBytes is the size in memory at which a page is full; it is looked at
	// after every valuesAtOnce rows, counted from the group's first one, so that
	// pages do not depend on how rows came.
	pageBytes    = 256901
	valuesAtOnce = 1024
	// dictionaryBytes is the size of the texts above which a column goes on
	// without its dictionary.
	dictionaryBytes = 1 << 20
	// A column that comes as numbers keeps its dictionary: this does not compile if it
	// could have more texts than that.
	_ = uint(dictionaryBytes - spill.MostTextBytes)
	// rowBytes is what a row of an optional column takes in memory beside its
	// value, for the size of a page.
	rowBytes = 5
)

// chunk is the encoded values of one column of a group: its pages, and what the
// file says of them elsewhere. Offsets count from the first data page.
type chunk struct {
	dictionary []byte // the page with its header; empty without a dictionary
	pages      []byte
	meta       format.ColumnMetaData
	index      format.ColumnIndex
	offsets    []format.PageLocation
}

// encoder encodes columns, one after the other, and keeps its memory. It belongs
// to one goroutine at a time.
type encoder struct {
	column *Column
	to     *chunk
	rows   int64 // in the pages written so far
	dict   dictionary
	// perPage are the rows of each page without and with a value.
	perPage []int64
	indexer parquet.ColumnIndexer

	levels, values, page, packed []byte
	floats                       []float32
	ints                         []int32
	longs                        []int64
	header                       bytes.Buffer
	protocol                     thrift.CompactProtocol
}

// encode makes the chunk of a column's first rows rows.
func (e *encoder) encode(to *chunk, column *Column, c *spill.Column, rows int) error {
	typ := column.node().Type()
	e.column, e.to, e.rows = column, to, 0
	e.perPage = nil
	e.indexer = typ.NewColumnIndexer(parquet.DefaultColumnIndexSizeLimit)
	e.dict.reset()
	to.dictionary, to.pages, to.offsets = to.dictionary[:0], to.pages[:0], nil
	to.meta = format.ColumnMetaData{
		Type: format.Type(typ.Kind()), Encoding: column.encodings(), PathInSchema: thrift.Slice[string]{column.Name}, Codec: format.Snappy,
	}
	dictionary := column.dictionary()
	if !dictionary {
		c.Spell()
	}
	for from := 0; from < rows; {
		end := e.cut(c, from, rows, dictionary)
		if err := e.data(typ, c, from, end, dictionary); err != nil {
			return err
		}
		if dictionary && len(e.dict.text) > dictionaryBytes {
			dictionary = false
		}
		from = end
	}
	to.index = e.indexer.ColumnIndex()
	to.index.DefinitionLevelHistogram = e.perPage
	if !column.Required {
		levels := make([]int64, 2)
		for i, n := range e.perPage {
			levels[i%2] += n
		}
		to.meta.SizeStatistics.DefinitionLevelHistogram = levels
	}
	if column.dictionary() {
		return e.writeDictionary()
	}
	return nil
}

// cut finds where the page that begins with row from ends.
func (e *encoder) cut(c *spill.Column, from, rows int, dictionary bool) int {
	values := 0
	for end := from; end < rows; {
		next := min(rows, end+valuesAtOnce)
		values += spill.Count(c.Valid[end:next])
		end = next
		size := 4 * values
		switch e.column.Type {
		case Bool:
			size = (values + 7) / 8
		case Timestamp:
			size = 8 * values
		case String:
			if !dictionary {
				size += int(c.Ends[end-1] - start(c, from))
			}
		}
		if !e.column.Required {
			size += rowBytes * (end - from)
		}
		if size >= pageBytes {
			return end
		}
	}
	return rows
}

// start is where the text of a row begins.
func start(c *spill.Column, row int) uint32 {
	if row == 0 {
		return 0
	}
	return c.Ends[row-1]
}

// level is the encoding of definition levels of one bit.
var level = rle.Encoding{BitWidth: 1}

// data writes a data page of the rows from (included) to end (not included).
func (e *encoder) data(typ parquet.Type, c *spill.Column, from, end int, dictionary bool) error {
	levels := spill.Levels(c.Valid[from:end]) // the definition levels, too
	values := spill.Count(c.Valid[from:end])
	nulls := len(levels) - values
	e.page = e.page[:0]
	if e.column.Required {
		if nulls > 0 {
			return fmt.Errorf("required column %s holds a null", e.column.Name)
		}
	} else {
		var err error
		if e.levels, err = level.EncodeLevels(e.levels[:0], levels); err != nil {
			return err
		}
		e.page = binary.LittleEndian.AppendUint32(e.page, uint32(len(e.levels)))
		e.page = append(e.page, e.levels...)
		e.perPage = append(e.perPage, int64(nulls), int64(values))
	}
	smallest, largest, err := e.plain(c, from, end, nulls == 0, dictionary)
	if err != nil {
		return err
	}
	e.page = append(e.page, e.values...)
	encoding := format.Plain
	if dictionary {
		encoding = format.RLEDictionary
	}
	header := format.PageHeader{Type: format.DataPage, UncompressedPageSize: int32(len(e.page))}
	header.DataPageHeader.Valid = true
	header.DataPageHeader.V = format.DataPageHeader{
		NumValues: int32(len(levels)), Encoding: encoding, DefinitionLevelEncoding: format.RLE, RepetitionLevelEncoding: format.RLE,
		Statistics: pageStatistics(nulls, smallest, largest),
	}
	at := len(e.to.pages)
	if e.to.pages, err = e.write(e.to.pages, &header); err != nil {
		return err
	}

	m := &e.to.meta
	e.indexer.IndexPage(int64(len(levels)), int64(nulls), smallest, largest)
	m.NumValues += int64(len(levels))
	m.Statistics.NullCount += int64(nulls)
	if values > 0 {
		bound(&m.Statistics.MaxValue, largest, typ, 1)
		bound(&m.Statistics.MinValue, smallest, typ, -1)
	}
	if e.column.Type == String && !dictionary {
		m.SizeStatistics.UnencodedByteArrayDataBytes += int64(c.Ends[end-1] - start(c, from))
	}
	e.to.offsets = append(e.to.offsets, format.PageLocation{
		Offset: int64(at), CompressedPageSize: int32(len(e.to.pages) - at), FirstRowIndex: e.rows,
	})
	e.rows += int64(len(levels))
	return nil
}

// pageStatistics says the bounds twice, for old readers and for new ones.
func pageStatistics(nulls int, smallest, largest parquet.Value) format.Statistics {
	low, high := smallest.Bytes(), largest.Bytes()
	return format.Statistics{Min: low, Max: high, NullCount: int64(nulls), MinValue: low, MaxValue: high}
}

// bound makes v the bound of the chunk if it lies beyond it in the direction.
func bound(to *[]byte, v parquet.Value, typ parquet.Type, direction int) {
	if *to != nil && typ.Compare(v, typ.Kind().Value(*to))*direction <= 0 {
		return
	}
	*to = v.AppendBytes(make([]byte, 0, 16))
}

// write compresses e.page and appends it with its header, whose uncompressed
// size is set. The header's sizes and the encoding's count go to the chunk.
func (e *encoder) write(dst []byte, header *format.PageHeader) ([]byte, error) {
	// The faster of the library's two ways to Snappy's format: parquet-go's codec takes
	// the one that looks for more.
	e.packed = s2.EncodeSnappy(e.packed[:cap(e.packed)], e.page)
	header.CompressedPageSize = int32(len(e.packed))
	header.CRC = int32(crc32.ChecksumIEEE(e.packed))
	e.header.Reset()
	if err := thrift.NewEncoder(e.protocol.NewWriter(&e.header)).Encode(header); err != nil {
		return dst, fmt.Errorf("write page header of column %s: %w", e.column.Name, err)
	}
	size := int64(e.header.Len())
	m := &e.to.meta
	m.TotalUncompressedSize += size + int64(header.UncompressedPageSize)
	m.TotalCompressedSize += size + int64(header.CompressedPageSize)
	stats := format.PageEncodingStats{PageType: header.Type, Encoding: header.DataPageHeader.V.Encoding, Count: 1}
	if header.Type == format.DictionaryPage {
		stats.Encoding = header.DictionaryPageHeader.V.Encoding
	}
	m.EncodingStats = addStats(m.EncodingStats, stats)
	dst = append(dst, e.header.Bytes()...)
	return append(dst, e.packed...), nil
}

// addStats counts a page, in the order of types and encodings.
func addStats(list []format.PageEncodingStats, s format.PageEncodingStats) []format.PageEncodingStats {
	at := 0
	for ; at < len(list); at++ {
		o := &list[at]
		if o.PageType == s.PageType && o.Encoding == s.Encoding {
			o.Count++
			return list
		}
		if o.PageType > s.PageType || o.PageType == s.PageType && o.Encoding > s.Encoding {
			break
		}
	}
	list = append(list, s)
	copy(list[at+1:], list[at:])
	list[at] = s
	return list
}

// writeDictionary writes the dictionary's page.
func (e *encoder) writeDictionary() error {
	e.page = e.page[:0]
	for i := range e.dict.ends {
		text := e.dict.at(int32(i))
		e.page = binary.LittleEndian.AppendUint32(e.page, uint32(len(text)))
		e.page = append(e.page, text...)
	}
	header := format.PageHeader{Type: format.DictionaryPage, UncompressedPageSize: int32(len(e.page))}
	header.DictionaryPageHeader.Valid = true
	header.DictionaryPageHeader.V = format.DictionaryPageHeader{NumValues: int32(len(e.dict.ends)), Encoding: format.Plain}
	var err error
	e.to.dictionary, err = e.write(e.to.dictionary, &header)
	return err
}
