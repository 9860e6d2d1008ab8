//go:build race

package store

// sampleOf: the race detector makes SQLite ten times slower and has nothing to
// say about disks, so with it one image in so many is tried. The run without it
// tries all.
const sampleOf = 8
