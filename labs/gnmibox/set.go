package gnmibox

import (
	"context"
	"time"

	"github.com/openconfig/gnmi/proto/gnmi"
	"github.com/openconfig/gnmi/proto/gnmi_ext"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Set implements gNMI: it carries out a transaction (gNMI specification §3.4.3), with the Commit
// Confirmed extension where the device has it.
func (d *Device) Set(_ context.Context, req *gnmi.SetRequest) (*gnmi.SetResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.down {
		return nil, errDown
	}
	var c *gnmi_ext.Commit
	for _, e := range req.GetExtension() {
		if c = e.GetCommit(); c != nil && d.RefusesExtensions {
			return nil, status.Error(codes.Unimplemented, "extensions are not supported")
		}
	}
	if !d.Commit {
		c = nil // ignored, as gNMI has it for unknown extensions
	}
	if done, err := d.settleCommit(c); done || err != nil {
		return &gnmi.SetResponse{}, err
	}
	changes := len(req.GetDelete())+len(req.GetReplace())+len(req.GetUpdate()) > 0
	if changes && d.fail != nil {
		if err := d.fail("before", d.config); err != nil {
			return nil, err
		}
	}
	next := d.config.Clone()
	if err := d.carryOut(next, req); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if err := d.schema.validate(&trail{data: next.root}); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if r := c.GetCommit(); r != nil {
		d.trial, d.id = d.config, c.GetId()
		d.timer = time.AfterFunc(r.GetRollbackDuration().AsDuration(), func() { d.giveBack(c.GetId()) })
	}
	d.config = next
	if changes {
		d.sets++
		if d.fail != nil {
			if err := d.fail("after", d.config); err != nil {
				return nil, err
			}
		}
	}
	return &gnmi.SetResponse{Timestamp: time.Now().UnixNano()}, nil
}

func (d *Device) giveBack(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.trial != nil && d.id == id {
		d.config, d.trial, d.id = d.trial, nil, ""
	}
}

// settleCommit does confirm and cancel; done says that nothing else follows.
func (d *Device) settleCommit(c *gnmi_ext.Commit) (done bool, err error) {
	if c.GetConfirm() == nil && c.GetCancel() == nil {
		if d.trial != nil {
			return false, status.Errorf(codes.FailedPrecondition, "commit %q is on trial", d.id)
		}
		return false, nil
	}
	switch {
	case d.trial == nil:
		return false, status.Error(codes.FailedPrecondition, "no commit is on trial")
	case d.id != c.GetId():
		return false, status.Errorf(codes.InvalidArgument, "commit %q is on trial", d.id)
	case c.GetCancel() != nil:
		d.config = d.trial
	}
	d.timer.Stop()
	d.trial, d.id = nil, ""
	return true, nil
}

func (d *Device) carryOut(s *Store, req *gnmi.SetRequest) error {
	for _, p := range req.GetDelete() {
		elems, err := d.locate(req.GetPrefix(), p)
		if err != nil {
			return err
		}
		if err := s.remove(elems); err != nil {
			return err
		}
	}
	for i, u := range append(append([]*gnmi.Update{}, req.GetReplace()...), req.GetUpdate()...) {
		elems, err := d.locate(req.GetPrefix(), u.GetPath())
		if err != nil {
			return err
		}
		b, e := u.GetVal().GetJsonIetfVal(), gnmi.Encoding_JSON_IETF
		if b == nil {
			b, e = u.GetVal().GetJsonVal(), gnmi.Encoding_JSON
		}
		if err := d.takes(e); err != nil {
			return err
		}
		v, err := Parse(b)
		if err != nil {
			return err
		}
		sc := d.schema.at(names(elems)...)
		if sc == nil {
			return status.Errorf(codes.InvalidArgument, "the models have no %v", names(elems))
		}
		if v, err = plain(sc, "", v, d.Names); err != nil {
			return err
		}
		if err := s.put(elems, v, i < len(req.GetReplace())); err != nil {
			return err
		}
	}
	return nil
}
