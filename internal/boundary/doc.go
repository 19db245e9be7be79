// Package boundary holds the rules of this repository as tests: which package
// may import which (DESIGN §1), that no code knows the first user's tables,
// and a few habits that reviewers would otherwise look for.
//
// It has no code to import. A rule that is broken for a good reason gets an
// exception in the rule, with the reason beside it.
package boundary
