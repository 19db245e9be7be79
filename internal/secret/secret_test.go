package secret_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dreamfeed/internal/secret"
)

func TestFileThatOthersMayReadIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		mode    os.FileMode
		owner   int
		exposed bool
	}{
		"its owner alone":                 {0o600, 1, false},
		"its owner alone, read-only":      {0o400, 1, false},
		"the group of a user's file":      {0o640, 1, true},
		"everybody":                       {0o644, 1, true},
		"everybody may write":             {0o602, 1, true},
		"the group of root's file":        {0o440, 0, false},
		"the group may write root's file": {0o660, 0, true},
		"everybody, of root's file":       {0o444, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			if os.Geteuid() != 0 && c.owner == 0 {
				t.Log("not root: the file is this user's, so that the group may not read it either")
				c.exposed = c.mode&0o077 != 0
			}
			path := filepath.Join(t.TempDir(), "token")
			if err := os.WriteFile(path, []byte("  s3cret\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if os.Geteuid() == 0 {
				if err := os.Chown(path, c.owner, c.owner); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Chmod(path, c.mode); err != nil {
				t.Fatal(err)
			}
			text, err := secret.ReadFile(path)
			var exposed *secret.ExposedError
			if errors.As(err, &exposed) != c.exposed || errors.As(secret.Private(path), &exposed) != c.exposed {
				t.Fatalf("error %v, want exposed %v", err, c.exposed)
			}
			if c.exposed {
				if !strings.Contains(err.Error(), "chmod 600 "+path) || text != "" {
					t.Errorf("%q, %v: want no text, and what mends it", text, err)
				}
			} else if text != "s3cret" {
				t.Errorf("%q, want the secret without space around it", text)
			}
		})
	}
}

func TestEmptyAndMissingFilesAreErrors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	if _, err := secret.ReadFile(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	if err := os.WriteFile(path, []byte(" \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := secret.ReadFile(path); !errors.Is(err, secret.ErrEmpty) {
		t.Errorf("empty: %v", err)
	}
	if err := os.WriteFile(path, make([]byte, 65<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := secret.ReadFile(path); err == nil {
		t.Error("a large file is read")
	}
}

func TestAddressesWithSecretsAreSeenAndRedacted(t *testing.T) {
	for text, want := range map[string]bool{
		"postgres://app@db.example/app":                      false,
		"postgres://app:@db.example/app":                     false,
		"postgres://db.example:5432/app?sslmode=verify-full": false,
		"postgres://[::1]:5432/app":                          false,
		"host=db user=app passfile=/x":                       false,
		"postgres://db:5432/app?application_name=a@b":        false,
		"":                                      false,
		"postgres://app:hush@db.example/app":    true,
		"postgresql://app:hu/sh@db.example/app": true,
		"postgres://app:hu@sh:hush@db.example/app":            true,
		"postgres://app@a,b:5432/app?password=hush":           true,
		"postgres://app@db/app?sslmode=require&pass%77ord=sh": true,
		"postgres://app@db/app?sslpassword=hush":              true,
		"host=db password=hush":                               true,
		"host=db password = 'hu sh'":                          true,
		"host=db PASSWORD='hu\\'sh'":                          true,
		"postgres://app:hush@[bad":                            true,
	} {
		if got := secret.InDatabaseURL(text); got != want {
			t.Errorf("%q: holds a password: %v, want %v", text, got, want)
		}
		if shown := secret.Redact("open " + text + " now"); strings.Contains(shown, "sh ") || strings.Contains(shown, "sh@") || strings.Contains(shown, "hu") {
			if !strings.Contains(text, "%77") { // only the parser reads percents
				t.Errorf("%q is shown as %q", text, shown)
			}
		}
	}
	for text, want := range map[string]bool{
		"nats://a:4222,nats://b:4222": false, "nats://u:p@a:4222": true, "nats://a,tls://token@b": true, "": false,
	} {
		if got := secret.InNATSURL(text); got != want {
			t.Errorf("%q: holds a secret: %v, want %v", text, got, want)
		}
	}
	if got, want := secret.Redact("dial nats://tok@a:4222: refused"), "dial nats://***@a:4222: refused"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := secret.Redact("want postgres://user@host:5432/db"), "want postgres://user@host:5432/db"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := secret.Redact("postgres://user:hu@sh@host/db?sslpassword=hush&x=y"), "postgres://user:***@host/db?sslpassword=***&x=y"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
