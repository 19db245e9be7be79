// Package spill keeps the rows of a dataset in the making on disk, so that
// memory does not grow with them. Rows go to partitions; a partition's rows lie
// in chunks of at most ChunkRows, column by column, so that a pass over the
// rows reads only the columns that it needs.
//
//	file  = chunk*                     one file a writer, append only
//	chunk = end uint32 LE × columns    end of each column's segment, from the
//	        segment × columns          first segment's start
//	          the columns that most passes want come first
//	segment = validity byte | [bitmap] | values
//	        | 3 | number of runs | end of each run, a byte each | segment of their first rows
//
// The validity byte is 0 when every row has a value, 1 when none has (no
// values follow), 2 when a bitmap (least significant bit first) tells. Numbers
// stand at their kind's width, little endian, missing ones as 0; texts are
// uint32 lengths and then the bytes. Rows of an entity follow each other and share
// most of their values: who writes a row sets only those that changed, and a column
// of few runs of equal rows is stored once a run, which makes the files of a
// Dreamscape dataset smaller by two fifths. An entity of some rows has a chunk of its
// own (Writer.Group): its rows are put together where the processor's caches hold
// them, not beside those of other entities in as many places as there are
// partitions times columns.
//
// What it promises: rows of one writer and partition are read back in the order
// of appending. Every file is taken out of its directory as soon as it is open,
// where the system allows it: nothing is left behind after a crash, and no
// other process finds the raw ids in it. A reader never allocates beyond what
// the chunk's recorded size and number of rows allow.
// Files are read where they are mapped; what the disk cannot give back is an error.
//
// What it does not do: sort, compress, or survive the process.
package spill
