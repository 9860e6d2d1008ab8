package main

import (
	"slices"
	"testing"
)

// A run goes on only where one of the same commit and the same checks ended.
func TestGoOn(t *testing.T) {
	checks := []check{{id: "a"}, {id: "b"}, {id: "c"}}
	was := Run{Part: "X", Commit: "1", Checks: []Result{{ID: "a", State: "passed"}, {ID: "b", State: "failed"}}}
	r := Run{Part: "X", Commit: "1"}
	if n, err := goOn(&r, was, checks, "b"); err != nil || n != 1 || len(r.Checks) != 1 || !slices.Equal(r.Resumed, []string{"b"}) {
		t.Errorf("went on at %d with %+v: %v", n, r, err)
	}
	for name, tt := range map[string]struct {
		commit, from string
		checks       []check
	}{
		"another commit": {"2", "b", checks}, "no such check": {"1", "d", checks}, "too far": {"1", "d", append(checks[:3:3], check{id: "d"})},
		"other checks": {"1", "b", []check{{id: "z"}, {id: "b"}}},
	} {
		r := Run{Part: "X", Commit: tt.commit}
		if n, err := goOn(&r, was, tt.checks, tt.from); err == nil {
			t.Errorf("%s: went on at %d", name, n)
		}
	}
}
