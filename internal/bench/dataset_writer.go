package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/parquet-go/parquet-go"

	"dreamfeed/snapshot/parquetfile"
)

// writtenRows is how many rows parquet-go is given at most: some 200 MB, and
// enough to take over a tenth of a second.
const writtenRows = 200_000

// writeRows measures how many rows a second parquet-go writes of those that a
// file of a finished dataset begins with: from memory to a file, with the row
// groups, page form and compression of snapshot, by one goroutine. It is what a
// dataset would cost if there were nothing to find out.
func writeRows(finished, scratch string, runs int) (rates []float64, err error) {
	rows, err := readDatasetRows(finished)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", finished, err)
	}
	for range runs {
		took, err := timed(func() error { return writeDatasetRows(scratch, rows) })
		if err != nil {
			return nil, fmt.Errorf("write rows with parquet-go: %w", err)
		}
		rates = append(rates, float64(len(rows))/took.Seconds())
	}
	return rates, os.Remove(scratch)
}

func readDatasetRows(path string) (_ []datasetRow, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	reader := parquet.NewGenericReader[datasetRow](file)
	defer func() { err = errors.Join(err, reader.Close()) }()
	rows := make([]datasetRow, min(writtenRows, reader.NumRows()))
	for n := 0; n < len(rows); {
		read, err := reader.Read(rows[n:])
		n += read
		if n == len(rows) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("after %d of %d rows: %w", n, len(rows), errors.Join(err, io.ErrUnexpectedEOF))
		}
	}
	if first := rows[0]; first.UserHash == "" || first.Timestamp < time.Unix(0, 0).UnixMicro() || first.PrimarySegment == "" {
		return nil, errors.New("the columns of the file are not those that the benchmark knows")
	}
	return rows, nil
}

func writeDatasetRows(path string, rows []datasetRow) (err error) {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	writer := parquet.NewGenericWriter[datasetRow](file,
		parquet.Compression(&parquet.Snappy), parquet.DataPageVersion(1),
		parquet.MaxRowsPerRowGroup(parquetfile.GroupRows), parquet.DictionaryMaxBytes(1<<20))
	const atOnce = 5000
	for from := 0; from < len(rows); from += atOnce {
		if _, err := writer.Write(rows[from:min(from+atOnce, len(rows))]); err != nil {
			return err
		}
	}
	return writer.Close()
}
