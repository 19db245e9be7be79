//go:build !unix

package spill

import "os"

// mapFile maps nothing here: chunks are read.
func mapFile(*os.File, int64) []byte { return nil }

func unmapFile([]byte) error { return nil }
