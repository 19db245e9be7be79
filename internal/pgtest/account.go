package pgtest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// account is the operating-system user that the server runs as; nil means the
// user of this process.
type account struct {
	name     string
	uid, gid uint32
}

// serverAccount returns nil unless this process is root's, which PostgreSQL
// refuses to run as.
func serverAccount() (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errUID := strconv.ParseUint(u.Uid, 10, 32)
		gid, errGID := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(errUID, errGID); err != nil {
			return nil, fmt.Errorf("ids of user %s: %w", name, err)
		}
		return &account{name: name, uid: uint32(uid), gid: uint32(gid)}, nil
	}
	return nil, errors.New("PostgreSQL does not run as root, and there is neither a user postgres nor a user nobody: " +
		"run as another user, or useradd postgres")
}

func (a *account) credential() *syscall.Credential {
	if a == nil {
		return nil
	}
	return &syscall.Credential{Uid: a.uid, Gid: a.gid}
}

// own makes dir, with all it holds, the account's, as PostgreSQL demands of a
// data directory.
func (a *account) own(dir string) error {
	if a == nil {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(a.uid), int(a.gid))
	})
}

// reaches reports, as an error, a folder above dir that the account may not
// enter; PostgreSQL's own message would name the data directory instead.
func (a *account) reaches(dir string) error {
	if a == nil {
		return nil
	}
	for up := filepath.Dir(dir); ; up = filepath.Dir(up) {
		info, err := os.Stat(up)
		if err != nil {
			return err
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		entered := info.Mode().Perm()&0o001 != 0
		if ok && st.Uid == a.uid {
			entered = info.Mode().Perm()&0o100 != 0
		} else if ok && st.Gid == a.gid {
			entered = info.Mode().Perm()&0o010 != 0
		}
		if !entered {
			return fmt.Errorf("the server runs as user %s, who may not enter %s: chmod o+x %s, or choose another directory",
				a.name, up, up)
		}
		if up == filepath.Dir(up) {
			return nil
		}
	}
}
