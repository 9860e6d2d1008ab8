package process

import (
	"slices"
	"testing"
)

func TestProcessorsFollowThePackets(t *testing.T) {
	var said []bool
	p := &processors{set: func(many bool) { said = append(said, many) }}
	p.count(int(crowd)) // not over it
	p.look()
	p.count(int(crowd))
	p.count(1) // over it since the last look, at once
	p.count(1)
	p.look() // many came: it stays
	if want := []bool{true}; !slices.Equal(said, want) {
		t.Fatalf("said %v, want %v", said, want)
	}
	p.count(int(crowd)) // few came
	p.look()
	p.look()
	if want := []bool{true, false}; !slices.Equal(said, want) {
		t.Fatalf("said %v, want %v", said, want)
	}
	p.count(int(crowd) + 1)
	if want := []bool{true, false, true}; !slices.Equal(said, want) {
		t.Errorf("said %v, want %v", said, want)
	}
}

func TestChosenProcessorsStay(t *testing.T) {
	p := newProcessors(true)
	p.count(1 << 40) // nothing happens
	p.look()
}
