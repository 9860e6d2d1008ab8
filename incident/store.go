package incident

import (
	"context"
	"time"
)

// Change is what one save writes: the incident, the symptoms that are new or
// changed, and the lines added to its timeline.
type Change struct {
	Incident *Incident // an empty ID is filled in with the next number of the year opened
	Symptoms []Symptom
	Entries  []Entry
}

// Filter chooses incidents; zero means all.
type Filter struct {
	States []State
	Since  time.Time // opened at or after
	Limit  int       // newest first; default and most 1000
}

// Store keeps incidents; internal/store implements it. Errors wrap
// inventory.ErrNotFound where an id is unknown.
type Store interface {
	// Save writes all changes in one transaction.
	Save(ctx context.Context, changes []Change) error
	// List returns incidents, newest first, without symptoms and timeline.
	List(ctx context.Context, f Filter) ([]Incident, error)
	// Get returns one incident whole.
	Get(ctx context.Context, id string) (Incident, error)
}
