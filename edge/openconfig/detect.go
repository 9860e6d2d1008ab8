package openconfig

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/openconfig/gnmi/proto/gnmi"
	"github.com/openconfig/gnmi/proto/gnmi_ext"
	"google.golang.org/grpc/codes"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/edge/foreign"
)

// detect finds out what the quirks leave open: by Capabilities where there are
// any, else by trying.
func (b *Box) detect(ctx context.Context) error {
	q := b.cfg.Quirks
	var told []gnmi.Encoding
	var models []*gnmi.ModelData
	err := b.call(ctx, "read capabilities", func(ctx context.Context) error {
		resp, err := b.client.Capabilities(ctx, &gnmi.CapabilityRequest{})
		told, models = resp.GetSupportedEncodings(), resp.GetSupportedModels()
		return err
	})
	if err != nil && codeOf(err) != codes.Unimplemented {
		return err
	}
	if err := b.probe(ctx, q, told); err != nil {
		return err
	}
	b.wire.encoding = b.mode.encoding
	switch {
	case q.Encoding == "json", q.Encoding == "" && len(told) > 0 && !slices.Contains(told, gnmi.Encoding_JSON_IETF):
		b.wire.encoding = gnmi.Encoding_JSON
	case q.Encoding == "json_ietf", slices.Contains(told, gnmi.Encoding_JSON_IETF), b.wire.encoding == gnmi.Encoding_PROTO:
		b.wire.encoding = gnmi.Encoding_JSON_IETF
	}
	b.wire.bare = q.Names == "bare" || q.Names == "" && b.wire.encoding == gnmi.Encoding_JSON
	if err := b.detectModels(ctx, models); err != nil {
		return err
	}
	return b.detectCommit(ctx)
}

// detectModels finds out what the device lacks. A list that does not even have
// openconfig-interfaces says nothing.
func (b *Box) detectModels(ctx context.Context, told []*gnmi.ModelData) error {
	has := func(names ...string) bool {
		return slices.ContainsFunc(told, func(m *gnmi.ModelData) bool { return slices.Contains(names, bare(m.GetName())) })
	}
	q := &b.cfg.Quirks
	q.Without = slices.Clone(q.Without)
	for _, m := range modelsBeside {
		lacks := false
		if root, ok := modelRoots[m]; ok && !q.lacks(m) {
			_, err := b.snapshot(ctx, b.mode, gnmi.GetRequest_CONFIG, root)
			switch code := codeOf(err); {
			case code == codes.InvalidArgument, code == codes.Unimplemented:
				lacks = true
			case err != nil:
				return err
			}
		}
		if has("openconfig-interfaces") {
			switch m {
			case "bgp":
				lacks = !has("openconfig-network-instance", "openconfig-bgp")
			case "static-routes":
				lacks = !has("openconfig-network-instance", "openconfig-local-routing")
			default:
				lacks = lacks || !has("openconfig-"+m)
			}
		}
		if lacks && !q.lacks(m) {
			q.Without = append(q.Without, m)
		}
	}
	return nil
}

// probe tries ways of reading until one gives interfaces, which every device
// has; else the first that the device did not refuse.
func (b *Box) probe(ctx context.Context, q Quirks, told []gnmi.Encoding) error {
	var first *mode
	var errs []error
	for _, m := range modes(q, told) {
		tree, err := b.snapshot(ctx, m, gnmi.GetRequest_CONFIG, path{}.to("interfaces"))
		switch {
		case err == nil && tree.kids != nil:
			b.mode = m
			return nil
		case err == nil && first == nil:
			first = &m
		case errors.Is(err, edge.ErrUnreachable), ctx.Err() != nil:
			return err
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", m, err))
		}
	}
	if first == nil {
		return fmt.Errorf("find out how the device is read: %w", errors.Join(errs...))
	}
	b.mode = *first
	return nil
}

// modes are the ways of reading worth trying, the best first.
func modes(q Quirks, told []gnmi.Encoding) []mode {
	origins := []string{"openconfig", ""}
	switch q.Origin {
	case "openconfig":
		origins = origins[:1]
	case "none":
		origins = origins[1:]
	}
	encodings := []gnmi.Encoding{gnmi.Encoding_JSON_IETF, gnmi.Encoding_JSON, gnmi.Encoding_PROTO}
	switch {
	case q.Encoding == "json_ietf":
		encodings = encodings[:1]
	case q.Encoding == "json":
		encodings = encodings[1:2]
	case len(told) > 0:
		encodings = slices.DeleteFunc(encodings, func(e gnmi.Encoding) bool { return !slices.Contains(told, e) })
	}
	var out []mode
	for _, origin := range origins {
		for _, read := range []mode{{}, {all: true}, {subscribe: true}} {
			if q.Read == "get" && read.subscribe || q.Read == "subscribe" && !read.subscribe {
				continue
			}
			for _, e := range encodings {
				read.origin, read.encoding = origin, e
				out = append(out, read)
			}
		}
	}
	return out
}

// probeID is the commit that no device has.
const probeID = "wardnet-probe"

// detectCommit asks to confirm a commit that is not there, which changes
// nothing: the extension's specification (§3.2.2) wants FAILED_PRECONDITION,
// or INVALID_ARGUMENT while another one is on trial. A device that ignores the
// extension says OK: to trust it would leave a bad config in force for ever.
func (b *Box) detectCommit(ctx context.Context) error {
	if q := b.cfg.Quirks.Commit; q != "" {
		b.native = q == "native"
		return nil
	}
	err := b.askCommit(ctx)
	if errors.Is(err, edge.ErrUnreachable) || ctx.Err() != nil {
		return err
	}
	switch codeOf(err) {
	case codes.FailedPrecondition:
		b.native = true
	case codes.InvalidArgument: // of the id, or of an empty Set?
		err := b.send(ctx, "ask for the Commit Confirmed extension", &gnmi.SetRequest{})
		b.native = err == nil || codeOf(err) == codes.FailedPrecondition
	}
	return nil
}

func (b *Box) askCommit(ctx context.Context) error {
	confirm := &gnmi_ext.Commit{Id: probeID, Action: &gnmi_ext.Commit_Confirm{Confirm: &gnmi_ext.CommitConfirm{}}}
	return b.send(ctx, "ask for the Commit Confirmed extension", &gnmi.SetRequest{Extension: extension(confirm)})
}

// onTrial tells whether any commit is on trial, of a device that has the
// extension.
func (b *Box) onTrial(ctx context.Context) bool {
	return codeOf(b.askCommit(ctx)) == codes.InvalidArgument
}

func extension(c *gnmi_ext.Commit) []*gnmi_ext.Extension {
	return []*gnmi_ext.Extension{{Ext: &gnmi_ext.Extension_Commit{Commit: c}}}
}

// checkSerial compares the chassis' serial number with the inventory's, where
// there is one and the device tells it, and returns the chassis' name.
func (b *Box) checkSerial(ctx context.Context) (chassis string, err error) {
	if b.cfg.Serial == "" {
		return "", nil
	}
	at := path{}.to("components")
	if b.chassis != "" {
		at = at.list("component", b.chassis).to("state")
	}
	tree, err := b.snapshot(ctx, b.mode, gnmi.GetRequest_STATE, at)
	if errors.Is(err, edge.ErrRejected) { // it does not tell
		return "", nil
	}
	if err != nil {
		return "", err
	}
	for _, n := range tree.at(path{}.to("components")).entries("component") {
		name, serial := n.elem.keys[0].value, strings.TrimSpace(leaf(n, "state", "serial-no"))
		if serial == "" || name != b.chassis && bare(leaf(n, "state", "type")) != "CHASSIS" {
			continue
		}
		if serial != b.cfg.Serial {
			return "", fmt.Errorf("%w: its serial number is %q, the inventory has %q", foreign.ErrOtherDevice, serial, b.cfg.Serial)
		}
		return name, nil
	}
	return "", nil
}
