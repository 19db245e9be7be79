// Package disk tells how much room there is. Stream and store pause before a
// disk is full: the one never stores again once it was, the other maps its
// files and dies of a write that finds no block.
package disk
