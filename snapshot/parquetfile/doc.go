// Package parquetfile writes a dataset's rows, which come column by column and
// with a schema known only at run time, as a Parquet file.
//
// It encodes the pages itself, a column at a time: parquet-go takes columns whose
// types are known at run time as boxed values only, which cost more than all of
// the encoding. Encodings, compression, the form of headers and footer, and the
// page index's truncated bounds are parquet-go's, and so is every byte of a file:
// a test holds them against what its own writer makes of the same rows. Each group
// of GroupRows rows is encoded by a goroutine of its own, several at once, and the
// groups are appended in order. A column that copies another one is encoded once.
//
// What it promises: the same rows, schema and metadata give the same bytes,
// whatever the number of workers and however the rows were cut into calls of
// Write (I6). At most Workers + 1 groups are held in memory (I10). Required
// columns are REQUIRED, the others OPTIONAL; floats are FLOAT, integers INT32,
// texts UTF8 with a dictionary or PLAIN, moments INT64 TIMESTAMP(MICROS, adjusted
// to UTC). Data pages are version 1 and compressed with Snappy, which every
// reader knows.
//
// Column statistics are written for all columns: parquet-go can leave them
// out only by writing false ones (zeros) into the page index, which makes
// readers skip rows. They say nothing that the rows beside them do not. Floats
// should be finite, as those of a dataset are: bounds leave NaN out, so that a
// reader which filters by them may overlook it.
//
// # Logical digest
//
// The digest of a file names its rows and schema, whatever the writer,
// compression, or grouping. All numbers are little endian.
//
//	column = SHA-256 of, for each of up to 65,536 consecutive rows: 02 if it has what
//	         the row before it has, else 00 if null, else 01 and the value: float32
//	         and int32 4 bytes, timestamp (µs since 1970 UTC) 8, bool 1 (00 or 01),
//	         string uint32 length and bytes. Floats are compared by their bits; the
//	         first of the rows has none before it
//	block  = SHA-256 of the digests of the columns, in order
//	digest = SHA-256 of "dreamfeed dataset digest 2\n", then a line
//	         "<name>\t<type>\t<required|optional>\n" for each column, a line
//	         "<number of rows>\n", then the digests of the blocks in order
package parquetfile
