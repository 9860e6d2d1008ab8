package console

import (
	"context"
	"crypto"
	"errors"
	"fmt"
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
	InForce() intent.Number
}

// IntentSources are what the intents are made from; all are required but
// Planner, which [Intents.Use] may give later.
type IntentSources struct {
	Store     intent.Store
	Approvals intent.Approvals
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
	return client.RevisionInfo{
		Number: r.Number, Author: r.Author, At: r.At, Message: r.Message, Hash: r.Hash,
		Approvals: as, InForce: r.Number == i.src.Planner.InForce(),
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

// Revision implements [Revisions].
func (i *Intents) Revision(ctx context.Context, n intent.Number) (client.RevisionView, error) {
	r, err := i.src.Store.Get(ctx, n)
	if err != nil {
		return client.RevisionView{}, err
	}
	as, err := i.approvals(ctx, n)
	return client.RevisionView{Revision: r, Approvals: as, InForce: n == i.src.Planner.InForce()}, err
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
	r, err := i.store(ctx, content, author, want.Message)
	if err != nil {
		return client.RevisionInfo{}, err
	}
	return i.info(ctx, r)
}

// store appends a new revision.
func (i *Intents) store(ctx context.Context, content inventory.Inventory, author, message string) (intent.Revision, error) {
	r, err := i.prepare(ctx, content, author, message)
	if err != nil {
		return intent.Revision{}, err
	}
	return r, i.src.Store.Append(ctx, r)
}

// prepare makes and signs the next revision. One that does not compile is
// refused: it could never be rolled out.
func (i *Intents) prepare(ctx context.Context, content inventory.Inventory, author, message string) (intent.Revision, error) {
	last, err := i.src.Store.Latest(ctx)
	if err != nil && !errors.Is(err, inventory.ErrNotFound) {
		return intent.Revision{}, fmt.Errorf("read the last revision: %w", err)
	}
	r := intent.Revision{
		Number: last.Number + 1, Org: i.src.Org, Author: author, At: time.Now().UTC(), Message: message,
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
	r, err := i.store(ctx, old.Content, systemUser, head+": "+reason)
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

// Plan implements [Revisions].
func (i *Intents) Plan(ctx context.Context, n intent.Number) (client.Plan, error) {
	p, err := i.src.Planner.Plan(ctx, n)
	if err != nil {
		return client.Plan{}, err
	}
	out := client.Plan{Revision: p.Revision, Hash: p.Hash, People: p.People, Counts: map[string]int{}, Devices: []client.DevicePlan{}, Waves: []client.Wave{}, Proof: proofOf(p.Proof)}
	for a, count := range p.Counts {
		out.Counts[string(a)] = count
	}
	for _, d := range p.Devices {
		out.Devices = append(out.Devices, client.DevicePlan{Device: d.Device, Site: d.Site, Action: string(d.Action), Wave: d.Wave, Reasons: d.Reasons, Changes: d.Changes})
	}
	for _, w := range p.Waves {
		out.Waves = append(out.Waves, client.Wave{Name: w.Name, Devices: w.Devices, State: string(controller.WaveWaiting)})
	}
	return out, nil
}

// proofOf writes a proof for the API.
func proofOf(p controller.Proof) client.Proof {
	out := client.Proof{
		Holds: p.Holds && p.Why == "", Why: p.Why, Intents: p.Intents, Pairs: p.Pairs, Seconds: p.Took.Seconds(), Counterexamples: []client.Counterexample{},
	}
	for _, c := range p.Counterexamples {
		x := client.Counterexample{Intent: c.Intent, Path: []client.ProofStep{}, Packet: client.ProofPacket{
			Src: c.Packet.Src, Dst: c.Packet.Dst, Proto: c.Packet.Proto, SPort: c.Packet.SPort, DPort: c.Packet.DPort, Type: c.Packet.Type,
		}}
		for _, s := range c.Path {
			x.Path = append(x.Path, client.ProofStep{Device: s.Device, Line: s.Line, Text: s.Text})
		}
		out.Counterexamples = append(out.Counterexamples, x)
	}
	return out
}
