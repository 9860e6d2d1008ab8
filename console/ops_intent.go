package console

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
)

// maxApproval is the longest life of an approval.
const maxApproval = 24 * time.Hour

type byNumber struct {
	N uint64 `path:"n" minimum:"1"`
}

func (c *Console) registerIntent() {
	read(c, get("/revisions", "list-revisions", "intent", "Revisions, newest first"), func(ctx context.Context, _ *nothing) (*answer[[]client.RevisionInfo], error) {
		return listed(c.deps.Revisions.Revisions(ctx))
	})
	op := post("/revisions", "create-revision", "intent", "Make a revision of the inventory in force, or return to an earlier one")
	op.DefaultStatus = http.StatusCreated
	write(c, op, c.createRevision)
	read(c, get("/revisions/{n}", "get-revision", "intent", "One revision with its content"), func(ctx context.Context, in *byNumber) (*answer[client.RevisionView], error) {
		return answered(c.deps.Revisions.Revision(ctx, intent.Number(in.N)))
	})
	read(c, get("/revisions/{n}/plan", "get-plan", "intent", "What a revision changes, where, in which order"), func(ctx context.Context, in *byNumber) (*answer[client.Plan], error) {
		return answered(c.deps.Revisions.Plan(ctx, intent.Number(in.N)))
	})
	op = post("/revisions/{n}/approvals", "approve-revision", "intent", "Approve a revision by its hash")
	op.DefaultStatus = http.StatusCreated
	write(c, op, c.approve)

	op = post("/revisions/{n}/waivers", "waive-revision", "intent", "Take the risk of a revision whose proof does not hold, until a date")
	op.DefaultStatus = http.StatusCreated
	write(c, op, c.waive)

	read(c, get("/rollouts", "list-rollouts", "intent", "Rollouts, newest first"), func(ctx context.Context, _ *nothing) (*answer[[]client.Rollout], error) {
		return listed(c.deps.Rollouts.Rollouts(ctx))
	})
	read(c, get("/rollouts/{id}", "get-rollout", "intent", "One rollout"), func(ctx context.Context, in *byID) (*answer[client.Rollout], error) {
		return answered(c.deps.Rollouts.Rollout(ctx, in.ID))
	})
	op = post("/rollouts", "start-rollout", "intent", "Start the rollout of a revision")
	op.DefaultStatus = http.StatusCreated
	write(c, op, c.startRollout)
	for _, action := range []string{"pause", "resume", "abort"} {
		op := post("/rollouts/{id}/"+action, action+"-rollout", "intent", "Tell a rollout to "+action)
		write(c, op, func(ctx context.Context, in *struct {
			ID   string `path:"id" maxLength:"128"`
			Body client.RolloutAction
		},
		) (*answer[client.Rollout], error) {
			about(ctx, "rollout/"+in.ID)
			before, err := c.deps.Rollouts.Rollout(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			after, err := c.deps.Rollouts.Act(ctx, in.ID, action, in.Body.Reason, principal(ctx).Name)
			if err == nil {
				changed(ctx, map[string]string{"state": before.State}, map[string]string{"state": after.State, "reason": in.Body.Reason})
			}
			return answered(after, err)
		})
	}
}

func revisionName(n intent.Number) string { return "revision/" + strconv.FormatUint(uint64(n), 10) }

func (c *Console) createRevision(ctx context.Context, in *struct{ Body client.NewRevision }) (*answer[client.RevisionInfo], error) {
	about(ctx, "revision")
	r, err := c.deps.Revisions.Propose(ctx, in.Body, principal(ctx).Name)
	if err == nil {
		about(ctx, revisionName(r.Number))
		changed(ctx, nil, r)
	}
	return answered(r, err)
}

// approve checks what makes an approval worth something before it is signed:
// another person than the author, who named the very content, for a bounded time.
func (c *Console) approve(ctx context.Context, in *struct {
	N    uint64 `path:"n" minimum:"1"`
	Body client.NewApproval
},
) (*answer[intent.Approval], error) {
	n, want, by := intent.Number(in.N), in.Body, principal(ctx)
	about(ctx, revisionName(n))
	rev, err := c.deps.Revisions.Revision(ctx, n)
	if err != nil {
		return nil, err
	}
	now := time.Now().UTC()
	if want.Expires.IsZero() {
		want.Expires = now.Add(maxApproval)
	}
	want.Expires = want.Expires.UTC()
	if want.Expires.After(now.Add(maxApproval)) {
		return nil, fmt.Errorf("%w: an approval lives at most %s, not until %s", inventory.ErrInvalid, maxApproval, want.Expires.Format(time.RFC3339))
	}
	if want.Hash != rev.Hash {
		return nil, fmt.Errorf("revision %d has the hash %.12s…, not %.12s…: %w", n, rev.Hash, want.Hash, inventory.ErrConflict)
	}
	probe := intent.Approval{Revision: n, Hash: want.Hash, Approver: by.Name, At: now, Expires: want.Expires}
	if err := probe.Valid(rev.Revision, now); err != nil {
		return nil, err
	}
	a, err := c.deps.Revisions.Approve(ctx, n, want, by.Name)
	if err == nil {
		changed(ctx, nil, a)
	}
	return answered(a, err)
}

// waive checks that the person has seen the very content.
func (c *Console) waive(ctx context.Context, in *struct {
	N    uint64 `path:"n" minimum:"1"`
	Body client.NewWaiver
},
) (*answer[intent.Waiver], error) {
	n := intent.Number(in.N)
	about(ctx, revisionName(n))
	rev, err := c.deps.Revisions.Revision(ctx, n)
	if err != nil {
		return nil, err
	}
	if in.Body.Hash != rev.Hash {
		return nil, fmt.Errorf("revision %d has the hash %.12s…, not %.12s…: %w", n, rev.Hash, in.Body.Hash, inventory.ErrConflict)
	}
	w, err := c.deps.Revisions.Waive(ctx, n, in.Body, principal(ctx).Name)
	if err == nil {
		changed(ctx, nil, w)
	}
	return answered(w, err)
}

func (c *Console) startRollout(ctx context.Context, in *struct{ Body client.NewRollout }) (*answer[client.Rollout], error) {
	about(ctx, revisionName(in.Body.Revision))
	r, err := c.deps.Rollouts.Start(ctx, in.Body.Revision, principal(ctx).Name, in.Body.Urgent)
	if err == nil {
		about(ctx, "rollout/"+r.ID)
		changed(ctx, nil, map[string]any{"revision": r.Revision, "devices": r.Total, "urgent": in.Body.Urgent})
	}
	return answered(r, err)
}
