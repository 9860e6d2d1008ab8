// Package arch holds the rules of the house as tests: who may import whom,
// file and interface limits, package comments, and what the small edge binary
// must never contain. Change a rule here in review only.
package arch
