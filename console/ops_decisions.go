package console

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
)

func (c *Console) registerDecisions() {
	read(c, get("/decisions", "list-decisions", "policy", "Decisions, newest first"), c.listDecisions)
	read(c, get("/decisions/{id}", "get-decision", "policy", "One decision with its input"), func(ctx context.Context, in *byID) (*answer[client.Decision], error) {
		return answered(c.deps.Decisions.Decision(ctx, in.ID))
	})
	read(c, get("/subjects", "list-subjects", "policy", "Persons and services the policy knows"), func(ctx context.Context, _ *nothing) (*answer[client.Subjects], error) {
		s, err := c.deps.Subjects.Subjects(ctx)
		if s == nil {
			s = []client.Subject{}
		}
		return answered(client.Subjects{Subjects: s}, err)
	})
	op := route(http.MethodPut, "/subjects", "put-subjects", "policy", "Replace the persons and services the policy knows")
	op.MaxBodyBytes = c.cfg.MaxInventory
	write(c, op, c.putSubjects)
}

func (c *Console) listDecisions(ctx context.Context, in *struct {
	Subject     string    `query:"subject" maxLength:"200"`
	Device      string    `query:"device" maxLength:"128"`
	Application string    `query:"application" maxLength:"128"`
	Allow       string    `query:"allow" enum:"true,false"`
	Since       time.Time `query:"since"`
	Until       time.Time `query:"until"`
	Before      string    `query:"before" maxLength:"128" doc:"id of a decision: only older ones"`
	Limit       int       `query:"limit" minimum:"1" maximum:"1000" default:"100"`
},
) (*answer[[]client.Decision], error) {
	f := client.DecisionFilter{
		Subject: in.Subject, Device: in.Device, Application: in.Application,
		Since: in.Since, Until: in.Until, Before: in.Before, Limit: in.Limit,
	}
	if in.Allow != "" {
		allow := in.Allow == "true"
		f.Allow = &allow
	}
	return listed(c.deps.Decisions.Decisions(ctx, f))
}

func (c *Console) putSubjects(ctx context.Context, in *struct{ Body client.Subjects }) (*answer[client.Subjects], error) {
	about(ctx, "subjects")
	seen := map[string]bool{}
	for i, s := range in.Body.Subjects {
		if s.ID == "" || seen[s.ID] {
			return nil, fmt.Errorf("%w: subjects[%d]: id %q is empty or used twice", inventory.ErrInvalid, i, clip(s.ID))
		}
		seen[s.ID] = true
	}
	before, err := c.deps.Subjects.Subjects(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.deps.Subjects.PutSubjects(ctx, in.Body.Subjects, principal(ctx).Name); err != nil {
		return nil, err
	}
	added, removed, altered := subjectChanges(before, in.Body.Subjects)
	changed(ctx, map[string]any{"count": len(before), "removed": removed}, map[string]any{"count": len(in.Body.Subjects), "added": added, "changed": altered})
	return answered(in.Body, nil)
}

// subjectChanges lists what a replacement of all subjects did, by id: the audit
// log tells who gained or lost access, not only that the list changed.
func subjectChanges(before, after []client.Subject) (added, removed, altered []client.Subject) {
	old := make(map[string]client.Subject, len(before))
	for _, s := range before {
		old[s.ID] = s
	}
	for _, s := range after {
		was, ok := old[s.ID]
		delete(old, s.ID)
		switch {
		case !ok:
			added = append(added, s)
		case was.Name != s.Name || was.Active != s.Active || !slices.Equal(was.Groups, s.Groups):
			altered = append(altered, s)
		}
	}
	for _, s := range before {
		if _, ok := old[s.ID]; ok {
			removed = append(removed, s)
		}
	}
	return added, removed, altered
}
