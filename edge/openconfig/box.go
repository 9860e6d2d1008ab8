// Package openconfig drives third-party devices over gNMI by the OpenConfig
// models: interfaces, BGP and access lists. A [Box] holds those parts of a
// config and never touches what it did not write. How devices differ is data
// ([Quirks]) or found out when the device is opened.
package openconfig

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/openconfig/gnmi/proto/gnmi"
	"github.com/openconfig/gnmi/proto/gnmi_ext"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/foreign"
)

// Config says how a device is driven. Zero means default.
type Config struct {
	Quirks Quirks
	// Serial is the chassis' serial number in the inventory; another one is
	// refused. Empty: not compared.
	Serial  string
	Timeout time.Duration // for one call; default 20 s
}

// Box is a device that takes OpenConfig. It keeps no config and is safe for
// concurrent use, but two writers would work against each other.
type Box struct {
	client  gnmi.GNMIClient
	cfg     Config
	mode    mode
	wire    wire
	native  bool   // has Commit Confirmed
	chassis string // the component with the serial number; "": not known
	absent  paths  // had no data when last asked
}

// Open finds out how the device behind conn, which stays the caller's, is
// spoken to, and that it is the right one. [edge.ErrUnreachable] when it does
// not answer, [edge.ErrRejected] when it answers and cannot be used.
//
// The Box is a [foreign.Confirmer], too, when the device has the Commit Confirmed
// extension; otherwise its return is emulated by whoever drives it.
func Open(ctx context.Context, conn grpc.ClientConnInterface, cfg Config) (foreign.Box, error) {
	if err := cfg.Quirks.Validate(); err != nil {
		return nil, fmt.Errorf("open an OpenConfig device: %w", err)
	}
	cfg.Quirks = cfg.Quirks.withDefaults()
	if cfg.Timeout == 0 {
		cfg.Timeout = 20 * time.Second
	}
	b := &Box{client: gnmi.NewGNMIClient(conn), cfg: cfg}
	if err := b.detect(ctx); err != nil {
		return nil, fmt.Errorf("open an OpenConfig device: %w", err)
	}
	var err error
	if b.chassis, err = b.checkSerial(ctx); err != nil {
		return nil, fmt.Errorf("open an OpenConfig device: %w", err)
	}
	if b.native {
		return &Confirmed{b}, nil
	}
	return b, nil
}

// String says how the device is spoken to.
func (b *Box) String() string {
	commit := "commit emulated"
	if b.native {
		commit = "Commit Confirmed"
	}
	s := fmt.Sprintf("OpenConfig by %s, Set in %s, %s", b.mode, b.wire.encoding, commit)
	if without := b.cfg.Quirks.Without; len(without) > 0 {
		s += ", without " + strings.Join(without, ", ")
	}
	return s
}

// Holds lists the parts that the models can hold.
func (b *Box) Holds() []edge.Kind { return b.cfg.Quirks.kinds() }

// Left lists what of c does not come to this device; see [Left].
func (b *Box) Left(c edge.Config) []string { return Left(c, b.cfg.Quirks) }

// Read returns c with every part that the models hold replaced by what the
// device has of ours.
func (b *Box) Read(ctx context.Context, c edge.Config) (edge.Config, error) {
	tree, err := b.tree(ctx)
	if err != nil {
		return edge.Config{}, err
	}
	got, err := readBack(tree, b.cfg.Quirks, c)
	if err != nil {
		return edge.Config{}, fmt.Errorf("read the config: %w", err)
	}
	return got, nil
}

// tree reads everything that we may have written.
func (b *Box) tree(ctx context.Context) (*node, error) {
	w := &want{q: b.cfg.Quirks}
	all := []path{path{}.to("interfaces")}
	for _, m := range []string{"acl", "bfd", "routing-policy"} {
		if !w.q.lacks(m) {
			all = append(all, modelRoots[m])
		}
	}
	if !w.q.lacks("bgp") {
		all = append(all, w.bgp().to("config"), w.bgp().to("bgp", "global", "config"),
			w.bgp().to("bgp", "peer-groups"), w.bgp().to("bgp", "neighbors"))
		if !w.q.lacks("static-routes") {
			all = append(all, w.instance().to("table-connections"),
				w.instance().to("protocols").list("protocol", "STATIC", w.q.Static))
		}
	}
	return b.snapshot(ctx, b.mode, gnmi.GetRequest_CONFIG, all...)
}

// modelRoots are the models that can be asked for by themselves.
var modelRoots = map[string]path{
	"acl":            path{}.to("acl"),
	"bfd":            path{}.to("bfd", "interfaces"),
	"routing-policy": path{}.to("routing-policy"),
}

// Write makes the device hold want in place of have, in one Set, which is a
// transaction (gNMI specification §3.4.3). After any error the device is read
// again: done is done, whatever became of the answer.
func (b *Box) Write(ctx context.Context, have, want edge.Config) error {
	return b.write(ctx, have, want, nil)
}

func (b *Box) write(ctx context.Context, have, want edge.Config, commit *gnmi_ext.Commit) error {
	const op = "write the config"
	r := render(want, b.cfg.Quirks)
	if err := errors.Join(r.errs...); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	if _, err := b.checkSerial(ctx); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	tree, before, err := b.ours(ctx, have, want)
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	if err := conflicts(tree, before, r.items); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	wanted := settle(r.items, tree)
	req, err := request(tree, before, wanted, b.cfg.Quirks, b.wire, b.mode.origin)
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	if commit != nil {
		req.Extension = extension(commit)
	} else if len(req.Delete)+len(req.Replace)+len(req.Update) == 0 {
		return nil
	}
	if n, most := proto.Size(req), b.cfg.Quirks.MaxMessage; most > 0 && n > most {
		return fmt.Errorf("%s: %w: the change is %d bytes and the device takes %d (max_message); fewer rules, or a larger limit on the device", op, edge.ErrRejected, n, most)
	}
	err = b.send(ctx, op, req)
	switch {
	case err == nil:
		return nil
	case b.native && codeOf(err) == codes.FailedPrecondition && b.onTrial(ctx):
		return fmt.Errorf("%w: a commit of theirs waits for its confirmation: %s", foreign.ErrBusy, err)
	}
	return b.after(ctx, err, before, have, want, commit != nil)
}

func (b *Box) ours(ctx context.Context, cs ...edge.Config) (*node, items, error) {
	tree, err := b.tree(ctx)
	if err != nil {
		return nil, nil, err
	}
	have, err := owned(tree, b.cfg.Quirks, cs...)
	return tree, have, err
}

// after finds out what a failed Set did: all of it, nothing, or, against the
// specification, a part. On trial "all" is not enough: the device may not have
// taken the deadline.
func (b *Box) after(ctx context.Context, failed error, before items, have, want edge.Config, trial bool) error {
	tree, now, err := b.ours(ctx, have, want)
	if err != nil {
		return fmt.Errorf("%w; and what the device holds now is not known: %s", unsure(failed), err)
	}
	off, err := differ(now, settle(render(want, b.cfg.Quirks).items, tree))
	switch {
	case err != nil:
		return err
	case len(off) == 0 && !trial:
		return nil
	case reflect.DeepEqual(now, before):
		return failed
	}
	return fmt.Errorf("%w; yet the device holds a part of the change, it lacks or has too much: %s", unsure(failed), strings.Join(off, ", "))
}

// unsure takes from a refusal the promise that the device is as before.
func unsure(err error) error {
	if errors.Is(err, edge.ErrRejected) {
		return errors.New(err.Error())
	}
	return err
}

func (b *Box) send(ctx context.Context, op string, req *gnmi.SetRequest) error {
	if req.Prefix == nil {
		req.Prefix = b.prefix()
	}
	return b.call(ctx, op, func(ctx context.Context) error {
		_, err := b.client.Set(ctx, req)
		return err
	})
}

// Tunnels observes the BGP sessions of c, named as its tunnels: the models
// have no tunnels, so one is up when its session is. Without its session-state
// it is not known.
func (b *Box) Tunnels(ctx context.Context, c edge.Config) ([]edge.TunnelState, error) {
	w := &want{q: b.cfg.Quirks}
	out := []edge.TunnelState{}
	if w.q.lacks("bgp") {
		for _, n := range c.BGP.Neighbours {
			out = append(out, edge.TunnelState{Name: n.Tunnel, Unknown: true})
		}
		return out, nil
	}
	all := []path{w.bgp().to("bgp", "neighbors")}
	if !w.q.lacks("bfd") {
		all = append(all, modelRoots["bfd"])
	}
	tree, err := b.snapshot(ctx, b.mode, gnmi.GetRequest_STATE, all...)
	if err != nil {
		return nil, err
	}
	bfd := map[string]bool{}
	for _, i := range tree.at(path{}.to("bfd", "interfaces")).entries("interface") {
		for _, p := range i.at(path{}.to("peers")).entries("peer") {
			if bare(leaf(p, "state", "session-state")) == "UP" {
				bfd[leaf(p, "state", "remote-address")] = true
			}
		}
	}
	for _, n := range c.BGP.Neighbours {
		state := leaf(tree.at(w.bgp().to("bgp", "neighbors").list("neighbor", n.Addr.String())), "state", "session-state")
		up := bare(state) == "ESTABLISHED"
		out = append(out, edge.TunnelState{Name: n.Tunnel, Up: up, BGP: up, BFD: bfd[n.Addr.String()], Unknown: state == ""})
	}
	return out, nil
}

// leaf is the text of a leaf below n; "" when there is none.
func leaf(n *node, names ...string) string {
	if n == nil {
		return ""
	}
	if l := n.at(path{}.to(names...)); l != nil && l.leaf != nil {
		return fmt.Sprint(l.leaf)
	}
	return ""
}

// Confirmed is a [Box] whose device has the Commit Confirmed extension of gNMI
// (gnmi-commit-confirmed 0.1.0).
type Confirmed struct{ *Box }

// Try is Write with the device's own deadline.
func (c *Confirmed) Try(ctx context.Context, id edge.CommitID, have, want edge.Config, revert time.Duration) error {
	return c.write(ctx, have, want, &gnmi_ext.Commit{Id: string(id), Action: &gnmi_ext.Commit_Commit{
		Commit: &gnmi_ext.CommitRequest{RollbackDuration: durationpb.New(revert)},
	}})
}

// Keep makes what Try(id) wrote permanent.
func (c *Confirmed) Keep(ctx context.Context, id edge.CommitID) error {
	return c.send(ctx, fmt.Sprintf("confirm commit %q", id), &gnmi.SetRequest{Extension: extension(&gnmi_ext.Commit{
		Id: string(id), Action: &gnmi_ext.Commit_Confirm{Confirm: &gnmi_ext.CommitConfirm{}},
	})})
}

// Cancel takes back at once what Try(id) wrote.
func (c *Confirmed) Cancel(ctx context.Context, id edge.CommitID) error {
	return c.send(ctx, fmt.Sprintf("cancel commit %q", id), &gnmi.SetRequest{Extension: extension(&gnmi_ext.Commit{
		Id: string(id), Action: &gnmi_ext.Commit_Cancel{Cancel: &gnmi_ext.CommitCancel{}},
	})})
}
