package cdc

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"path/filepath"

	"dreamfeed/internal/disk"
)

const (
	// spillPattern names spill files.
	spillPattern = "refill-*.spill"
	// spillBuffer is the size of a spill's buffer.
	spillBuffer = 256 << 10
	// spillCheckEvery is how many bytes are written between two looks at the disk.
	spillCheckEvery = 8 << 20
	// spillHead is what stands before a row: its length and its CRC-32C, each as
	// 4 bytes, little endian.
	spillHead = 8
)

// SpillRoomError says that the rows of a refill found no room on disk. Nothing
// of the refill was published.
type SpillRoomError struct {
	Dir           string
	Free, Reserve uint64 // bytes
}

func (e *SpillRoomError) Error() string {
	return fmt.Sprintf("refill: %s has %d bytes of free disk, less than the reserve of %d: free as much as the table takes, or lower --disk-reserve, and refill again",
		e.Dir, e.Free, e.Reserve)
}

// spill holds the rows of a refill, as Insert messages, in a file until they are
// published. It is not synced: after a crash the table is read again.
type spill struct {
	dir     string
	reserve func() uint64
	file    *os.File
	out     *bufio.Writer
	rows    uint32
	bytes   uint64
	checked uint64 // bytes when the disk was last looked at
	head    [spillHead]byte
}

// clearSpills makes the directory and removes what a killed process left there.
func clearSpills(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the directory for refills: %w", err)
	}
	left, err := filepath.Glob(filepath.Join(dir, spillPattern))
	if err != nil {
		return fmt.Errorf("look for what refills left in %s: %w", dir, err)
	}
	for _, path := range left {
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("remove what a refill left: %w", err)
		}
	}
	return nil
}

// newSpill opens an empty file; reserve tells the free disk in bytes that it
// leaves alone, nil for none.
func newSpill(dir string, reserve func() uint64) (*spill, error) {
	s := &spill{dir: dir, reserve: reserve}
	if err := s.room(); err != nil {
		return nil, err
	}
	file, err := os.CreateTemp(dir, spillPattern)
	if err != nil {
		return nil, fmt.Errorf("make a file for the rows of a refill: %w", err)
	}
	s.file, s.out = file, bufio.NewWriterSize(file, spillBuffer)
	return s, nil
}

// room looks whether there is disk for what comes until the next look.
func (s *spill) room() error {
	free, err := disk.Free(s.dir)
	if err != nil {
		return err
	}
	var reserve uint64
	if s.reserve != nil {
		reserve = s.reserve()
	}
	if free < reserve+spillCheckEvery {
		return &SpillRoomError{Dir: s.dir, Free: free, Reserve: reserve}
	}
	s.checked = s.bytes
	return nil
}

// add appends a row, which is copied.
func (s *spill) add(message []byte) error {
	if s.rows == math.MaxUint32-1 {
		return fmt.Errorf("write the rows of a refill: a table of more than %d rows does not fit one transaction", s.rows)
	}
	size := spillHead + uint64(len(message))
	if s.bytes+size-s.checked > spillCheckEvery {
		if err := s.room(); err != nil {
			return err
		}
	}
	binary.LittleEndian.PutUint32(s.head[:], uint32(len(message)))
	binary.LittleEndian.PutUint32(s.head[4:], crc32.Checksum(message, castagnoli))
	if _, err := s.out.Write(s.head[:]); err != nil {
		return fmt.Errorf("write the rows of a refill: %w", err)
	}
	if _, err := s.out.Write(message); err != nil {
		return fmt.Errorf("write the rows of a refill: %w", err)
	}
	s.rows++
	s.bytes += size
	return nil
}

// close ends the writing.
func (s *spill) close() error {
	if err := s.out.Flush(); err != nil {
		return fmt.Errorf("write the rows of a refill: %w", err)
	}
	s.out = nil
	return nil
}

// errSpillDamaged says that a spill file does not hold what was written to it.
var errSpillDamaged = errors.New("the file with the rows of the refill is damaged: check the disk, and refill again")

// each calls fn for every row that was added, in order. The message is borrowed;
// an error of fn ends the reading.
func (s *spill) each(limit int, fn func(message []byte) error) error {
	if _, err := s.file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read the rows of a refill: %w", err)
	}
	in := bufio.NewReaderSize(s.file, spillBuffer)
	var memory []byte
	left := s.bytes
	for row := range s.rows {
		if left < spillHead {
			return fmt.Errorf("row %d of %d: %w", row, s.rows, errSpillDamaged)
		}
		if _, err := io.ReadFull(in, s.head[:]); err != nil {
			return fmt.Errorf("row %d of %d: %w: %w", row, s.rows, errSpillDamaged, err)
		}
		size, sum := binary.LittleEndian.Uint32(s.head[:]), binary.LittleEndian.Uint32(s.head[4:])
		left -= spillHead
		if uint64(size) > min(left, uint64(limit)) {
			return fmt.Errorf("row %d of %d: %w", row, s.rows, errSpillDamaged)
		}
		if uint32(cap(memory)) < size {
			memory = make([]byte, size, size+size/4)
		}
		memory = memory[:size]
		if _, err := io.ReadFull(in, memory); err != nil {
			return fmt.Errorf("row %d of %d: %w: %w", row, s.rows, errSpillDamaged, err)
		}
		if crc32.Checksum(memory, castagnoli) != sum {
			return fmt.Errorf("row %d of %d: %w", row, s.rows, errSpillDamaged)
		}
		left -= uint64(size)
		if err := fn(memory); err != nil {
			return err
		}
	}
	if left != 0 {
		return errSpillDamaged
	}
	return nil
}

// remove closes and removes the file.
func (s *spill) remove() error {
	return errors.Join(s.file.Close(), os.Remove(s.file.Name()))
}
