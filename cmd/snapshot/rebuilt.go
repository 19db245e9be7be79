package main

import (
	"errors"
	"fmt"
	"io/fs"

	"dreamfeed/featurestore"
	"dreamfeed/snapshot"
)

// givenKey reads the secret of a data directory that was rebuilt. None is made for
// it: another one than the feed's would make other pseudonyms.
func givenKey(dataDir, env string) ([]byte, error) {
	key, err := snapshot.ReadKey(dataDir, env)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("data directory %s was rebuilt with an anonymisation key that is not in it, and none is made for it: set %s to the key that the rebuild was given, or restore %s",
			dataDir, snapshot.KeyVariable, snapshot.KeyFile)
	}
	return key, err
}

// rebuilt says whether a data directory bears the mark of a rebuild.
func rebuilt(dataDir string) (bool, error) {
	_, found, err := featurestore.ReadRebuilt(dataDir)
	return found, err
}
