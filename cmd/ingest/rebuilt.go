package main

import (
	"fmt"
	"path/filepath"

	"dreamfeed/featurestore"
)

// refuseRebuilt keeps a feed away from a store that was rebuilt as of a moment:
// it has no stream of its own, and what it lacks may be forgotten by PostgreSQL.
func refuseRebuilt(dataDir string) error {
	mark, found, err := featurestore.ReadRebuilt(dataDir)
	if err != nil || !found {
		return err
	}
	return fmt.Errorf("data directory %s holds a store that was rebuilt as of %s, for reading: run ingest on the feed's own data directory; to have the feed go on from this store, stop the feed, put its directory stream here and remove %s",
		dataDir, mark.Until, filepath.Join(dataDir, featurestore.RebuiltFile))
}
