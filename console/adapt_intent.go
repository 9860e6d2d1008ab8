package console

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/controller"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/inventory/intent"
)

// Planner is what the intents need of the controller.
type Planner interface {
	Plan(ctx context.Context, n intent.Number) (controller.Plan, error)
	Prove(ctx context.Context, n intent.Number) (controller.Proof, error)
	InForce() intent.Number
}

// IntentSources are what the intents are made from; all are required but
// Baskets, and Planner, which [Intents.Use] may give later.
type IntentSources struct {
	Store     intent.Store
	Approvals intent.Approvals
	Waivers   intent.Waivers
	Baskets   intent.Baskets // nil: none are kept
	Inventory Inventory
	Org       inventory.OrgID
	Signer    crypto.Signer // the revision key
	KeyID     string
	Planner   Planner
}

// Intents is [Revisions]: it makes, signs and approves revisions.
type Intents struct{ src IntentSources }

// AdaptRevisions serves the revisions in src.Store.
func AdaptRevisions(src IntentSources) *Intents { return &Intents{src} }

// Use gives the controller, which itself needs [Intents.Return]. Call it before
// serving.
func (i *Intents) Use(p Planner) { i.src.Planner = p }

// Revisions implements [Revisions].
func (i *Intents) Revisions(ctx context.Context) ([]client.RevisionInfo, error) {
	all, err := i.src.Store.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list revisions: %w", err)
	}
	out := make([]client.RevisionInfo, len(all))
	for k, r := range all {
		if out[k], err = i.info(ctx, r); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (i *Intents) info(ctx context.Context, r intent.Revision) (client.RevisionInfo, error) {
	as, err := i.approvals(ctx, r.Number)
	if err != nil {
		return client.RevisionInfo{}, err
	}
	ws, err := i.waivers(ctx, r.Number)
	return client.RevisionInfo{
		Number: r.Number, Author: r.Author, Others: r.Others, At: r.At, Message: r.Message, Hash: r.Hash,
		Approvals: as, Waivers: ws, InForce: r.Number == i.src.Planner.InForce(),
	}, err
}

func (i *Intents) approvals(ctx context.Context, n intent.Number) ([]intent.Approval, error) {
	as, err := i.src.Approvals.ApprovalsOf(ctx, n)
	if err != nil {
		return nil, fmt.Errorf("approvals of revision %d: %w", n, err)
	}
	if as == nil {
		as = []intent.Approval{}
	}
	return as, nil
}

func (i *Intents) waivers(ctx context.Context, n intent.Number) ([]intent.Waiver, error) {
	ws, err := i.src.Waivers.WaiversOf(ctx, n)
	if err != nil {
		return nil, fmt.Errorf("waivers of revision %d: %w", n, err)
	}
	if ws == nil {
		ws = []intent.Waiver{}
	}
	return ws, nil
}

// Revision implements [Revisions].
func (i *Intents) Revision(ctx context.Context, n intent.Number) (client.RevisionView, error) {
	r, err := i.src.Store.Get(ctx, n)
	if err != nil {
		return client.RevisionView{}, err
	}
	as, err := i.approvals(ctx, n)
	if err != nil {
		return client.RevisionView{}, err
	}
	ws, err := i.waivers(ctx, n)
	return client.RevisionView{Revision: r, Approvals: as, Waivers: ws, InForce: n == i.src.Planner.InForce()}, err
}

// Propose implements [Revisions].
func (i *Intents) Propose(ctx context.Context, want client.NewRevision, author string) (client.RevisionInfo, error) {
	if strings.TrimSpace(want.Message) == "" || len(want.Message) > 2000 {
		return client.RevisionInfo{}, fmt.Errorf("%w: a revision needs a message of at most 2000 bytes that says what it is for", inventory.ErrInvalid)
	}
	var content inventory.Inventory
	if want.ReturnTo != 0 {
		old, err := i.src.Store.Get(ctx, want.ReturnTo)
		if err != nil {
			return client.RevisionInfo{}, err
		}
		content = old.Content
	} else {
		inv, version, err := i.src.Inventory.Load(ctx)
		if err != nil {
			return client.RevisionInfo{}, err
		}
		if version == 0 {
			return client.RevisionInfo{}, fmt.Errorf("%w: there is no inventory yet; import one first", inventory.ErrInvalid)
		}
		content = inv
	}
	r, err := i.store(ctx, content, author, want.Message, nil)
	if err != nil {
		return client.RevisionInfo{}, err
	}
	return i.info(ctx, r)
}

// store appends a new revision; others prepared it too.
func (i *Intents) store(ctx context.Context, content inventory.Inventory, author, message string, others []string) (intent.Revision, error) {
	r, err := i.prepare(ctx, content, author, message, others)
	if err != nil {
		return intent.Revision{}, err
	}
	return r, i.src.Store.Append(ctx, r)
}

// prepare makes and signs the next revision. One that does not compile is
// refused: it could never be rolled out.
func (i *Intents) prepare(ctx context.Context, content inventory.Inventory, author, message string, others []string) (intent.Revision, error) {
	last, err := i.src.Store.Latest(ctx)
	if err != nil && !errors.Is(err, inventory.ErrNotFound) {
		return intent.Revision{}, fmt.Errorf("read the last revision: %w", err)
	}
	r := intent.Revision{
		Number: last.Number + 1, Org: i.src.Org, Author: author, Others: others, At: time.Now().UTC(), Message: message,
		Content: content, Envelope: intent.EnvelopeOf(content),
	}
	if _, err := controller.CompileAll(r); err != nil {
		return intent.Revision{}, fmt.Errorf("compile revision %d: %w", r.Number, err)
	}
	if r, err = intent.Sign(r, i.src.Signer, i.src.KeyID); err != nil {
		return intent.Revision{}, fmt.Errorf("sign revision %d: %w", r.Number, err)
	}
	return r, nil
}

// Return stores a new revision with the content of an earlier one, for a failed
// rollout; asked again for the same, it gives the same. It is what
// controller.Deps.Return wants.
func (i *Intents) Return(ctx context.Context, failed, to intent.Number, reason string) (intent.Number, error) {
	head := fmt.Sprintf("return from revision %d to the content of revision %d", failed, to)
	all, err := i.src.Store.List(ctx)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", head, err)
	}
	for _, r := range all {
		if r.Author == systemUser && strings.HasPrefix(r.Message, head+":") {
			return r.Number, nil
		}
	}
	old, err := i.src.Store.Get(ctx, to)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", head, err)
	}
	r, err := i.store(ctx, old.Content, systemUser, head+": "+reason, nil)
	return r.Number, err
}

// systemUser is the author of what Wardnet does by itself; no person has it.
const systemUser = "wardnet"

// Approve implements [Revisions].
func (i *Intents) Approve(ctx context.Context, n intent.Number, want client.NewApproval, approver string) (intent.Approval, error) {
	a, err := intent.SignApproval(intent.Approval{
		Revision: n, Hash: want.Hash, Approver: approver, At: time.Now().UTC(), Expires: want.Expires, Comment: want.Comment,
	}, i.src.Signer, i.src.KeyID)
	if err != nil {
		return intent.Approval{}, fmt.Errorf("sign the approval of revision %d: %w", n, err)
	}
	return a, i.src.Approvals.AppendApproval(ctx, a)
}

// Waive implements [Revisions].
func (i *Intents) Waive(ctx context.Context, n intent.Number, want client.NewWaiver, by string) (intent.Waiver, error) {
	p, err := i.src.Planner.Prove(ctx, n)
	if err != nil {
		return intent.Waiver{}, err
	}
	findings := p.Findings()
	if len(findings) == 0 {
		return intent.Waiver{}, fmt.Errorf("%w: the proof of revision %d holds; there is nothing to waive", inventory.ErrInvalid, n)
	}
	w, err := intent.SignWaiver(intent.Waiver{
		Revision: n, Hash: want.Hash, By: by, Reason: want.Reason, Finding: strings.Join(findings, "\n"), At: time.Now().UTC(), Until: want.Until,
	}, i.src.Signer, i.src.KeyID)
	if err != nil {
		return intent.Waiver{}, err
	}
	return w, i.src.Waivers.AppendWaiver(ctx, w)
}

// Plan implements [Revisions].
func (i *Intents) Plan(ctx context.Context, n intent.Number) (client.Plan, error) {
	p, err := i.src.Planner.Plan(ctx, n)
	if err != nil {
		return client.Plan{}, err
	}
	out := client.Plan{
		Revision: p.Revision, Base: p.Base, Hash: p.Hash, Sites: p.Sites, People: p.People, Waves: []client.Wave{}, Changes: []client.DeviceChange{}, Proof: proofOf(p.Proof),
		Devices: client.PlanCounts{Create: p.Counts[controller.Create], Change: p.Counts[controller.Modify], Remove: p.Counts[controller.Remove], Unchanged: p.Counts[controller.None]},
		Seconds: client.PlanSeconds{Compile: p.Compiled.Seconds(), Prove: p.Proven.Seconds(), Total: p.Took.Seconds()},
	}
	for _, d := range p.Devices {
		out.Changes = append(out.Changes, client.DeviceChange{
			Device: d.Device, Site: d.Site, Op: string(d.Action), Wave: d.Wave, Reason: strings.Join(d.Reasons, "; "), Flaps: append([]string{}, d.Flaps...), Lines: d.Changes,
		})
	}
	out.Interims = make([]client.Interim, len(p.Interims))
	for k, x := range p.Interims {
		out.Interims[k] = client.Interim{After: x.After, Sites: x.Sites}
	}
	out.Drifts = make([]client.Drift, len(p.Drifts))
	for k, d := range p.Drifts {
		out.Drifts[k] = driftView(d)
	}
	for n, w := range p.Waves {
		out.Waves = append(out.Waves, client.Wave{N: n + 1, Name: w.Name, Devices: w.Devices, State: string(controller.WaveWaiting)})
	}
	out.Reachability = client.Reachability{Allows: flowsOf(p.Reachability.Allows), Denies: flowsOf(p.Reachability.Denies), Why: p.Incomparable}
	out.Waiver, err = i.waiver(ctx, p.Revision)
	return out, err
}

// waiver is the one that covers a revision now and longest; nil: none does.
func (i *Intents) waiver(ctx context.Context, n intent.Number) (*intent.Waiver, error) {
	ws, err := i.waivers(ctx, n)
	if err != nil || len(ws) == 0 {
		return nil, err
	}
	last := slices.MaxFunc(ws, func(a, b intent.Waiver) int { return a.Until.Compare(b.Until) })
	if !time.Now().Before(last.Until) {
		return nil, nil
	}
	return &last, nil
}
