package featurestore

import (
	"context"
	"io"
	"net/http"
	"time"
)

// BackupReopening is Backup with a new iterator for every key.
func (s *Store) BackupReopening(ctx context.Context, w io.Writer) error {
	_, _, err := s.backup(ctx, newBackupWriter(w), nil, 0)
	return err
}

// BackupHandler serves backups to anybody who reads a frame within patience.
func BackupHandler(s *Store, patience time.Duration) http.Handler {
	return &backupHandler{s: s, patience: patience}
}
