// Package secret keeps passwords, tokens and keys where they belong: it reads
// them from files that nobody else can read, sees when an address holds one,
// and takes them out of text that is to be shown.
//
// What it promises: a file that others may read is refused, never read; no
// error of this package holds a part of a secret.
//
// What it does not: Redact knows the forms of addresses, not the secrets
// themselves. It is the last net under errors that are written without them.
package secret
