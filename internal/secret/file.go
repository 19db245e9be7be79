package secret

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// maxFileBytes bounds a file that holds one secret.
const maxFileBytes = 64 << 10

// ExposedError says that a file with a secret may be read by others.
type ExposedError struct {
	Path string
	Mode fs.FileMode
}

func (e *ExposedError) Error() string {
	return fmt.Sprintf("%s holds a secret and may be read by other users (mode %04o): chmod 600 %s", e.Path, e.Mode.Perm(), e.Path)
}

// Private checks that only its owner may read a file; the group may, too, if
// root owns the file, as PostgreSQL allows for keys and systemd makes its
// credentials. What is not a regular file, such as a pipe, has no such rights
// and is accepted. A violation is an *ExposedError.
func Private(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return private(path, info)
}

func private(path string, info fs.FileInfo) error {
	forbidden := fs.FileMode(0o077)
	if rootOwns(info) {
		forbidden = 0o037
	}
	if info.Mode().IsRegular() && info.Mode().Perm()&forbidden != 0 {
		return &ExposedError{Path: path, Mode: info.Mode()}
	}
	return nil
}

// ReadFile reads a file that holds one secret, and returns it without space
// around it. An empty file is an error, and so is one that others may read.
func ReadFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if err := private(path, info); err != nil {
		return "", err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return "", err
	}
	text := strings.TrimSpace(string(data))
	switch {
	case len(data) > maxFileBytes:
		return "", fmt.Errorf("%s holds more than %d bytes, which is no secret: name the right file", path, maxFileBytes)
	case text == "":
		return "", fmt.Errorf("%s: %w: write the secret into it, or name another file", path, ErrEmpty)
	}
	return text, nil
}

// ErrEmpty is returned for a file without a secret.
var ErrEmpty = errors.New("the file is empty")
