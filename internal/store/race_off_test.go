//go:build !race

package store

const sampleOf = 1
