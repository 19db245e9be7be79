package parquetfile

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"slices"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

// magic begins and ends a Parquet file.
const magic = "PAR1"

// file puts encoded groups one after the other:
//
//	file = PAR1 (dictionary page | data page)* of each column of each group
//	       column indexes | offset indexes | footer | its length, uint32 LE | PAR1
type file struct {
	out      *bufio.Writer
	offset   int64
	footer   format.FileMetaData
	sorted   []format.SortingColumn
	indexes  [][]format.ColumnIndex // by group and column
	offsets  [][]format.OffsetIndex
	metadata map[string]string
}

// bufferBytes is how much is handed to the output at once.
const bufferBytes = 256 << 10

// newFile prepares the footer: parquet-go says how the schema is written.
func newFile(out io.Writer, o *Options) (*file, error) {
	empty := parquet.NewGenericWriter[any](io.Discard, newSchema(o.Name, o.Columns))
	if err := empty.Close(); err != nil {
		return nil, err
	}
	schema := empty.File().Metadata()
	f := &file{
		out: bufio.NewWriterSize(out, bufferBytes), metadata: map[string]string{},
		footer: format.FileMetaData{
			Version: 2, Schema: schema.Schema, ColumnOrders: schema.ColumnOrders, CreatedBy: o.Program + " version " + o.Version,
		},
	}
	f.sorted = make([]format.SortingColumn, 0, len(o.Sorted)) // written even if it is empty
	for _, name := range o.Sorted {
		at := slices.IndexFunc(o.Columns, func(c Column) bool { return c.Name == name })
		if at < 0 {
			return nil, errors.New("rows are sorted by " + name + ", which is no column")
		}
		f.sorted = append(f.sorted, format.SortingColumn{ColumnIdx: int32(at)})
	}
	return f, nil
}

// Write counts what is written.
func (f *file) Write(p []byte) (int, error) {
	n, err := f.out.Write(p)
	f.offset += int64(n)
	return n, err
}

// begin writes what the file begins with, once.
func (f *file) begin() error {
	if f.offset > 0 {
		return nil
	}
	_, err := f.Write([]byte(magic))
	return err
}

// append writes a group. The chunks are free again afterwards.
func (f *file) append(chunks []chunk, rows int) error {
	if err := f.begin(); err != nil {
		return err
	}
	if len(f.footer.RowGroups) > math.MaxInt16 {
		return errors.New("a file holds at most 32,768 row groups")
	}
	group := format.RowGroup{
		NumRows: int64(rows), SortingColumns: f.sorted, FileOffset: f.offset, Ordinal: int16(len(f.footer.RowGroups)),
	}
	indexes := make([]format.ColumnIndex, len(chunks))
	offsets := make([]format.OffsetIndex, len(chunks))
	for i := range chunks {
		c := &chunks[i]
		m := c.meta
		if len(c.dictionary) > 0 {
			m.DictionaryPageOffset = f.offset
			if _, err := f.Write(c.dictionary); err != nil {
				return err
			}
		}
		m.DataPageOffset = f.offset
		if _, err := f.Write(c.pages); err != nil {
			return err
		}
		indexes[i] = c.index
		for _, at := range c.offsets {
			at.Offset += m.DataPageOffset
			offsets[i].PageLocations = append(offsets[i].PageLocations, at)
		}
		group.TotalByteSize += m.TotalUncompressedSize
		group.TotalCompressedSize += m.TotalCompressedSize
		group.Columns = append(group.Columns, format.ColumnChunk{MetaData: m})
	}
	f.indexes = append(f.indexes, indexes)
	f.offsets = append(f.offsets, offsets)
	f.footer.RowGroups = append(f.footer.RowGroups, group)
	f.footer.NumRows += int64(rows)
	return nil
}

// close writes the indexes and the footer.
func (f *file) close() error {
	if err := f.begin(); err != nil {
		return err
	}
	encoder := thrift.NewEncoder(new(thrift.CompactProtocol).NewWriter(f))
	for g := range f.indexes {
		for i := range f.indexes[g] {
			c := &f.footer.RowGroups[g].Columns[i]
			c.ColumnIndexOffset = f.offset
			if err := encoder.Encode(&f.indexes[g][i]); err != nil {
				return err
			}
			c.ColumnIndexLength = int32(f.offset - c.ColumnIndexOffset)
		}
	}
	for g := range f.offsets {
		for i := range f.offsets[g] {
			c := &f.footer.RowGroups[g].Columns[i]
			c.OffsetIndexOffset = f.offset
			if err := encoder.Encode(&f.offsets[g][i]); err != nil {
				return err
			}
			c.OffsetIndexLength = int32(f.offset - c.OffsetIndexOffset)
		}
	}
	keys := make([]string, 0, len(f.metadata))
	for key := range f.metadata {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		f.footer.KeyValueMetadata = append(f.footer.KeyValueMetadata, format.KeyValue{Key: key, Value: f.metadata[key]})
	}
	began := f.offset
	if err := encoder.Encode(&f.footer); err != nil {
		return err
	}
	end := binary.LittleEndian.AppendUint32(nil, uint32(f.offset-began))
	if _, err := f.Write(append(end, magic...)); err != nil {
		return err
	}
	return f.out.Flush()
}
